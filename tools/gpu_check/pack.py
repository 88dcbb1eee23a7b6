"""Packs: one archive with all that gpu-check needs on a machine that has a GPU but no compiler, CMake or network."""

import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from gpu_check.machine import ROOT

PROGRAMS = ["perilune", "gpu_tests", "bench_kernels", "bench_libraries", "bench_throughput"]
FOLDER = ROOT / "build" / "gpu-pack"
INSIDE = "build/release"  # where the programs lie in an archive, so that an unpacked one needs no --build
MANIFEST = "manifest.json"
MOST_MIB = 60
# What every Linux has; anything else would have to be installed there.
C_LIBRARY = re.compile(r"lib(c|m|dl|rt|pthread)\.so\.\d|ld-linux-.*\.so\.\d")


class Unusable(Exception):
    """Why programs cannot be packed or run here, in one line."""


class NoGpu(Unusable):
    """No GPU, or none that the programs can use."""


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build_commands(arch):
    """Configures and builds, machine code for the architecture named alone."""
    return [
        [
            "cmake",
            "-S",
            ROOT,
            "-B",
            FOLDER,
            "-G",
            "Ninja",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DPERILUNE_CUDA=ON",
            "-DPERILUNE_TESTS=ON",
            "-DPERILUNE_CPU_LEVELS=all",
            f"-DCMAKE_CUDA_ARCHITECTURES={arch}",
            "-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++ -static-libgcc",
        ],
        ["cmake", "--build", FOLDER, "--target", *PROGRAMS],
    ]


def needed_libraries(program):
    text = subprocess.run(["readelf", "-dW", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.+)\]", text)


def make(archive, arch):
    """Builds the programs for one GPU architecture and writes them, stripped, and the scripts into the archive."""
    if not shutil.which("cmake"):
        raise Unusable("--pack builds, and CMake is not installed - tools/setup --tests installs what a build needs")
    for words in build_commands(arch):
        if subprocess.run(list(map(str, words)), cwd=ROOT).returncode != 0:
            raise Unusable(f"{' '.join(map(str, words))} failed")
    with tempfile.TemporaryDirectory() as scratch:
        files = {}
        for name in PROGRAMS:
            copy = Path(scratch) / name
            shutil.copy2(FOLDER / name, copy)
            subprocess.run(["strip", copy], check=True)
            extra = [library for library in needed_libraries(copy) if not C_LIBRARY.fullmatch(library)]
            if extra:
                raise Unusable(f"{name} needs {', '.join(extra)}, which may be missing there - link it statically")
            files[name] = copy
        version = subprocess.run([files["perilune"], "--version"], capture_output=True, text=True).stdout.strip()
        manifest = Path(scratch) / MANIFEST
        manifest.write_text(
            json.dumps(
                {
                    "program": version,
                    "architectures": [arch],
                    "sha256": {name: digest(path) for name, path in files.items()},
                },
                indent=1,
            )
            + "\n"
        )
        scripts = [
            ROOT / "tools" / "gpu-check",
            ROOT / "tools" / "profile",
            *sorted((ROOT / "tools").glob("*.py")),
            *sorted((ROOT / "tools" / "gpu_check").glob("*.py")),
            *sorted((ROOT / "bench").glob("*.py")),
        ]
        write(
            archive,
            {
                **{f"{INSIDE}/{name}": path for name, path in {MANIFEST: manifest, **files}.items()},
                **{str(path.relative_to(ROOT)): path for path in scripts},
            },
        )
    size = archive.stat().st_size / 2**20
    if size > MOST_MIB:
        archive.unlink()
        raise Unusable(
            f"the pack is {size:.0f} MiB large, and at most {MOST_MIB} MiB can be carried - "
            "name one architecture with -real (--arch 90-real)"
        )
    print(f"{archive}: {size:.1f} MiB, {version}, for {arch}")


def write(archive, files):
    # The programs hold the same kernels: a dictionary larger than one of them packs those once.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 128 << 20}]
    with lzma.open(archive, "wb", filters=filters) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, path in files.items():
            tar.add(path, name)


def unpack(archive, folder):
    """The folder of the programs."""
    try:
        with tarfile.open(archive, "r:xz") as tar:
            tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    except (EOFError, lzma.LZMAError, tarfile.TarError) as error:
        raise Unusable(f"{archive} is cut short or no pack ({error}) - copy it here again") from error
    except OSError as error:
        raise Unusable(
            f"{archive} cannot be unpacked into {folder} ({error.strerror or error}) - name another place with TMPDIR"
        ) from error
    if not (folder / INSIDE / MANIFEST).exists():
        raise Unusable(f"{archive} is no pack (it has no {MANIFEST}) - make one: tools/gpu-check --pack FILE.tar.xz")
    return folder / INSIDE


def find_programs(given, scratch):
    """The build folder: what --build names, a folder or a pack, or build/release. Nothing is compiled here."""
    if given and not given.exists():
        raise Unusable(f"--build {given} does not exist - name a build folder or a pack")
    build = unpack(given, scratch) if given and given.is_file() else (given or ROOT / "build" / "release").resolve()
    if not os.access(build / "perilune", os.X_OK):
        raise Unusable(
            f"no programs in {build} - make a pack where CMake and a CUDA toolkit are "
            "(tools/gpu-check --pack FILE.tar.xz), carry it here, and name it: --build FILE.tar.xz"
        )
    for name, wanted in manifest_of(build).get("sha256", {}).items():
        path = build / name
        if not path.exists() or digest(path) != wanted:
            raise Unusable(
                f"{path} is {'damaged' if path.exists() else 'missing'} - unpack its pack again, or copy it here again"
            )
    return build.relative_to(ROOT) if build.is_relative_to(ROOT) else build


def manifest_of(build):
    """Empty of a build folder, which has none."""
    path = ROOT / build / MANIFEST
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise Unusable(f"{path} is damaged ({error}) - unpack its pack again, or copy it here again") from error


def runs_on(arch, capability):
    """Machine code (-real) runs on its own generation from its own version on; PTX on everything newer, too."""
    wanted, own = int(re.match(r"\d+", arch)[0]), int(capability.replace(".", ""))
    return own >= wanted and (not arch.endswith("-real") or own // 10 == wanted // 10)


def check_gpu(build, gpu):
    architectures = manifest_of(build).get("architectures", [])
    if architectures and not any(runs_on(arch, gpu["compute_cap"]) for arch in architectures):
        own = gpu["compute_cap"].replace(".", "")
        raise NoGpu(
            f"the pack is for sm_{' sm_'.join(architectures)}, and {gpu['name']} is sm_{own} - "
            f"make one for it: tools/gpu-check --pack FILE.tar.xz --arch {own}-real"
        )
