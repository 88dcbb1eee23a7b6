"""tools/gpu-check and tools/profile on a machine that only looks as if it had a GPU: every tool they call is faked, and
answers in the format that the real one was seen to print."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
sys.path.insert(0, str(ROOT / "tools"))
import nsight  # noqa: E402

NCU_CSV = '''==PROF== Connected to process 4711 (perilune)
{"a line": "of the program's own"}
"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC","dram__bytes.sum","gpu__time_duration.sum","launch__registers_per_thread","sm__throughput.avg.pct_of_peak_sustained_elapsed","sm__warps_active.avg.pct_of_peak_sustained_active","smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio","smsp__average_warps_issue_stalled_barrier_not_issued_per_issue_active.ratio","smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio"
"","","","","","","","","","","","Mbyte","usecond","register/thread","%","%","inst","inst","inst"
"0","4711","perilune","h","void run_kernel<Rollout<CartPole, 64>, 64, 0, RolloutArgs>(T4)","1","7","(64, 1, 1)","(256, 1, 1)","0","9.0","80.5","1,200.5","96","61.5","24.75","0.5","9","1.5"
"1","4711","perilune","h","void run_kernel<Update<CartPole, 64>, 64, 0, UpdateArgs>(T4)","1","7","(64, 1, 1)","(528, 1, 1)","0","9.0","40","500","128","70","20","1","9","1"
"2","4711","perilune","h","void run_kernel<Update<CartPole, 64>, 64, 0, UpdateArgs>(T4)","1","7","(64, 1, 1)","(528, 1, 1)","0","9.0","42","700","128","70","22","1","9","1"
"3","4711","perilune","h","void run_kernel<ReduceGradients, 256, 0, ReduceGradientsArgs>(T4)","1","7","(256, 1, 1)","(36, 1, 1)","0","9.0","10","n/a","32","5","50","0","0","2"
'''
KERNEL_CSV = '''Processing [perilune.sqlite] with [cuda_gpu_kern_sum.py]...
Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
90.0,16000000,16,1000000.0,990000.0,900000,1100000,100.0,"void run_kernel<Update<CartPole, 64>, 64, 0, UpdateArgs>(T4)"
8.0,2400000,2,1200000.0,1200000.0,1200000,1200000,0.0,"void run_kernel<Rollout<CartPole, 64>, 64, 0, RolloutArgs>(T4)"

'''
RANGE_CSV = '''Range,Style,Total Proj Time (ns),Total Range Time (ns),Range Instances,Proj Avg (ns),Proj Med (ns),Proj Min (ns),Proj Max (ns),Proj StdDev (ns),Total GPU Ops,Avg GPU Ops,Avg Range Lvl,Avg Num Child
perilune:rollout,PushPop,2600000,100000,2,1300000.0,1300000.0,1,2,0.0,2,1.0,1.0,0.0
perilune:gradient,PushPop,17600000,100000,16,1100000.0,1100000.0,1,2,0.0,16,1.0,2.0,0.0
'''

# One script for every fake; BREAK names those that fail, HANG those that never end.
FAKE = '''#!{python}
import json, os, pathlib, sys, time
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(json.dumps([name, *words]) + "\\n")
texts = json.loads(pathlib.Path(os.environ["FAKE_TEXTS"]).read_text())
if name in os.environ.get("BREAK", "").split(","):
    print("something is wrong", file=sys.stderr)
    sys.exit(7)
if name in os.environ.get("HANG", "").split(","):
    time.sleep(60)
def after(word, default=None):
    return words[words.index(word) + 1] if word in words else default
if name == "nvidia-smi":
    print("NVIDIA H200, 580.82.07, 143771 MiB, 1980 MHz, 9.0")
elif name == "compute-sanitizer":
    at = next(i for i, word in enumerate(words) if os.access(word, os.X_OK))
    os.execv(words[at], words[at:])
elif name == "nsys" and words[0] == "stats":
    print(texts[after("--report")])
elif name == "nsys":
    pathlib.Path(after("-o")).write_text("")
elif name == "ncu":
    print(texts["ncu"])
elif name == "gpu_tests":
    if any("gtest_output" in word for word in words):
        path = next(word for word in words if "gtest_output" in word).split(":", 1)[1]
        pathlib.Path(path).write_text(json.dumps({{"tests": 30, "failures": 0, "errors": 0, "disabled": 0}}))
elif name == "bench_kernels":
    states = "abc" if after("--device") == "cpu" else os.environ.get("STATES", "abc")
    print(json.dumps({{"states": states, "rows": []}}))
elif name == "bench_throughput":
    print(json.dumps({{"benchmark": "throughput", "rows": [{{"what": "train", "num_envs": 1024}}]}}))
elif name == "perilune" and words[0] == "--version":
    print("perilune 0.1.0 (fake)")
elif name == "perilune" and words[0] == "info":
    print(json.dumps({{"devices": {{"cuda": {{"usable": True, "status": "usable"}}}}}}))
elif name == "perilune" and words[0] == "profile":
    print(texts["profile"])
elif name == "perilune" and words[0] == "train":
    run = pathlib.Path(after("--run-dir"))
    run.mkdir(parents=True)
    (run / "policy.safetensors").write_text(os.environ.get("EAGER", "same") if after("--graph") == "off" else "same")
    print(json.dumps({{"device": "NVIDIA H200", "solved": True, "steps": 5120, "seconds": 0.02, "run_dir": str(run),
                      "eval": {{"mean": 500.0}}, "env": "CartPole-v1"}}))
elif name == "perilune" and words[0] == "list":
    print(json.dumps({{"environments": [{{"id": "CartPole-v1", "solved_return": 475.0}}]}}))
elif name == "perilune" and words[0] == "eval":
    print(json.dumps({{"mean": 500.0}}))
'''


@pytest.fixture
def gpu(tmp_path):
    """A folder `build`, a folder `bin` first on the PATH, and what was called."""
    program = os.environ["PERILUNE_PROGRAM"]
    own = json.loads(subprocess.run([program, "profile", "--json", "--device", "cpu", "--threads", "1", "--iterations", "1",
                                     "--set", "num_envs=64", "--set", "num_steps=32"], capture_output=True, text=True,
                                    check=True).stdout)
    own["peak"].update(gpu=True, bytes_per_second=4.8e12)
    own["device"] = "NVIDIA H200"
    texts = {"ncu": NCU_CSV, "cuda_gpu_kern_sum": KERNEL_CSV, "nvtx_gpu_proj_sum": RANGE_CSV, "profile": json.dumps(own)}
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    for folder, names in {"build": ["perilune", "gpu_tests", "bench_kernels", "bench_throughput"],
                          "bin": ["nvidia-smi", "compute-sanitizer", "nsys", "ncu"]}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            path = tmp_path / folder / name
            path.write_text(FAKE.format(python=sys.executable))
            path.chmod(0o755)

    class Gpu:
        folder = tmp_path / "results"

        def run(self, tool, *words, **changes):
            environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
                           "FAKE_LOG": str(tmp_path / "log"), "FAKE_TEXTS": str(tmp_path / "texts.json"), **changes}
            return subprocess.run([sys.executable, ROOT / "tools" / tool, *map(str, words)], capture_output=True,
                                  text=True, env=environment, timeout=120)

        def check(self, *words, **changes):
            return self.run("gpu-check", self.folder, "--build", tmp_path / "build", *words, **changes)

        def profile(self, *words, **changes):
            return self.run("profile", "--program", tmp_path / "build" / "perilune", "--out", tmp_path / "out", *words,
                            **changes)

        def report(self):
            return json.loads((self.folder / "gpu-check.json").read_text())

        def calls(self, name):
            log = tmp_path / "log"
            calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
            return [words for own, *words in calls if own == name]

    Gpu.own, Gpu.path, Gpu.tmp = own, tmp_path / "bin", tmp_path
    return Gpu()


# ---- gpu-check ----

def test_check_runs_every_stage_once(gpu):
    done = gpu.check()
    assert done.returncode == 0, done.stdout + done.stderr
    report = gpu.report()
    assert report["ok"] is True and report["gpus"][0]["name"] == "NVIDIA H200"
    assert {stage["status"] for stage in report["stages"].values()} == {"passed"}
    assert report["stages"]["gpu-tests"]["results"]["tests"] == 30
    assert len(set(report["stages"]["equal"]["results"].values())) == 1
    assert len(report["stages"]["sweep"]["results"]) == 9
    assert report["stages"]["nsight"]["results"]["phases"][0]["source"] == "nsys"
    assert [words[1] for words in gpu.calls("compute-sanitizer")][::2] == ["memcheck", "racecheck", "initcheck", "synccheck"]
    for name in ("throughput.json", "solve_cartpole.json"):  # what README's tables are made of
        assert json.loads((gpu.folder / name).read_text())["benchmark"] in ("throughput", "solve")
    before = len(gpu.calls("bench_throughput"))
    again = gpu.check()
    assert again.returncode == 0 and again.stdout.count("passed before") == len(report["stages"])
    assert len(gpu.calls("bench_throughput")) == before
    assert gpu.check("--redo", "--only", "throughput").returncode == 0
    assert len(gpu.calls("bench_throughput")) == before + 1


def test_check_goes_on_after_a_failure_and_repeats_only_that(gpu):
    done = gpu.check(BREAK="gpu_tests")
    assert done.returncode == 1 and "gpu-tests" in done.stdout.splitlines()[-1]
    stages = gpu.report()["stages"]
    assert stages["gpu-tests"]["status"] == "failed" and "ended with 7" in stages["gpu-tests"]["problem"]
    assert "something is wrong" in stages["gpu-tests"]["output"]
    assert stages["solve"]["status"] == "passed" and stages["sanitizer-memcheck"]["status"] == "failed"
    before = len(gpu.calls("bench_throughput"))
    assert gpu.check().returncode == 0
    assert gpu.report()["ok"] is True and len(gpu.calls("bench_throughput")) == before


def test_check_keeps_what_a_failing_stage_found(gpu):
    assert gpu.check("--only", "equal", EAGER="other").returncode == 1
    assert "different policies" in gpu.report()["stages"]["equal"]["problem"]
    assert gpu.check("--only", "states", STATES="xyz").returncode == 1
    assert "xyz" in gpu.report()["stages"]["states"]["problem"]


def test_check_ends_in_time(gpu):
    done = gpu.check("--limit", "8", HANG="gpu_tests,bench_kernels")
    assert done.returncode == 1
    stages = gpu.report()["stages"]
    assert stages["gpu-tests"]["status"] == "failed" and "timed out" in stages["gpu-tests"]["problem"]
    assert stages["gpu-tests"]["seconds"] < 10
    assert {stages[name]["status"] for name in ("solve", "sanitizer-synccheck")} == {"left out"}


def test_check_starts_afresh_with_another_program(gpu):
    assert gpu.check("--only", "build-info,states").returncode == 0
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
    assert gpu.check("--only", "nsight,sanitizer-memcheck").returncode == 0
    assert {stage["status"] for stage in gpu.report()["stages"].values()} == {"skipped"}


def test_check_refuses_unknown_stages(gpu):
    done = gpu.check("--only", "sweap")
    assert done.returncode == 2 and "did you mean sweep?" in done.stderr
    assert "sanitizer-racecheck" in gpu.check("--list").stdout


def test_check_packs_what_it_runs(gpu):
    missing = [name for name in ("perilune", "gpu_tests", "bench_kernels", "bench_throughput")
               if not (ROOT / "build" / "release" / name).exists()]
    done = gpu.run("gpu-check", "--pack", gpu.tmp / "carried.tar.xz")
    if missing:
        assert done.returncode == 1 and missing[0] in done.stderr
    else:
        assert done.returncode == 0 and (gpu.tmp / "carried.tar.xz").stat().st_size < 40 << 20


def test_check_runs_an_archive(gpu):
    with tarfile.open(gpu.tmp / "carried.tar.xz", "w:xz") as tar:
        for path in (gpu.tmp / "build").iterdir():
            tar.add(path, path.name)
    done = gpu.run("gpu-check", gpu.folder, "--build", gpu.tmp / "carried.tar.xz", "--only", "build-info,states,solve")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {stage["status"] for stage in gpu.report()["stages"].values()} == {"passed"}


# ---- profile ----

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
    assert report["kernels"][0]["seconds"] == pytest.approx(1200.5e-6)
    assert "seconds" not in report["kernels"][3]  # "n/a"
    assert sum(row["share"] for row in report["phases"]) == pytest.approx(1.0)
    assert json.loads((gpu.tmp / "out" / "profile.json").read_text()) == report


def test_profile_runs_the_command_lines_of_the_program(gpu):
    assert gpu.profile().returncode == 0
    nsys, ncu = gpu.calls("nsys")[0], gpu.calls("ncu")[0]
    assert nsys[0] == "profile" and "--cuda-graph-trace=node" in nsys and nsys[nsys.index("-c") + 1] == "cudaProfilerApi"
    assert nsys[nsys.index("-o") + 1].startswith(str(gpu.tmp))
    assert ncu[:3] == ["--csv", "--page", "raw"] and "-o" not in ncu
    assert [ncu[i + 1] for i, word in enumerate(ncu) if word == "--nvtx-include"] == [
        "perilune@rollout/", "perilune@gae/", "perilune@update/"]
    for words in (nsys, ncu):
        assert "num_envs=64" in words and words[words.index("--device") + 1] == "cuda"


def test_profile_table(gpu):
    text = gpu.profile().stdout
    assert "NVIDIA H200" in text and "long_scoreboard 75%" in text and "25%" in text
    assert max(map(len, text.splitlines()[1:])) <= 120


def test_profile_says_which_tool_failed(gpu):
    done = gpu.profile("--json", BREAK="ncu")
    assert done.returncode == 1 and "ncu failed with 7: something is wrong" in done.stderr
    assert json.loads(done.stdout)["phases"][0]["source"] == "nsys"


def test_profile_without_nsight_or_gpu_shows_the_program(gpu):
    (gpu.path / "nsys").unlink()
    (gpu.path / "ncu").unlink()
    if not nsight.find_tool("nsys") and not nsight.find_tool("ncu"):
        done = gpu.profile("--json")
        assert done.returncode == 0 and "not installed" in done.stderr
        assert json.loads(done.stdout)["phases"] == gpu.own["phases"]
    done = subprocess.run([ROOT / "tools" / "profile", "--program", os.environ["PERILUNE_PROGRAM"], "--iterations", "1"],
                          capture_output=True, text=True)
    if "no GPU here" in done.stderr:
        assert done.returncode == 0 and "rollout" in done.stdout and "bound by" in done.stdout


@pytest.mark.parametrize("words", [["--iterations", "0"], ["--nonsense"]])
def test_profile_refuses(gpu, words):
    assert gpu.profile(*words).returncode == 2


def test_profile_of_a_program_that_is_not_there(gpu):
    done = gpu.run("profile", "--program", gpu.tmp / "missing")
    assert done.returncode == 1 and "missing" in done.stderr
