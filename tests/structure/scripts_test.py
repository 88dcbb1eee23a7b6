"""What shell tools promise on this machine: set-up's list and usage errors. building_test.py is about others."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])


def run(*command, **kwargs):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **kwargs)


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
    checked = run(
        "tools/setup", "--check", env=fake_dpkg(tmp_path, "libfmt-dev installed\\nlibcli11-dev config-files\\n")
    )
    assert checked.returncode == 1
    missing = checked.stderr.split()[2::3]
    assert "libcli11-dev" in missing and "nlohmann-json3-dev" in missing and "libfmt-dev" not in missing


def test_setup_rejects_unknown_arguments():
    checked = run("tools/setup", "--chekc")
    assert checked.returncode == 2
    assert "--chekc" in checked.stderr and "--check" in checked.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--dept"], ["--dept", "--depth"]),
        (["--depth", "deep"], ["deep", "configure, whole"]),
        (["--only"], ["--only lacks its value", "12-user"]),
        (["--only", "11"], ["unknown machine (11)", "12-user"]),
    ],
)
def test_fresh_check_rejects_unknown_arguments(arguments, words):
    checked = run("tools/fresh-check", *arguments)
    assert checked.returncode == 2
    assert all(word in checked.stderr for word in words), checked.stderr


def test_fresh_check_lists_its_machines():
    listed = run("tools/fresh-check", "--list")
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == 4 and "13 " in listed.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="without root this is what every run does")
def test_fresh_check_skips_without_root():
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "tools" / "fresh-check"
        script.parent.mkdir()
        shutil.copy(ROOT / "tools" / "fresh-check", script)
        for path in (folder, script.parent, script):  # for others to run
            os.chmod(path, 0o755)
        skipped = run(shutil.which("setpriv"), "--reuid=65534", "--clear-groups", script)
    assert skipped.returncode == 77 and "skipped: not root" in skipped.stderr, skipped.stderr
