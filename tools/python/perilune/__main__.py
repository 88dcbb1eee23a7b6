"""python -m perilune: what this build is, what it runs on here, and what was left out of it (perilune.info())."""

from perilune.catalog import info

for name, value in info().items():
    for line in value if name == "left_out" else [", ".join(value) if isinstance(value, list) else value]:
        print(f"{name.replace('_', ' '):14}{line}")
