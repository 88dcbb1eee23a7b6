"""bench/sass.py: the kernels' SASS is what is committed, and counts of small programs are what reading them gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sass
from sass_walk import Graph, Walk, parse

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
BUILD = Path(os.environ["PERILUNE_BUILD_DIR"])
CUDA = os.environ["PERILUNE_HAS_CUDA"] == "1"

ONLY_WITH_CUDA = pytest.mark.skipif(not CUDA, reason="a build without CUDA")


# ---- the committed table ----


@ONLY_WITH_CUDA
def test_kernels_are_as_committed():
    checked = subprocess.run(
        [sys.executable, "-B", ROOT / "bench" / "sass.py", BUILD, "--check"], capture_output=True, text=True
    )
    if checked.returncode == 77:
        pytest.skip(checked.stderr.strip())
    assert checked.returncode == 0, f"\n{checked.stderr}"


def committed():
    return json.loads((ROOT / "bench" / "results" / "sass.json").read_text())


@ONLY_WITH_CUDA
def test_committed_table_is_of_these_kernels():
    built = {
        k["kernel"]
        for k in json.loads((BUILD / "kernel_resources.json").read_text())["kernels"]
        if k["arch"] == "sm_90"
    }
    assert {k["kernel"] for k in committed()["kernels"]} == built, "run bench/sass.py build/release"


def test_committed_table_is_whole():
    table = committed()
    unknown = [
        f"{row.get('kernel') or row['walk']}: {what}"
        for row in table["kernels"] + table["walks"]
        for what in row.get("instructions") or row["counts"]
        if what.startswith("other")
    ]
    assert not unknown, f"opcodes that sass.py does not know: {unknown}"
    # A chunk's share of a minibatch is a quotient of 64 bits.
    assert {row["walk"] for row in table["walks"] if row["loops_of_unknown_length"]} <= {"advantage moments"}
    rows = {(row["walk"], row["precision"]) for row in table["walks"]}
    assert rows >= {
        (walk, p) for walk in ("update, actor", "update, critic", "rollout") for p in ("fp32", "tf32", "bf16")
    }
    for row in table["walks"]:
        assert row["alone_cycles"] >= row["counts"]["issue"], row["walk"]
        assert row.get("together_cycles", 1 << 30) >= max(row["floor_cycles"].values()) * 0.99, row["walk"]


def test_differences_show_both_numbers():
    old = {"walks": [{"walk": "rollout", "precision": "tf32", "counts": {"issue": 10, "fma": 3}}]}
    new = {"walks": [{"walk": "rollout", "precision": "tf32", "counts": {"issue": 12, "alu": 1}}]}
    assert sass.differences(old, old) == []
    lines = sass.differences(old, new)
    assert "walks: rollout tf32: counts: issue: 10 -> 12" in lines
    assert "walks: rollout tf32: counts: fma: 3 -> nothing" in lines and len(lines) == 3


# ---- small programs ----


def encoding(stall=1, result=7, operands=7, waits=()):
    """The second half of an instruction's encoding, of which only what the compiler scheduled is set."""
    mask = sum(1 << scoreboard for scoreboard in waits)
    return f"0x{(stall | result << 5 | operands << 8 | mask << 11) << 41:016x}"


def program(text, **encodings):
    """The kernel that nvdisasm would print so: a line for each instruction or label. encodings: by opcode."""
    rows, address = ['\t.section\t.text.k,"ax",@progbits', ".text.k:"], 0
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.endswith(":"):
            rows.append(line)
            continue
        base = line.split()[1 if line.startswith("@") else 0].split(".")[0]
        rows += [
            f"        /*{address:04x}*/                   {line} ;    /* 0x0000000000000000 */",
            f"                                     /* {encodings.get(base, encoding())} */",
        ]
        address += 16
    return parse("\n".join(rows))["k"]


def walked(text, constants=None, passes=lambda header: None, lanes=range(32), avoid=lambda body: False):
    kernel = program(text)
    walk = Walk(Graph(kernel, avoid), constants or {}, {"SR_TID.X": tuple(lanes), "vote": False}, passes)
    return kernel, walk


def opcodes(kernel, walk):
    return [kernel.code[i].base for i in walk.steps]


COUNTED_LOOP = """
    IMAD.MOV.U32 R3, RZ, RZ, RZ
  .L_x_1:
    LDS R14, [R2]
    IADD3 R3, R3, 0x10, RZ
    ISETP.GE.U32.AND P0, PT, R3, {bound}, PT
    @!P0 BRA `(.L_x_1)
    EXIT
"""


def test_loops_with_constant_bounds_run_as_often_as_they_do():
    kernel, walk = walked(COUNTED_LOOP.format(bound="0x80"))
    assert opcodes(kernel, walk).count("LDS") == 8 and not walk.unknown


