"""What built files must look like: one program file, and instruction-set levels that cannot leak into each other."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ["PERILUNE_BUILD_DIR"])
PROGRAM = Path(os.environ["PERILUNE_PROGRAM"])
SANITIZED = bool(os.environ["PERILUNE_SANITIZE"])
CUDA = os.environ["PERILUNE_HAS_CUDA"] == "1"
NOT_SANITIZED = pytest.mark.skipif(SANITIZED, reason="sanitizers add functions and libraries of their own")


def readelf(*arguments):
    return subprocess.run(["readelf", "-W", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


@NOT_SANITIZED
def test_program_needs_only_the_c_library():
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("-d", PROGRAM))
    extra = [n for n in needed if not re.fullmatch(r"lib[cm]\.so\.6|ld-linux-.*\.so\.\d", n)]
    assert not extra, f"the program needs {extra} - link them statically"


def level_objects(level):
    return list(BUILD.glob(f"kernels/CMakeFiles/kernels_cpu_{level}.dir/**/*.o"))


# Functions that a level may define under a name that all levels share, with the reason. Empty is the good state.
SHARED_FUNCTIONS = {}


@NOT_SANITIZED
@pytest.mark.parametrize("level", ["v4", "v3"])
def test_level_defines_no_function_that_the_linker_could_share(level):
    """A weak function outside the level's namespace, an inline one of the standard library say, exists once in the
    program: the linker keeps any copy, and on an old processor that copy may hold instructions it does not have."""
    objects = level_objects(level)
    if os.uname().machine != "x86_64":
        pytest.skip(f"no level {level} on this architecture")
    assert objects, f"level {level} was not built"
    wrong = []
    for path in objects:
        for line in readelf("-s", path).splitlines():
            columns = line.split()
            if len(columns) < 8 or columns[3] not in ("FUNC", "IFUNC") or columns[4] == "LOCAL" or columns[6] == "UND":
                continue
            name = subprocess.run(["c++filt", columns[7]], capture_output=True, text=True, check=True).stdout.strip()
            if f"perilune::{level}::" not in name and name not in SHARED_FUNCTIONS:
                wrong.append(name)
    assert not wrong, f"\nlevel {level} defines functions that other levels and the base code share:\n" + "\n".join(
        wrong
    )


@NOT_SANITIZED
@pytest.mark.parametrize("level", ["v4", "v3"])
def test_level_runs_nothing_at_start(level):
    """A static object with a constructor would run the level's instructions before any processor check."""
    for path in level_objects(level):
        assert ".init_array" not in readelf("-S", path), f"{path.name} of level {level} has static constructors"


# Kernels and functions that may spill or use local memory, with the reason. Keys: what is found in the table's name.
EXCUSED = {
    "LunarLanderWith<": "77 fields of three bodies, their joints and contacts are more than a thread has registers",
    "lunar::World<": "the same: its solver is a function of its own, for the time that compilers take",
    "Update<Interface<8, Discrete<4> >, 64, 2>": "networks of the landers in bf16: nine words, for a third block",
    "BipedalWalker": "420 fields, 200 of them heights that a lane looks up by number",
    "walker::": "the same: five bodies, four joints, up to twenty contacts and the heights are gone through by number",
    "Update<Interface<24, Box<4> >, 64,": "the walker's networks in tf32 and bf16: up to 60 words, for a third block",
    "Rollout<CartPole, ": "in fp32 a word or two, since networks may normalise what they are given",
    "<LanderWith<": "29 fields beside a network's tile: a few bytes over the budget of 128 registers",
}


def excused(entry):
    return any(part in entry.get("kernel", entry.get("function", "")) for part in EXCUSED)


def table():
    if not CUDA:
        pytest.skip("a build without CUDA")
    return json.loads((BUILD / "kernel_resources.json").read_text())


def test_no_kernel_spills():
    wrong = [
        f"{k['arch']} {k['kernel']}: {k['spill_store_bytes']} bytes stored, {k['spill_load_bytes']} loaded"
        for k in table()["kernels"]
        if k["spill_store_bytes"] + k["spill_load_bytes"] > 0 and not excused(k)
    ]
    assert not wrong, "\nregister spills:\n" + "\n".join(wrong)


@pytest.mark.parametrize("what, meaning", [("f64", "double arithmetic"), ("local", "local memory")])
def test_no_kernel_uses(what, meaning):
    report = table()
    wrong = [
        f"{k['arch']} {k.get('kernel') or k['function']}: {k['ptx_' + what]} instructions"
        for k in report["kernels"] + report["functions"]
        if k.get("ptx_" + what, 0) and not (what == "local" and excused(k))
    ]
    assert not wrong, f"\n{meaning}:\n" + "\n".join(wrong)


def test_tensor_cores_work_where_they_should():
    """In kernels of networks in tf32 and bf16, from sm_80 on; below, those are traps, and fp32 is fp32 everywhere."""
    for k in table()["kernels"]:
        precision = re.search(r"\(Precision\)(\d)", k["kernel"])
        tensor = precision is not None and precision[1] != "0" and k["arch"] != "sm_75"
        assert (k["ptx_mma"] > 0) == tensor, f"{k['arch']} {k['kernel']}: {k['ptx_mma']} mma instructions"
    assert {"CartPole_fp32", "CartPole_tf32", "CartPole_bf16"} <= {k["unit"] for k in table()["kernels"]}


def test_resource_table_knows_every_architecture():
    """All kernels on sm_90, and those of CartPole on the oldest one."""
    kernels = table()["kernels"]
    names = {arch: {k["kernel"] for k in kernels if k["arch"] == arch} for arch in ("sm_90", "sm_75")}
    assert any("LunarLander" in name for name in names["sm_90"])
    assert names["sm_75"] < names["sm_90"]
    assert {name for name in names["sm_90"] if "<CartPole" in name} <= names["sm_75"]
