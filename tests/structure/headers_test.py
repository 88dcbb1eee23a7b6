"""Every header compiles alone: .hpp as plain C++, .cuh and the simulators' headers as CUDA where a toolkit is."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def failures(headers, compile_one):
    """What the compiler says of each header that does not compile alone; compile_one(header) runs it, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        runs = zip(headers, pool.map(compile_one, headers), strict=True)
        return "\n".join(f"{header}:\n{run.stderr}" for header, run in runs if run.returncode)


def headers_of(folder, suffix=".hpp"):
    return [p.relative_to(ROOT).as_posix() for p in sorted((ROOT / folder).rglob("*" + suffix))]


@pytest.mark.parametrize("folder", ["sims", "kernels", "host"])
def test_headers_compile_alone(folder):
    march = ["-march=x86-64-v3"] if os.uname().machine == "x86_64" else []
    command = [
        "g++",
        "-std=c++20",
        "-fsyntax-only",
        "-Wno-psabi",
        *march,
        *WARNINGS,
        "-DFMT_HEADER_ONLY",
        "-DPERILUNE_HAS_CUDA=0",
        "-I.",
        "-x",
        "c++",
        "-",
    ]

    def compile_one(header):
        return subprocess.run(command, input=f'#include "{header}"\n', cwd=ROOT, capture_output=True, text=True)

    wrong = failures(headers_of(folder), compile_one)
    assert not wrong, "\n" + wrong


@pytest.mark.skipif(NVCC is None, reason="no CUDA toolkit")
def test_cuda_headers_compile_alone(tmp_path):
    command = [
        NVCC,
        "-std=c++20",
        "-fmad=false",
        "--expt-relaxed-constexpr",
        "-I.",
        "-ptx",
        "-arch=compute_75",
        "-Xcompiler=" + ",".join(WARNINGS),
        "-o",
        os.devnull,
    ]

    def compile_one(header):  # nvcc reads no source from standard input
        source = tmp_path / (header.replace("/", "_") + ".cu")
        source.write_text(f'#include "{header}"\n')
        return subprocess.run([*command, source], cwd=ROOT, capture_output=True, text=True)

    wrong = failures(headers_of("sims") + headers_of("kernels", ".cuh"), compile_one)
    assert not wrong, "\n" + wrong
