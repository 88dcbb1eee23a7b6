"""Tells which tests ran each kernel of the program, from what ptx_tests left behind: coverage.py FOLDER PROGRAM TABLE.

What was left behind before the program was built does not count. The table names, for each kernel, how many tests ran
it and the one that had it carry out the most instructions. Exit status 1 if there is a kernel that no test ran: give it
one (tests/kernels/every_machine, or tests/ptx).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "cmake"))
from kernel_resources import demangle, short


def main():
    folder, program, table = map(Path, sys.argv[1:])
    kernels = {name: {} for name in (folder / "registered").read_text().split()}
    for path in sorted(folder.glob("*.ran")):
        if path.stat().st_mtime < program.stat().st_mtime:
            continue
        for line in path.read_text().splitlines():
            name, count = line.split()
            if name in kernels:  # others are of tests alone
                kernels[name][path.stem] = int(count)
    names = {mangled: short(name) for mangled, name in demangle(list(kernels)).items()}
    lines = []
    for name, tests in kernels.items():
        most = max(tests, key=tests.get, default="NO TEST")
        lines.append(f"{names[name]:90} {len(tests):3} tests  {most}")
    table.write_text("\n".join(sorted(lines)) + "\n")
    untested = sorted(names[name] for name, tests in kernels.items() if not tests)
    print(f"{len(kernels) - len(untested)} of {len(kernels)} kernels ran: {table}")
    if untested:
        print("no test ran:", *untested, sep="\n  ")
    return 1 if untested else 0


if __name__ == "__main__":
    sys.exit(main())
