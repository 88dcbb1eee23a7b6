"""The shell tools' promises that need no build: set-up's listing, usage errors, shell syntax."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])


def run(*command, **kwargs):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **kwargs)


def test_shell_scripts_parse():
    for script in ["tools/setup", "tools/perilune", "tools/test", ".ci/run"]:
        assert os.access(ROOT / script, os.X_OK), f"{script} is not executable"
        checked = run("bash", "-n", script)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine may have a GPU")
def test_gpu_check_without_a_gpu_says_so():
    checked = run("tools/gpu-check")
    assert checked.returncode == 3 and "no GPU" in checked.stderr, checked.stderr


def test_setup_check_lists_nothing_where_tests_run():
    checked = run("tools/setup", "--check", "--tests")
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr
    assert "nothing is missing" in checked.stderr


def fake_dpkg(folder, answer):
    """A PATH on which dpkg-query answers `answer`: what set-up sees on another machine."""
    (folder / "dpkg-query").write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    (folder / "dpkg-query").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_setup_check_names_each_missing_package(tmp_path):
    checked = run("tools/setup", "--check", env=fake_dpkg(tmp_path, "g++ installed\\ncmake config-files\\n"))
    assert checked.returncode == 1
    missing = checked.stderr.split()[2::3]
    assert "cmake" in missing and "libfmt-dev" in missing and "g++" not in missing


def test_setup_rejects_unknown_arguments():
    checked = run("tools/setup", "--chekc")
    assert checked.returncode == 2
    assert "--chekc" in checked.stderr and "--check" in checked.stderr
