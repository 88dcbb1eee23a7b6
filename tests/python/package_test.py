"""The package as it is installed: types, documentation, what it needs of a machine, and what importing it costs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import perilune
from common import PACKAGE, SOURCE
from perilune import _native

NOT_SANITIZED = pytest.mark.skipif(
    bool(os.environ.get("PERILUNE_SANITIZE")), reason="sanitizers add libraries, symbols and time"
)

STUB = SOURCE / "tools" / "python" / "perilune" / "_native.pyi"


def test_stub_is_what_the_module_is(tmp_path):
    made = tmp_path / "_native.pyi"
    done = subprocess.run(
        [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "perilune._native", "-i", PACKAGE, "-o", made],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert made.read_text() == STUB.read_text(), f"{STUB} is old: build/venv/bin/python -m nanobind.stubgen makes it"


def test_types_are_installed():
    folder = Path(perilune.__file__).parent
    assert (folder / "py.typed").is_file() and (folder / "_native.pyi").is_file()


def test_everything_public_is_documented():
    public = [getattr(perilune, name) for name in perilune.__all__]
    parts = [
        value
        for kind in public
        if isinstance(kind, type)
        for name, value in vars(kind).items()
        if not name.startswith("_") and callable(value)
    ]
    lacking = [getattr(value, "__qualname__", value) for value in public + parts if not getattr(value, "__doc__", None)]
    assert not lacking


def readelf(*arguments):
    return subprocess.run(
        ["readelf", "-W", *arguments, _native.__file__], capture_output=True, text=True, check=True
    ).stdout


@NOT_SANITIZED
def test_module_needs_only_the_c_library_and_exports_only_itself():
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("-d"))
    extra = [name for name in needed if not re.fullmatch(r"lib[cm]\.so\.6|ld-linux-.*\.so\.\d", name)]
    assert not extra, f"the module needs {extra} - link them statically"
    exported = [
        columns[7]
        for line in readelf("--dyn-syms").splitlines()
        if len(columns := line.split()) == 8 and columns[4] in ("GLOBAL", "WEAK", "UNIQUE") and columns[6] != "UND"
    ]
    assert exported == ["PyInit__native"], f"other libraries' C++ could be mixed with {exported}"


@NOT_SANITIZED
def test_import_takes_no_time():
    """Less than 50 ms beside NumPy's own; the best of several, for a machine that does other things."""
    code = f"import sys; sys.path.insert(0, {str(PACKAGE)!r}); import numpy, perilune"
    seconds = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
        )
        seconds.append(int(re.search(r"\| +(\d+) \| perilune$", done.stderr, re.M).group(1)) / 1e6)
    assert min(seconds) < 0.05


def python(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(PACKAGE), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_info_says_what_was_built_and_what_was_left_out():
    info = perilune.info()
    assert info["cpu_levels"] and set(info["cpu_levels"]) <= {"v4", "v3", "portable"}
    assert info["processor"] in ("v4", "v3", "portable") and info["device"] and info["device_reason"]
    told = " ".join(info["left_out"])
    assert all(
        (level in info["cpu_levels"]) != bool(re.search(rf"\b{level}\b", told)) for level in ("v4", "v3", "portable")
    )
    assert (info["cuda"] == "none") == (info["gpus"] == "none") == ("PERILUNE_CUDA=ON pip install" in told)
    printed = python("-m", "perilune")
    assert info["device"] in printed and all(sentence in printed for sentence in info["left_out"])


def test_a_level_that_is_not_there_is_an_error():
    """Not a crash: what is imported runs on every processor, and chooses a level when one is first needed."""
    code = (
        "import perilune\ntry: perilune.VectorEnv('CartPole-v1', 1)\n"
        "except (ValueError, RuntimeError) as error: print(error)"
    )
    said = python("-c", code, PERILUNE_CPU_LEVEL="v9")
    assert 'PERILUNE_CPU_LEVEL is "v9"' in said and perilune.info()["cpu_level"].split()[-1] in said, said
