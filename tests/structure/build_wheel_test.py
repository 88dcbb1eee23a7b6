"""tools/build-wheel: what it refuses before it builds anything, and what it tells one to type."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])


def build_wheel(*arguments):
    return subprocess.run(
        [ROOT / "tools" / "build-wheel", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def test_help_names_every_argument():
    done = build_wheel("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("--cuda", "--python PATH", "--out DIR", "--test"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--cudda"], ["--cudda", "allowed: --cuda, --python PATH, --out DIR, --test"]),
        (["--out"], ["--out lacks its value"]),
        (["--python", "--test"], ["--python lacks its value"]),
    ],
    ids=["unknown", "at the end", "an option for a value"],
)
def test_usage_errors(arguments, words):
    done = build_wheel(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize(
    "answer, words",
    [
        ("echo 3.9 no yes yes", ["Python 3.9", "3.10 or newer", "--python"]),
        ("echo 3.12 yes no no", ["apt-get install python3.12-dev python3.12-venv"]),
        ("echo 3.12 yes yes no", ["apt-get install python3.12-venv ("]),
        ("exit 1", ["does not run"]),
    ],
    ids=["old", "no headers, no venv", "no venv", "broken"],
)
def test_unusable_pythons(tmp_path, answer, words):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{answer}\n")
    python.chmod(0o755)
    done = build_wheel("--python", python)
    assert done.returncode == 1
    assert all(word in done.stderr for word in words), done.stderr


def test_python_that_is_not_there(tmp_path):
    done = build_wheel("--python", tmp_path / "python")
    assert done.returncode == 1 and f"there is no {tmp_path / 'python'}" in done.stderr


def test_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    done = build_wheel("--python", sys.executable, "--out", tmp_path / "file" / "folder")
    assert done.returncode == 1 and f"cannot write into {tmp_path / 'file' / 'folder'}" in done.stderr
