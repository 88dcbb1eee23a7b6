"""tools/gpu-check: its stages, the tests' shards, and machines on which it does not go so well, with fakes of NVIDIA's
tools; the rehearsal runs the real programs on the CPU."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nsight
from fake_gpu import one_line
from gpu_check import shards, summary
from gpu_check.machine import Machine, Sizes
from gpu_check.stages import SANITIZED_TESTS, STAGES
from processes import run_process

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
BUILD = Path(os.environ["PERILUNE_BUILD_DIR"])
CUDA = os.environ["PERILUNE_HAS_CUDA"] == "1"


def test_check_runs_every_stage_once(gpu):
    done = gpu.check()
    assert done.returncode == 0, done.stdout + done.stderr
    report = gpu.report()
    assert report["ok"] is True and report["gpus"][0]["name"] == "NVIDIA H200"
    assert list(report["stages"]) == list(STAGES)
    assert {stage["status"] for stage in report["stages"].values()} == {"passed"}
    assert gpu.results("tests")["passed"] == 8 + len(SANITIZED_TESTS)
    assert len(gpu.results("smoke")) == 2 and len(gpu.results("smoke")["KL stop on"]) == 4
    assert len(gpu.results("sweep")) == 9
    assert gpu.results("nsys")["phases"][0]["source"] == "nsys"
    assert gpu.results("ncu")["training"]["phases"][0]["occupancy"] == pytest.approx(0.2475)
    assert {words[1] for words in gpu.calls("compute-sanitizer")} == {"memcheck", "racecheck", "initcheck", "synccheck"}
    for words in gpu.calls("ncu"):  # locked clocks are others' too
        assert words[words.index("--clock-control") + 1] == "none"
    assert len(gpu.calls("ncu")) == 2
    for name in ("headline", "lander", "lunar-lander", "solve"):  # what README's tables are made of
        assert gpu.results(name)["benchmark"] in ("throughput", "solve")
    page = (gpu.folder / "summary.txt").read_text()
    assert page in done.stdout and "train fp32" in page and "100%" in page and "first suspect" not in page
    before = len(gpu.calls("bench_throughput"))
    again = gpu.check()
    assert again.returncode == 0 and again.stdout.count("passed before") == len(report["stages"])
    assert "train fp32" in again.stdout  # the page of all calls
    assert len(gpu.calls("bench_throughput")) == before
    assert gpu.check("--redo", "--only", "headline").returncode == 0
    assert len(gpu.calls("bench_throughput")) == before + 1


def test_check_names_the_first_suspect_of_a_miss(gpu):
    page = gpu.check("--only", "headline,phases,ncu", PREDICTED="1e9").stdout
    assert "train fp32 with 1024 environments (50%): " in page
    suspect = page.split("(50%): ")[1].splitlines()[0]
    slowest = max(gpu.own["phases"], key=lambda row: row["seconds"] - row["predicted_seconds"])
    assert suspect.startswith(slowest["phase"]) and f"bound by {slowest['bound']}" in suspect


def test_summary_without_phases_says_so():
    row = {
        "what": "train",
        "precision": "tf32",
        "num_envs": 64,
        "steps_per_second": 1.0,
        "predicted_steps_per_second": 2.0,
    }
    assert "phases were not measured" in "\n".join(summary.headline_lines({"rows": [row]}, None, None))


def test_check_goes_on_after_a_failure_and_repeats_only_that(gpu):
    done = gpu.check(BREAK="bench_kernels")
    assert done.returncode == 1 and "states" in done.stdout.splitlines()[-1]
    stages = gpu.report()["stages"]
    assert stages["states"]["status"] == "failed" and "ended with 7" in stages["states"]["problem"]
    assert "something is wrong" in stages["states"]["output"]
    assert stages["solve"]["status"] == "passed" and stages["tests"]["status"] == "passed"
    before = len(gpu.calls("bench_throughput"))
    assert gpu.check().returncode == 0
    assert gpu.report()["ok"] is True and len(gpu.calls("bench_throughput")) == before


def test_check_keeps_what_a_failing_stage_found(gpu):
    assert gpu.check("--only", "equal,smoke", OTHER="other").returncode == 1
    assert "different policies" in gpu.report()["stages"]["equal"]["problem"]
    assert "graph on, overlap off" in gpu.report()["stages"]["smoke"]["problem"]
    assert gpu.check("--only", "states", STATES="xyz").returncode == 1
    assert "xyz" in gpu.report()["stages"]["states"]["problem"]


@pytest.mark.parametrize("tool, other", [("ncu", "nsys"), ("nsys", "ncu")])
def test_a_failing_profiler_loses_its_own_part(gpu, tool, other):
    assert gpu.check("--only", "ncu,nsys,phases", BREAK=tool).returncode == 1
    stages = gpu.report()["stages"]
    assert stages[tool]["status"] == "failed" and f"{tool} ended with 7: something is wrong" in stages[tool]["problem"]
    assert stages[other]["status"] == stages["phases"]["status"] == "passed"


def test_second_call_goes_on_where_the_first_stopped(gpu):
    done = gpu.check("--limit", "12", "--only", "smoke,headline,lander,phases", HANG="bench_throughput")
    assert done.returncode == 1
    stages = gpu.report()["stages"]
    assert stages["smoke"]["status"] == "passed"
    assert stages["headline"]["status"] == "failed" and "timed out in bench_throughput" in stages["headline"]["problem"]
    assert {stages[name]["status"] for name in ("lander", "phases")} == {"left out"}
    assert not gpu.alive("bench_throughput") and sum(stage["seconds"] for stage in stages.values()) < 12
    before = len(gpu.log())
    assert gpu.check("--only", "smoke,headline,lander,phases").returncode == 0
    called = [
        (name, words)
        for name, _, *words in gpu.log()[before:]
        if name != "nvidia-smi" and words[0] not in ("info", "--version")
    ]
    assert [name for name, _ in called] == [*["bench_throughput"] * 2, *["perilune"] * 3, "bench_throughput"]
    assert "Lander-v0" in called[0][1] and "Lander-v0" not in called[-1][1]


def test_what_hangs_beside_others_is_ended_alone(gpu):
    done = gpu.check("--limit", "12", "--only", "states,equal,sanitizer-memcheck", HANG="compute-sanitizer")
    assert done.returncode == 1
    stages = gpu.report()["stages"]
    assert stages["states"]["status"] == stages["equal"]["status"] == "passed"
    assert "timed out in compute-sanitizer" in stages["sanitizer-memcheck"]["problem"]
    assert not gpu.alive("compute-sanitizer")


def test_children_end_with_what_hangs():
    """A child that outlives its parent would keep the GPU, and whoever reads its output, waiting."""
    started = time.monotonic()
    done = run_process(["sh", "-c", "sleep 60 & echo $!; wait"], until=started + 1.0)
    assert done.problem == "timed out in sh" and time.monotonic() - started < 10
    child = Path(f"/proc/{int(done.out)}/stat")
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() - started < 10:
        time.sleep(0.05)  # a signal takes a moment
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_an_interrupted_check_keeps_its_results(gpu):
    with subprocess.Popen(
        [
            sys.executable,
            ROOT / "tools" / "gpu-check",
            gpu.folder,
            "--build",
            gpu.tmp / "build",
            "--only",
            "smoke,headline",
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=gpu.environment(HANG="bench_throughput"),
    ) as process:
        while not gpu.calls("bench_throughput"):
            time.sleep(0.05)
        process.terminate()
        out = process.communicate(timeout=20)[0]
    assert process.returncode == 1 and "interrupted" in out and "passed: smoke" in out
    assert not gpu.alive("bench_throughput")
    assert gpu.report()["stages"]["smoke"]["status"] == "passed"


# ---- the tests' shards ----


@pytest.fixture
def run_shards(gpu, monkeypatch):
    """Runs the tests' shards where these tests are bad: what they found, and which tests did not run."""

    def run(bad):
        for name, value in gpu.environment(BAD=bad).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
        machine = Machine(
            gpu.tmp / "build", gpu.folder, gpu.tmp, sizes=Sizes(quiet=3.0), deadline=time.monotonic() + 30
        )
        found = shards.Shards(machine, machine.program("gpu_tests"), {})
        return found, found.run([f"On/Suite.{test}/Cuda" for test in "ABCDEFGH"])

    return run


