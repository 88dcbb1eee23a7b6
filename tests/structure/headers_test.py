"""Every header compiles alone: as plain C++, and the simulators' headers as CUDA too where a toolkit is."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def failures(headers, command):
    """What the compiler says of each header that does not compile alone, two at a time."""
    def compile_one(header):
        run = subprocess.run([*command, "-"], input=f'#include "{header}"\n', cwd=ROOT, capture_output=True, text=True)
        return f"{header}:\n{run.stderr}" if run.returncode else ""

    with ThreadPoolExecutor(2) as pool:
        return "\n".join(filter(None, pool.map(compile_one, headers)))


def headers_of(folder):
    return [p.relative_to(ROOT).as_posix() for p in sorted((ROOT / folder).rglob("*.hpp"))]


def needs_nvcc(header):
    """Headers whose name says so use CUDA's own headers and syntax."""
    return "cuda" in Path(header).name


@pytest.mark.parametrize("folder", ["sims", "kernels", "host"])
def test_headers_compile_alone(folder):
    headers = [h for h in headers_of(folder) if not needs_nvcc(h)]
    march = ["-march=x86-64-v3"] if os.uname().machine == "x86_64" else []
    command = ["g++", "-std=c++20", "-fsyntax-only", "-Wno-psabi", *march, *WARNINGS,
               "-DFMT_HEADER_ONLY", "-DPERILUNE_HAS_CUDA=0", "-I.", "-x", "c++"]
    wrong = failures(headers, command)
    assert not wrong, "\n" + wrong


@pytest.mark.skipif(NVCC is None, reason="no CUDA toolkit")
def test_simulator_headers_compile_alone_as_cuda(tmp_path):
    # nvcc reads no source from standard input.
    def compile_one(header):
        source = tmp_path / (header.replace("/", "_") + ".cu")
        source.write_text(f'#include "{header}"\n')
        run = subprocess.run([NVCC, "-std=c++20", "-fmad=false", "--expt-relaxed-constexpr", "-I.", "-ptx", "-arch=compute_75",
                              "-Xcompiler=" + ",".join(WARNINGS), "-o", os.devnull, source],
                             cwd=ROOT, capture_output=True, text=True)
        return f"{header}:\n{run.stderr}" if run.returncode else ""

    cuda_headers = headers_of("sims") + [h for h in headers_of("kernels") if needs_nvcc(h)]
    with ThreadPoolExecutor(2) as pool:
        wrong = "\n".join(filter(None, pool.map(compile_one, cuda_headers)))
    assert not wrong, "\n" + wrong
