"""The tree's rules: which folder may include which, where machine words may stand, and that no file is too long."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
FOLDERS = ["sims", "kernels", "host", "tools", "tests", "bench"]
# The rooms of host/, from the ground up: a file includes its own room and those before it.
ROOMS = ["base", "device", "settings", "networks", "planning", "environments", "training", "runs"]
SUFFIXES = {".hpp", ".cpp", ".cu", ".cuh", ".def", ".h"}

# What a folder may include besides itself. None: any folder but tests, which only tests may include.
MAY_INCLUDE = {
    "sims": [],
    "kernels": ["sims/"],
    "host": [
        "kernels/api.hpp",
        "kernels/cpu_levels.hpp",
        "kernels/environments.hpp",
        "kernels/hyperparameters.hpp",
        "kernels/iteration.hpp",
        "kernels/phases.hpp",
        "kernels/replay.hpp",
        "kernels/machine/matrix.hpp",
        "kernels/machine/queue.hpp",
        "kernels/machine/thread_pool.hpp",
    ],
    "tools": ["host/"],
    "bench": None,
    "tests": None,
}


def sources(*folders, suffixes=SUFFIXES):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes:
                yield path


def relative(path):
    return path.relative_to(ROOT).as_posix()


def without_comments(text):
    """The text with comments blanked and lines kept; string literals stay (a `//` inside one does not occur here)."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


def test_includes_point_one_way():
    wrong = []
    for path in sources(*FOLDERS):
        own = path.relative_to(ROOT).parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not (m := re.match(r'\s*#\s*include\s+"([^"]+)"', line)):
                continue
            target = m.group(1)
            folder = target.split("/")[0]
            if not (ROOT / target).is_file():
                generated = not (path.parent / target).is_file() and "/" not in target
                if not generated:
                    wrong.append(f'{relative(path)}:{number}: "{target}" is not a file below the repository\'s top')
                continue
            if folder == own:
                continue
            allowed = MAY_INCLUDE[own]
            if folder == "tests" or (allowed is not None and not any(target.startswith(a) for a in allowed)):
                wrong.append(f"{relative(path)}:{number}: {own} must not include {target}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_rooms_of_the_host_include_those_below():
    wrong = []
    for path in sources("host"):
        folder = path.parent.relative_to(ROOT / "host").as_posix()
        assert folder in ROOMS, f"{relative(path)} is in no room - allowed: {ROOMS}"
        for number, line in enumerate(path.read_text().splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+"host/([^/"]+)/', line)
            if m and m[1] not in ROOMS[: ROOMS.index(folder) + 1]:
                wrong.append(f"{relative(path)}:{number}: host/{folder} must not include host/{m[1]}")
    assert not wrong, "\n" + "\n".join(wrong)


# Sources that may name the machine: the machine layer, what chooses the mathematics, and what instantiates for CUDA.
MACHINE_FILES = re.compile(r"kernels/machine/.*|sims/(portable|real|math)\.hpp|.*\.cu|tests/.*|bench/.*")
MACHINE_WORDS = re.compile(
    r"\b(threadIdx|blockIdx|blockDim|gridDim|__CUDA_ARCH__|__CUDACC__|__shfl\w*|__syncthreads|__syncwarp|__ballot\w*|"
    r"__ldg|__shared__|__device__|__global__|_mm\d*_\w+|__AVX\w*|__builtin_ia32_\w+|asm)\b"
)


def test_machine_words_stay_in_the_machine_layer():
    wrong = []
    for path in sources("sims", "kernels", "host", "tools"):
        if MACHINE_FILES.fullmatch(relative(path)):
            continue
        for number, line in enumerate(without_comments(path.read_text()).splitlines(), 1):
            if m := MACHINE_WORDS.search(line):
                wrong.append(f"{relative(path)}:{number}: {m.group()} belongs in kernels/machine")
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_source_file_is_over_600_lines():
    paths = sources(*FOLDERS, suffixes=SUFFIXES | {".py"})
    long = {relative(path): n for path in paths if (n := len(path.read_text().splitlines())) > 600}
    assert not long, f"over 600 lines: {long} - split by subject"


def test_headers_are_included_once():
    wrong = [relative(p) for p in sources(*FOLDERS) if p.suffix == ".hpp" and "#pragma once" not in p.read_text()]
    assert not wrong, f"without #pragma once: {wrong}"


def test_top_level_entries():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:  # an unpacked archive has no history to ask
        return
    allowed = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", *FOLDERS}
    extra = {line.split("/")[0] for line in tracked.stdout.splitlines()} - allowed
    extra = {name for name in extra if not name.startswith(".")}
    assert not extra, f"at the top level: {sorted(extra)} - allowed: {sorted(allowed)} and dot files"