def test_arguments_bound_loops():
    text = COUNTED_LOOP.format(bound="c[0x0][0x214]")
    kernel, walk = walked(text, {0x214: 33})
    assert opcodes(kernel, walk).count("LDS") == 3
    kernel, walk = walked(text)  # not told: one pass, which is said
    assert opcodes(kernel, walk).count("LDS") == 1 and len(walk.unknown) == 1
    kernel, walk = walked(text, passes=lambda header: 5)
    assert opcodes(kernel, walk).count("LDS") == 5 and not walk.unknown


def test_loops_that_count_addresses():
    """From a thread's first word on, a block's width at a time, up to an end that is a multiple of it for no lane."""
    text = """
        S2R R0, SR_TID.X
        LEA R4, R0, 0x400, 0x2
      .L_x_1:
        STS [R4], RZ
        VIADD R4, R4, 0x80
        ISETP.NE.AND P0, PT, R4, {end}, PT
        @P0 BRA `(.L_x_1)
        EXIT
    """
    kernel, walk = walked(text.format(end="R9").replace("S2R R0", "LEA R9, R0, 0x600, 0x2\n S2R R0"))
    assert len(walk.unknown) == 1  # R0 was not yet known where R9 was made
    kernel, walk = walked(text.format(end="R9").replace("LEA R4", "LEA R9, R0, 0x600, 0x2\n LEA R4"))
    assert opcodes(kernel, walk).count("STS") == 4 and not walk.unknown


@pytest.mark.parametrize(
    "instruction, passes",
    [
        ("VIMNMX R4, R3, 0x7, PT", 5),
        ("VIMNMX R4, R3, 0x7, !PT", 7),
        ("VIMNMX3 R4, R3, 0x7, 0x6, !PT", 7),
        ("VIADDMNMX R4, R3, 0x1, 0x7, PT", 6),
        ("VIADDMNMX.U32 R4, R3, 0xfffffffe, 0xfffffff0, PT", 3),
    ],
)
def test_the_smaller_and_the_larger_of_bounds(instruction, passes):
    kernel, walk = walked(f"""
        MOV R3, 0x5
        {instruction}
        MOV R5, RZ
      .L_x_1:
        VIADD R5, R5, 0x1
        ISETP.LT.AND P0, PT, R5, R4, PT
        @P0 BRA `(.L_x_1)
        EXIT
    """)
    assert opcodes(kernel, walk).count("VIADD") == passes and not walk.unknown


def test_what_only_the_first_pass_does_is_counted_once():
    kernel, walk = walked("""
        MOV R5, RZ
      .L_x_1:
        ISETP.NE.AND P0, PT, R5, RZ, PT
        @P0 BRA `(.L_x_2)
        FADD R1, R1, R2
        BRA `(.L_x_3)
      .L_x_2:
        FMUL R1, R1, R2
        FMUL R1, R1, R2
      .L_x_3:
        VIADD R5, R5, 0x1
        ISETP.GE.AND P1, PT, R5, 0x3, PT
        @!P1 BRA `(.L_x_1)
        EXIT
    """)
    assert opcodes(kernel, walk).count("FADD") == 1 and opcodes(kernel, walk).count("FMUL") == 4


UNKNOWN_BRANCH = """
    LDG.E R0, desc[UR4][R2.64]
    ISETP.NE.AND P0, PT, R0, RZ, PT
    @P0 BRA `(.L_x_1)
    {first}
    BRA `(.L_x_2)
  .L_x_1:
    {second}
  .L_x_2:
    EXIT
"""


@pytest.mark.parametrize(
    "first, second",
    [
        ("FADD R1, R1, R1", "MUFU.TANH R1, R1\nMUFU.TANH R2, R2\nMUFU.TANH R3, R3"),
        ("MUFU.TANH R1, R1\nMUFU.TANH R2, R2", "FADD R1, R1, R1"),
    ],
)
def test_unknown_branches_take_the_longest_way(first, second):
    kernel, walk = walked(UNKNOWN_BRANCH.format(first=first, second=second))
    assert "MUFU" in opcodes(kernel, walk) and "FADD" not in opcodes(kernel, walk)


def test_division_of_ordinary_numbers_calls_nothing():
    kernel, walk = walked(
        UNKNOWN_BRANCH.format(
            first="FADD R1, R1, R1",
            second="MOV R8, 0x100\n" * 9 + "CALL.REL.NOINC `($__internal_0_$__cuda_sm3x_div_rn_noftz_f32_slowpath)",
        )
    )
    assert "CALL" not in opcodes(kernel, walk) and "FADD" in opcodes(kernel, walk)


def test_loops_that_are_avoided():
    text = UNKNOWN_BRANCH.format(
        first="FADD R1, R1, R1",
        second="""MOV R9, R9
      .L_x_5:
        MUFU.TANH R1, R1
        FSETP.GT.AND P1, PT, R1, R2, PT
        @P1 BRA `(.L_x_5)""",
    )
    kernel, walk = walked(text)
    assert "MUFU" in opcodes(kernel, walk) and len(walk.unknown) == 1
    kernel, walk = walked(text, avoid=lambda body: True)
    assert "MUFU" not in opcodes(kernel, walk) and not walk.unknown


