"""What CMake decides to build: for this machine by default, else what was asked for; its errors say what to do."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
HAS_NVCC = bool(shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin"))


class Configured:
    def __init__(self, folder, options, environment):
        done = subprocess.run(
            ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", *options],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=120,
        )
        self.failed, self.folder = done.returncode != 0, folder
        self.text = " ".join((done.stdout + done.stderr).split())  # CMake breaks lines of errors
        building = re.search(r"^-- (Building: .*)$", done.stdout, re.M)
        self.building = building[1] if building else ""

    def cache(self):
        return (self.folder / "CMakeCache.txt").read_text()


@pytest.fixture
def configure(tmp_path):
    (tmp_path / "bin").mkdir()

    def run(*options, gpus=(), **environment):
        """Configures on a machine that seems to have GPUs of these compute capabilities."""
        answer = "".join(f"{gpu}\\n" for gpu in gpus)
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\nprintf '{answer}'\nexit {0 if gpus else 9}\n")
        tool.chmod(0o755)
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        return Configured(tmp_path / "build", options, {"PATH": path, **environment})

    run.folder = tmp_path
    return run


def fake_nvcc(folder, release):
    path = folder / "bin" / "nvcc"
    path.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.1'\n")
    path.chmod(0o755)
    return str(path)


def test_default_is_this_machine_and_nothing_that_tests_need(configure):
    done = configure()
    assert not done.failed, done.text
    level = re.match(
        r"Building: CPU kernels for level (\w+), no GPU kernels \(no GPU was found\); about .* on \d+ cores$",
        done.building,
    )
    assert level and level[1] in ("v4", "v3", "portable"), done.building
    for name in ("GTest", "RAPIDCHECK", "BOOST", "nanobind", "Python", "CUDA_COMPILER:"):
        assert not re.search(rf"^\w*{name}", done.cache(), re.M), name
    objects = {line for line in (done.folder / "build.ninja").read_text().split() if line.endswith(".cpp.o")}
    assert len([o for o in objects if o.endswith("units/LunarLander.cpp.o")]) == 1


def test_every_level(configure):
    assert "level v4, v3, portable" in configure("-DPERILUNE_CPU_LEVELS=all").building
    assert "level v3, portable" in configure("-DPERILUNE_CPU_LEVELS=portable;v3").building


@pytest.mark.parametrize(
    "option, words",
    [
        ("-DPERILUNE_CPU_LEVELS=v5", ["PERILUNE_CPU_LEVELS", '"v5"', "native, all", "v3"]),
        ("-DPERILUNE_CUDA=maybe", ["PERILUNE_CUDA", '"maybe"', "AUTO, ON, OFF"]),
        ("-DPERILUNE_ENVIRONMENTS=Pong", ["PERILUNE_ENVIRONMENTS", '"Pong"', "CartPole"]),
        ("-DPERILUNE_WIDTHS=48", ["PERILUNE_WIDTHS", '"48"', "16", "128"]),
    ],
)
def test_values_that_are_none(configure, option, words):
    done = configure(option)
    assert done.failed and all(word in done.text for word in words), done.text
    right = {"-DPERILUNE_CPU_LEVELS": "native", "-DPERILUNE_CUDA": "OFF"}
    name = option.split("=")[0]
    assert not configure(f"{name}={right.get(name, '')}").failed  # in the same folder


def test_one_environment_at_one_width(configure):
    done = configure("-DPERILUNE_ENVIRONMENTS=CartPole", "-DPERILUNE_WIDTHS=64")
    assert not done.failed, done.text
    units = done.folder / "kernels" / "units"
    assert "add_kernels<CartPole, 64>" in (units / "CartPole.cpp").read_text()
    assert (units / "environments.def").read_text().splitlines() == [
        'PERILUNE_ENVIRONMENT(CartPole, "sims/cartpole.hpp", 64)'
    ]


def test_toolkit_that_is_too_old(configure):
    nvcc = fake_nvcc(configure.folder, "12.4")
    done = configure(gpus=["9.0"], CUDACXX=nvcc)
    assert not done.failed and "CUDA 12.4, and 13.0 or newer is needed" in done.building, done.text
    asked = configure("-DPERILUNE_CUDA=ON", gpus=["9.0"], CUDACXX=nvcc)
    assert asked.failed and "PERILUNE_CUDA is ON" in asked.text and "install a newer toolkit" in asked.text
    assert not configure("-DPERILUNE_CUDA=AUTO").failed


def test_toolkit_that_is_missing(configure):
    nowhere = str(configure.folder / "nowhere" / "nvcc")
    done = configure(gpus=["9.0"], CUDACXX=nowhere)
    assert not done.failed and "nvcc does not run" in done.building and "building for the CPU only" in done.text, (
        done.text
    )
    asked = configure("-DPERILUNE_CUDA=ON", CUDACXX=nowhere)
    assert asked.failed and "nvcc does not run" in asked.text and "-DPERILUNE_CUDA=AUTO" in asked.text


def test_toolkit_that_cannot_compile(configure):
    """It says what version it is, and no more: as an nvcc without its host compiler."""
    nvcc = fake_nvcc(configure.folder, "13.0")
    done = configure("-DPERILUNE_CUDA=ON", CUDACXX=nvcc)
    assert done.failed and "cannot compile" in done.text and "CUDAHOSTCXX" in done.text, done.text


@pytest.mark.skipif(not HAS_NVCC, reason="no CUDA toolkit")
def test_gpus_of_this_machine(configure):
    assert "GPU kernels for sm_90;" in configure(gpus=["9.0", "9.0"]).building
    assert "GPU kernels for sm_90 sm_86;" in configure(gpus=["8.6", "9.0"]).building
    assert "compute capability (61) is below 7.5" in configure(gpus=["6.1"]).building
    assert "GPU kernels for sm_90;" in configure("-DPERILUNE_CUDA=ON").building
    assert "PERILUNE_CUDA=OFF" in configure("-DPERILUNE_CUDA=OFF", gpus=["9.0"]).building