def test_shards_run_every_test(run_shards):
    found, left = run_shards("")
    assert len(found.passed) == 8 and found.processes == 2 and not (left or found.failed or found.skipped)


def test_a_trap_fails_one_test(run_shards):
    """Those after it, in the process that has lost its context, pass in a fresh one."""
    found, left = run_shards("C=trap")
    assert list(found.failed) == ["On/Suite.C/Cuda"] and len(found.passed) == 7 and not left
    assert found.failed["On/Suite.C/Cuda"] == (
        "some_test.cpp:12: Expected equality of these values: an unspecified launch failure"
    )


@pytest.mark.parametrize(
    "kind, words", [("crash", "was ended by SIGSEGV in this test"), ("hang", "printed nothing for 3 s in this test")]
)
def test_a_process_that_dies_names_its_test(gpu, run_shards, kind, words):
    found, left = run_shards(f"A={kind},D={kind},G=fail")
    assert sorted(found.failed) == [f"On/Suite.{test}/Cuda" for test in "ADG"] and len(found.passed) == 5 and not left
    assert words in found.failed["On/Suite.A/Cuda"] and "one and two" in found.failed["On/Suite.G/Cuda"]
    assert not gpu.alive("gpu_tests")


def test_a_process_that_dies_at_its_end_is_no_success(run_shards):
    found, _ = run_shards("exit")
    assert {"after this test: gpu_tests was ended by SIGSEGV"} == set(found.failed.values()) and len(found.failed) == 2