def test_lanes_that_part_meet_again():
    """Eight lanes store; what they alone have changed is known of them alone, and none of a later warp stores."""
    text = """
        S2R R0, SR_TID.X
        MOV R7, 0x5
        ISETP.GT.U32.AND P0, PT, R0, 0x7, PT
        BSSY B0, `(.L_x_1)
        @P0 BRA `(.L_x_2)
        MOV R7, 0x6
        STG.E desc[UR4][R2.64], R7
      .L_x_2:
        BSYNC B0
      .L_x_1:
        ISETP.EQ.AND P1, PT, R7, 0x6, PT
        @P1 FADD R1, R1, R1
        @!P0 FMUL R1, R1, R1
        EXIT
    """
    kernel, walk = walked(text)
    assert "STG" in opcodes(kernel, walk)
    assert walk.lanes.read("R7") == (6,) * 8 + (5,) * 24
    assert not walk.idle
    kernel, walk = walked(text, lanes=range(32, 64))
    assert "STG" not in opcodes(kernel, walk)
    assert [kernel.code[walk.steps[place]].base for place in sorted(walk.idle)] == ["FADD", "FMUL"]
    counts = sass.count(kernel.code, walk.steps, walk.idle)
    assert counts["issue"] == len(walk.steps) and "fma" not in counts


def test_an_endless_loop_is_an_error():
    with pytest.raises(ValueError, match="has not ended after 400000 instructions"):
        walked(".L_x_1:\nBRA `(.L_x_1)")


def test_units_wavefronts_and_widths():
    kernel = program("""
        LDS R4, [R2]
        LDS.64 R4, [R2]
        LDS.128 R4, [R2]
        STS.64 [R2], R4
        LDSM.16.M88.4 R4, [R2]
        LDSM.16.MT88.2 R4, [R2]
        LDG.E.128 R4, desc[UR4][R2.64]
        STG.E desc[UR4][R2.64], R5
        LDL.64 R4, [R1]
        HMMA.1688.F32.TF32 R8, R4, R14, R8
        IMAD.MOV.U32 R3, RZ, RZ, RZ
        BAR.SYNC.DEFER_BLOCKING 0x0
        FROB R1, R2
        HMMA.1688.F32.BF16 R8, R4, R14, R8
    """)
    counts = sass.count(kernel.code, range(len(kernel.code)))
    assert counts == {
        "issue": 14,
        "shared": 6,
        "wavefronts": 1 + 2 + 4 + 2 + 4 + 2,
        "global": 2,
        "global_128": 1,
        "global_32": 1,
        "local": 1,
        "local_64": 1,
        "tensor": 1,
        "imad": 1,
        "control": 1,
        "barriers": 1,
        "other": 2,
        "other FROB": 1,
        "other HMMA": 1,
    }
    cycles = sass.floor(counts)
    assert cycles["lsu"] == 4 * 15 and cycles["tensor"] == 4 and cycles["issue"] == 14


def test_issue_waits_for_stalls_units_and_scoreboards():
    def times(text, warps=1, share=1, **encodings):
        kernel = program(text, **encodings)
        return sass.issue(kernel.code, [(list(range(len(kernel.code))), set())] * warps, share)

    assert times("FADD R1, R1, R1\nFADD R1, R1, R1", FADD=encoding(stall=4)) == [[0, 4, 8]]
    assert times("MUFU.TANH R1, R1\nMUFU.TANH R2, R2") == [[0, 8, 9]]
    latency = sass.LATENCY["shared"]
    assert times("LDS R1, [R2]\nFADD R1, R1, R1", LDS=encoding(result=3), FADD=encoding(waits=[3])) == [
        [0, latency, latency + 1]
    ]
    assert times("LDS.128 R4, [R2]\nLDS.128 R8, [R2]", share=4) == [[0, 16, 17]]
    two = times("MUFU.TANH R1, R1\nFADD R2, R2, R2", warps=2, MUFU=encoding(stall=2))
    assert two == [[0, 2, 3], [8, 10, 11]]  # the second warp finds the unit busy


@pytest.mark.parametrize(
    "registers, threads, shared, blocks, limit",
    [
        (245, 128, 100, 2, "registers"),
        (24, 256, 0, 8, "threads"),
        (24, 32, 0, 32, "blocks"),
        (32, 64, 19 << 10, 11, "shared memory"),
        (32, 64, 228 << 10, 0, "shared memory per block"),
    ],
)
def test_occupancy(registers, threads, shared, blocks, limit):
    assert sass.occupancy(registers, threads, shared) == (blocks, limit)
