"""tools/profile puts together what the program, nsys and ncu say, and what is left where a tool fails or is missing."""

import json
import os
import subprocess
from pathlib import Path

import pytest

import nsight

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])


def test_profile_combines_timeline_and_counters(gpu):
    done = gpu.profile("--json", "cartpole", "--set", "num_envs=64")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    phases = {row["phase"]: row for row in report["phases"]}
    rollout, gradient = phases["rollout"], phases["gradient"]
    # nsys: the median of one launch, times the launches of an iteration; the program's events where it saw none.
    assert (rollout["source"], gradient["source"], phases["gae"]["source"]) == ("nsys", "nsys", "events")
    assert rollout["seconds"] == pytest.approx(1.2e-3) and rollout["range_seconds"] == pytest.approx(1.3e-3)
    assert gradient["seconds"] == pytest.approx(0.99e-3 * gradient["launches"])
    own = {row["phase"]: row for row in gpu.own["phases"]}
    assert rollout["flops"] == pytest.approx(own["rollout"]["flop"] / 1.2e-3)
    # ncu: medians over launches, units by their names, shares of the waiting without the "not issued" half.
    assert rollout["bytes_are"] == "counted" and rollout["bytes_per_second"] == pytest.approx(80.5e6 / 1.2e-3)
    assert rollout["share_of_peak_bytes"] == pytest.approx(80.5e6 / 1.2e-3 / 4.8e12)
    assert rollout["occupancy"] == pytest.approx(0.2475) and rollout["registers"] == 96
    assert rollout["stalls"] == {"long_scoreboard": pytest.approx(0.75), "barrier": pytest.approx(0.25)}
    assert gradient["occupancy"] == pytest.approx(0.21)
    assert report["ncu"][0]["seconds"] == pytest.approx(1200.5e-6)
    assert "seconds" not in report["ncu"][3]  # "n/a"
    assert sum(row["share"] for row in report["phases"]) == pytest.approx(1.0)
    assert json.loads((gpu.tmp / "out" / "profile.json").read_text()) == report


def test_profile_runs_the_command_lines_of_the_program(gpu):
    assert gpu.profile().returncode == 0
    nsys, ncu = gpu.calls("nsys")[0], gpu.calls("ncu")[0]
    assert (
        nsys[0] == "profile" and "--cuda-graph-trace=node" in nsys and nsys[nsys.index("-c") + 1] == "cudaProfilerApi"
    )
    assert nsys[nsys.index("-o") + 1].startswith(str(gpu.tmp))
    assert ncu[:3] == ["--csv", "--page", "raw"] and "-o" not in ncu
    assert [ncu[i + 1] for i, word in enumerate(ncu) if word == "--nvtx-include"] == [
        "perilune@rollout/",
        "perilune@gae/",
        "perilune@update/",
    ]
    assert ncu[ncu.index("--clock-control") + 1] == "none"
    for words in (nsys, ncu):
        assert "num_envs=64" in words and words[words.index("--device") + 1] == "cuda"


def test_profile_table(gpu):
    text = gpu.profile().stdout
    assert "NVIDIA H200" in text and "long_scoreboard 75%" in text and "25%" in text
    assert max(map(len, text.splitlines()[1:])) <= 120


def test_profile_says_which_tool_failed(gpu):
    done = gpu.profile("--json", BREAK="ncu")
    assert done.returncode == 1 and "ncu ended with 7: something is wrong" in done.stderr
    assert json.loads(done.stdout)["phases"][0]["source"] == "nsys"
    done = gpu.profile("--json", BREAK="nsys")
    assert done.returncode == 1 and "nsys ended with 7: something is wrong" in done.stderr
    assert json.loads(done.stdout)["phases"][0]["occupancy"] == pytest.approx(0.2475)


def test_profile_ends_a_tool_that_hangs(gpu):
    done = gpu.profile("--json", "--limit", "3", "--tools", "ncu", HANG="ncu")
    assert done.returncode == 1 and "timed out in ncu" in done.stderr
    assert not gpu.alive("ncu")


def test_profile_without_nsight_or_gpu_shows_the_program(gpu):
    (gpu.path / "nsys").unlink()
    (gpu.path / "ncu").unlink()
    if not nsight.find_tool("nsys") and not nsight.find_tool("ncu"):
        done = gpu.profile("--json")
        assert done.returncode == 0 and "not installed" in done.stderr
        assert json.loads(done.stdout)["phases"] == gpu.own["phases"]
    done = subprocess.run(
        [ROOT / "tools" / "profile", "--program", os.environ["PERILUNE_PROGRAM"], "--iterations", "1"],
        capture_output=True,
        text=True,
    )
    if "no GPU here" in done.stderr:
        assert done.returncode == 0 and "rollout" in done.stdout and "bound by" in done.stdout


@pytest.mark.parametrize("words", [["--iterations", "0"], ["--nonsense"], ["--tools", "gdb"]])
def test_profile_refuses(gpu, words):
    assert gpu.profile(*words).returncode == 2


def test_profile_of_a_program_that_is_not_there(gpu):
    done = gpu.run("profile", "--program", gpu.tmp / "missing")
    assert done.returncode == 1 and "missing" in done.stderr
