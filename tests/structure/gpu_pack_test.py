"""tools/gpu-check --pack: what is carried to a GPU machine without a compiler, and what is wrong with what arrives
there."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fake_gpu import one_line
from gpu_check import pack

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])


def fake_pack(gpu, **changes):
    """A pack of the fakes."""
    programs = {name: gpu.tmp / "build" / name for name in pack.PROGRAMS}
    manifest = {
        "program": "perilune 0.1.0 (fake)",
        "architectures": ["90-real"],
        "sha256": {name: pack.digest(path) for name, path in programs.items()},
        **changes,
    }
    (gpu.tmp / pack.MANIFEST).write_text(json.dumps(manifest))
    archive = gpu.tmp / "carried.tar.xz"
    pack.write(archive, {f"{pack.INSIDE}/{path.name}": path for path in [gpu.tmp / pack.MANIFEST, *programs.values()]})
    return archive


def test_check_runs_a_pack(gpu):
    done = gpu.run("gpu-check", gpu.folder, "--build", fake_pack(gpu), "--only", "states,solve,ncu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {stage["status"] for stage in gpu.report()["stages"].values()} == {"passed"}


@pytest.mark.parametrize(
    "architecture, capability, runs",
    [
        ("90-real", "9.0", True),
        ("90-real", "8.9", False),
        ("90-real", "10.0", False),
        ("90", "10.0", True),
        ("90", "8.0", False),
        ("80-real", "8.6", True),
        ("100-real", "9.0", False),
    ],
)
def test_a_pack_is_for_some_gpus(gpu, architecture, capability, runs):
    assert pack.runs_on(architecture, capability) == runs
    if not runs and architecture == "90-real":
        done = gpu.run("gpu-check", gpu.folder, "--build", fake_pack(gpu), CAPABILITY=capability)
        one_line(done, 3, "the pack is for sm_90-real", f"--arch {capability.replace('.', '')}-real")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.95])
def test_a_pack_cut_short(gpu, keep):
    archive = fake_pack(gpu)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    one_line(gpu.run("gpu-check", gpu.folder, "--build", archive), 1, "cut short or no pack", "copy it here again")


def test_a_pack_with_another_program_in_it(gpu):
    archive = fake_pack(gpu, sha256={"perilune": "0123"})
    one_line(gpu.run("gpu-check", gpu.folder, "--build", archive), 1, "perilune is damaged")
    one_line(gpu.run("gpu-check", gpu.folder, "--build", gpu.tmp / "none.tar.xz"), 1, "none.tar.xz does not exist")


@pytest.fixture
def clone(tmp_path):
    """The scripts where nothing is built, and a CMake that makes programs of the C library's needs alone."""
    for folder in ("tools", "bench"):
        shutil.copytree(
            ROOT / folder,
            tmp_path / "clone" / folder,
            ignore=shutil.ignore_patterns("results", "python", "__pycache__", "commands"),
        )
    (tmp_path / "cmake").write_text(
        f"#!{sys.executable}\n"
        """
import json, os, pathlib, shutil, sys
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "--build":
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True)
    for name in sys.argv[sys.argv.index("--target") + 1:]:
        shutil.copy(shutil.which(os.environ.get("COPY", "true")), folder / name)
"""
    )
    (tmp_path / "cmake").chmod(0o755)

    class Clone:
        folder, log = tmp_path / "clone", tmp_path / "log"

        def check(self, *words, **changes):
            environment = {
                **os.environ,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "FAKE_LOG": str(self.log),
                **changes,
            }
            return subprocess.run(
                [sys.executable, "-B", self.folder / "tools" / "gpu-check", *map(str, words)],
                capture_output=True,
                text=True,
                env=environment,
                timeout=120,
            )

    return Clone()


def test_pack_builds_for_the_architecture_and_packs_what_runs(clone, tmp_path):
    archive = tmp_path / "pack.tar.xz"
    done = clone.check("--pack", archive, "--arch", "100-real")
    assert done.returncode == 0, done.stderr
    configure, build = [json.loads(line) for line in clone.log.read_text().splitlines()]
    folder = str(clone.folder / "build" / "gpu-pack")
    assert configure[configure.index("-B") + 1] == folder and build[:2] == ["--build", folder]
    assert {
        "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_CUDA_ARCHITECTURES=100-real",
        "-DPERILUNE_CUDA=ON",
        "-DPERILUNE_TESTS=ON",
        "-DPERILUNE_CPU_LEVELS=all",
    } <= set(configure)
    assert build[build.index("--target") + 1 :] == pack.PROGRAMS
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "there")
    manifest = json.loads((tmp_path / "there" / pack.INSIDE / pack.MANIFEST).read_text())
    assert manifest["architectures"] == ["100-real"] and manifest["program"]
    assert manifest["sha256"] == {name: pack.digest(tmp_path / "there" / pack.INSIDE / name) for name in pack.PROGRAMS}
    # What is unpacked runs by itself.
    assert subprocess.run([sys.executable, "-B", tmp_path / "there" / "tools" / "gpu-check", "--list"]).returncode == 0
    for script in ("tools/profile", "tools/nsight.py", "bench/solve.py"):
        assert (tmp_path / "there" / script).exists()


def test_pack_refuses_programs_that_need_more_than_the_c_library(clone, tmp_path):
    copied = shutil.which("ls")
    if all(pack.C_LIBRARY.fullmatch(library) for library in pack.needed_libraries(copied)):
        pytest.skip("this machine's ls needs nothing else")
    done = clone.check("--pack", tmp_path / "pack.tar.xz", COPY="ls")
    one_line(done, 1, "perilune needs lib", "link it statically")
    assert not (tmp_path / "pack.tar.xz").exists()


def test_pack_says_what_failed(clone, tmp_path):
    (tmp_path / "cmake").write_text("#!/bin/sh\nexit 1\n")
    one_line(clone.check("--pack", tmp_path / "pack.tar.xz"), 1, "cmake -S", "failed")


def test_a_pack_too_large_is_refused(tmp_path, monkeypatch, clone):
    monkeypatch.setattr(pack, "MOST_MIB", 0)
    monkeypatch.setattr(pack, "FOLDER", tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    with pytest.raises(pack.Unusable, match="MiB can be carried"):
        pack.make(tmp_path / "pack.tar.xz", "90-real")
    assert not (tmp_path / "pack.tar.xz").exists()


def test_check_compiles_nothing(clone, tmp_path):
    """With a CMake at hand and no programs it says how to get them."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA H200, 580.82.07, 143771 MiB, 1980 MHz, 9.0\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    one_line(clone.check(tmp_path / "results"), 1, "no programs in", "--pack FILE.tar.xz", "--build FILE.tar.xz")
    assert not clone.log.exists()