def test_tests_that_cannot_start_have_all_failed(run_shards, monkeypatch):
    monkeypatch.setenv("BREAK", "gpu_tests")
    found, left = run_shards("")
    assert len(found.failed) == 8 and not left and "something is wrong" in found.failed["On/Suite.A/Cuda"]


def test_check_names_the_tests_that_failed(gpu):
    done = gpu.check("--only", "tests", BAD="C=trap,F=skip")
    assert done.returncode == 1 and f"of {8 + len(SANITIZED_TESTS)} tests 1 failed, 1 skipped" in done.stdout
    page = (gpu.folder / "summary.txt").read_text()
    assert "On/Suite.C/Cuda: some_test.cpp:12: Expected equality" in page
    assert gpu.results("tests")["skipped"] == ["On/Suite.F/Cuda"]


def test_sanitizers_miss_no_test(gpu):
    """A test that was renamed would otherwise be left out silently."""
    texts = json.loads((gpu.tmp / "texts.json").read_text())
    texts["sanitized"] = texts["sanitized"].replace("RandomEnds", "Renamed")
    (gpu.tmp / "texts.json").write_text(json.dumps(texts))
    assert gpu.check("--only", "sanitizer-memcheck").returncode == 1
    assert "gpu_tests has no AdvantageTest.RandomEnds" in gpu.report()["stages"]["sanitizer-memcheck"]["problem"]


def test_a_large_number_that_takes_too_long_loses_itself(gpu):
    done = gpu.check("--only", "lander", "--limit", "12", HANG_AT="65536")
    assert done.returncode == 1 and "65536 environments: timed out" in done.stdout
    assert len(gpu.results("lander")["rows"]) == 1


# ---- machines on which it does not go so well ----


def test_check_starts_afresh_with_another_program(gpu):
    assert gpu.check("--only", "states,phases").returncode == 0
    with (gpu.tmp / "build" / "perilune").open("a") as program:
        program.write("# another build\n")
    done = gpu.check("--only", "states")
    assert "starting afresh" in done.stdout and "passed before" not in done.stdout
    assert list(gpu.report()["stages"]) == ["states"]


def test_check_without_tools_skips(gpu):
    for name in ("compute-sanitizer", "nsys", "ncu"):
        (gpu.path / name).unlink()
    if any(nsight.find_tool(name) for name in ("compute-sanitizer", "nsys", "ncu")):
        pytest.skip("this machine has the real ones")
    assert gpu.check("--only", "nsys,ncu,sanitizer-memcheck").returncode == 0
    assert {stage["status"] for stage in gpu.report()["stages"].values()} == {"skipped"}


def test_check_refuses_unknown_words(gpu):
    done = gpu.check("--only", "sweap")
    assert done.returncode == 2 and "did you mean sweep?" in done.stderr
    assert gpu.check("--arch", "hopper").returncode == 2
    assert "sanitizer-racecheck" in gpu.check("--list").stdout


def test_no_gpu(gpu):
    one_line(gpu.check(BREAK="nvidia-smi"), 3, "no GPU on this machine")


def test_a_gpu_without_nvidia_smi(gpu):
    """As in a container: the program knows the GPU."""
    done = gpu.check("--only", "states", BREAK="nvidia-smi", CUDA_STATUS="usable: NVIDIA H200, 139 GiB, sm_90")
    assert done.returncode == 0, done.stdout + done.stderr
    assert gpu.report()["gpus"][0]["name"] == "NVIDIA H200" and gpu.report()["gpus"][0]["compute_cap"] == "9.0"


def test_a_driver_too_old(gpu):
    one_line(
        gpu.check(CUDA_STATUS="no NVIDIA driver, or one older than this program's CUDA"), 3, "580.82.07", "older than"
    )


def test_a_program_that_does_not_start(gpu):
    one_line(gpu.check(BREAK="perilune"), 1, "perilune ended with 7: something is wrong")


def test_no_room_for_results(gpu):
    gpu.folder.write_text("a file, not a folder")
    one_line(gpu.check(), 1, f"cannot write to {gpu.folder}", "name another folder")


def test_a_result_that_cannot_be_written_is_shown_all_the_same(gpu):
    gpu.folder.mkdir()
    (gpu.folder / "throughput.json.new").mkdir()  # as a full disk: this file cannot be written
    done = gpu.check("--only", "headline,states")
    assert done.returncode == 1 and done.stdout.count("cannot write") == 1 and "train fp32" in done.stdout
    assert gpu.report()["stages"]["headline"]["status"] == "passed" and gpu.results("states")


# ---- the rehearsal ----


def test_rehearsal_runs_every_stage_with_the_real_programs(tmp_path):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "gpu-check", "--rehearse", tmp_path / "results", "--build", BUILD],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = {
        name: stage["status"]
        for name, stage in json.loads((tmp_path / "results" / "gpu-check.json").read_text())["stages"].items()
    }
    needs_cuda = {name for name in STAGES if name in ("tests", "libraries") or name.startswith("sanitizer")}
    assert statuses == {name: "passed" if CUDA or name not in needs_cuda else "skipped" for name in STAGES}
    assert time.monotonic() - started < 60
