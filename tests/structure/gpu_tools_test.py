"""tools/gpu-check and tools/profile on a machine that only looks as if it had a GPU: every tool they call is faked, and
answers in the format that the real one was seen to print. The rehearsal runs the real programs on the CPU."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
BUILD = Path(os.environ["PERILUNE_BUILD_DIR"])
CUDA = os.environ["PERILUNE_HAS_CUDA"] == "1"
sys.path.insert(0, str(ROOT / "tools"))
import nsight  # noqa: E402
from gpu_check import pack, shards, summary  # noqa: E402
from gpu_check.machine import Machine, Sizes  # noqa: E402
from gpu_check.rehearsal import KERNEL_CSV, NCU_CSV, RANGE_CSV  # noqa: E402
from gpu_check.stages import SANITIZED_TESTS, STAGES  # noqa: E402
from processes import run_process  # noqa: E402

TOOLS = ["nvidia-smi", "compute-sanitizer", "nsys", "ncu"]

# One script for every fake. BREAK names those that fail, HANG those that never end, BAD what tests do: "B=trap,C=hang".
FAKE = """#!{python}
import json, os, pathlib, signal, sys, time
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
def after(word, default=None):
    return words[words.index(word) + 1] if word in words else default
if name == "compute-sanitizer":
    print("========= COMPUTE-SANITIZER", flush=True)
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(json.dumps([name, os.getpid(), *words]) + "\\n")
texts = json.loads(pathlib.Path(os.environ["FAKE_TEXTS"]).read_text())
if name in os.environ.get("BREAK", "").split(","):
    print("something is wrong", file=sys.stderr)
    sys.exit(7)
if name in os.environ.get("HANG", "").split(",") and "--gtest_list_tests" not in words:
    time.sleep(60)
if after("--envs", "none") == os.environ.get("HANG_AT"):
    time.sleep(60)
if name == "nvidia-smi":
    print("NVIDIA H200, 580.82.07, 143771 MiB, 1980 MHz, " + os.environ.get("CAPABILITY", "9.0"))
elif name == "compute-sanitizer":
    at = next(i for i, word in enumerate(words) if os.access(word, os.X_OK))
    os.execv(words[at], words[at:])
elif name == "nsys" and words[0] == "stats":
    print(texts[after("--report")])
elif name == "nsys":
    pathlib.Path(after("-o")).write_text("")
elif name == "ncu":
    print(texts["ncu"])
elif name == "gpu_tests" and "--gtest_list_tests" in words:
    print("Running main() from gtest_main.cc\\nOn/Suite.")
    for test in "ABCDEFGH":
        print(f"  {{test}}/Cuda  # GetParam() = 0x55")
    print(texts["sanitized"])
elif name == "gpu_tests":
    bad = dict(pair.split("=") for pair in os.environ.get("BAD", "").split(",") if "=" in pair)
    chosen = next(word for word in words if "gtest_filter" in word).split("=")[1]
    lost = failed = False
    for test in chosen.split(":"):
        print("[ RUN      ] " + test, flush=True)
        kind = bad.get(test[9:10], "pass")
        if kind == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "hang":
            time.sleep(60)
        lost = lost or kind == "trap"
        if lost or kind == "fail":
            failed = True
            print("/src/tests/some_test.cpp:12: Failure\\nExpected equality of these values:\\n  " +
                  ("an unspecified launch failure" if lost else "one and two"))
            print(f"[  FAILED  ] {{test}}, where GetParam() = 0x55 (3 ms)", flush=True)
        else:
            print(f"[{{'  SKIPPED ' if kind == 'skip' else '       OK '}}] {{test}} (3 ms)", flush=True)
    if os.environ.get("BAD") == "exit":
        os.kill(os.getpid(), signal.SIGSEGV)
    sys.exit(failed)
elif name == "bench_kernels":
    states = "abc" if after("--device") == "cpu" else os.environ.get("STATES", "abc")
    print(json.dumps({{"states": states, "rows": []}}))
elif name == "bench_libraries":
    print(json.dumps({{"benchmark": "libraries", "rows": []}}))
elif name == "bench_throughput":
    rows = [{{"what": "train", "precision": "fp32", "num_envs": 1024, "steps_per_second": 5e8,
              "predicted_steps_per_second": float(os.environ.get("PREDICTED", "5e8"))}}]
    print(json.dumps({{"benchmark": "throughput", "device": "NVIDIA H200", "command": "bench_throughput",
                      "rows": rows}}))
elif name == "perilune" and words[0] == "--version":
    print("perilune 0.1.0 (fake)")
elif name == "perilune" and words[0] == "info":
    status = os.environ.get("CUDA_STATUS", "usable")
    print(json.dumps({{"devices": {{"cuda": {{"usable": status.startswith("usable"), "status": status}}}}}}))
elif name == "perilune" and words[0] == "profile":
    print(texts["profile"])
elif name == "perilune" and words[0] == "train":
    run = pathlib.Path(after("--run-dir"))
    run.mkdir(parents=True)
    other = after("--graph") == "off" or os.environ.get("PERILUNE_CUDA_OVERLAP") == "off"
    (run / "policy.safetensors").write_text(os.environ.get("OTHER", "same") if other else "same")
    print(json.dumps({{"device": "NVIDIA H200", "solved": True, "steps": 5120, "seconds": 0.02, "run_dir": str(run),
                      "eval": {{"mean": 500.0}}, "env": "CartPole-v1"}}))
elif name == "perilune" and words[0] == "list":
    print(json.dumps({{"environments": [{{"id": "CartPole-v1", "solved_return": 475.0}}]}}))
elif name == "perilune" and words[0] == "eval":
    print(json.dumps({{"mean": 500.0}}))
"""


@pytest.fixture
def gpu(tmp_path):
    """A folder `build`, a folder `bin` first on the PATH, and what was called."""
    program = os.environ["PERILUNE_PROGRAM"]
    own = json.loads(
        subprocess.run(
            [
                program,
                "profile",
                "--json",
                "--device",
                "cpu",
                "--threads",
                "1",
                "--iterations",
                "1",
                "--set",
                "num_envs=64",
                "--set",
                "num_steps=32",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    own["peak"].update(gpu=True, bytes_per_second=4.8e12)
    own["device"] = "NVIDIA H200"
    sanitized = "\n".join(f"On/{name.replace('.', '.' + chr(10) + '  ')}/Cuda" for name in SANITIZED_TESTS)
    texts = {
        "sanitized": sanitized,
        "ncu": NCU_CSV,
        "cuda_gpu_kern_sum": KERNEL_CSV,
        "nvtx_gpu_proj_sum": RANGE_CSV,
        "profile": json.dumps(own),
    }
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    for folder, names in {"build": pack.PROGRAMS, "bin": TOOLS}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            path = tmp_path / folder / name
            path.write_text(FAKE.format(python=sys.executable))
            path.chmod(0o755)

    class Gpu:
        folder = tmp_path / "results"

        def run(self, tool, *words, **changes):
            environment = {
                **os.environ,
                "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
                "FAKE_LOG": str(tmp_path / "log"),
                "FAKE_TEXTS": str(tmp_path / "texts.json"),
                **changes,
            }
            return subprocess.run(
                [sys.executable, ROOT / "tools" / tool, *map(str, words)],
                capture_output=True,
                text=True,
                env=environment,
                timeout=120,
            )

        def check(self, *words, **changes):
            return self.run("gpu-check", self.folder, "--build", tmp_path / "build", *words, **changes)

        def profile(self, *words, **changes):
            return self.run(
                "profile", "--program", tmp_path / "build" / "perilune", "--out", tmp_path / "out", *words, **changes
            )

        def report(self):
            return json.loads((self.folder / "gpu-check.json").read_text())

        def results(self, stage):
            return json.loads((self.folder / STAGES[stage].file).read_text())

        def log(self):
            log = tmp_path / "log"
            return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

        def calls(self, name):
            return [words for own, _, *words in self.log() if own == name]

        def alive(self, name):
            return [process for own, process, *_ in self.log() if own == name and Path(f"/proc/{process}").exists()]

        def shards(self, monkeypatch, bad):
            """What the tests' shards found where these tests are bad, and what did not run."""
            monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
            monkeypatch.setenv("FAKE_TEXTS", str(tmp_path / "texts.json"))
            monkeypatch.setenv("BAD", bad)
            monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
            machine = Machine(
                tmp_path / "build", self.folder, tmp_path, sizes=Sizes(quiet=3.0), deadline=time.monotonic() + 30
            )
            found = shards.Shards(machine, machine.program("gpu_tests"), {})
            return found, found.run([f"On/Suite.{test}/Cuda" for test in "ABCDEFGH"])

    Gpu.own, Gpu.path, Gpu.tmp = own, tmp_path / "bin", tmp_path
    return Gpu()


# ---- gpu-check: the stages ----


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
    environment = {
        **os.environ,
        "PATH": f"{gpu.path}:{os.environ['PATH']}",
        "FAKE_LOG": str(gpu.tmp / "log"),
        "FAKE_TEXTS": str(gpu.tmp / "texts.json"),
        "HANG": "bench_throughput",
    }
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
        env=environment,
    ) as process:
        while not gpu.calls("bench_throughput"):
            time.sleep(0.05)
        process.terminate()
        out = process.communicate(timeout=20)[0]
    assert process.returncode == 1 and "interrupted" in out and "passed: smoke" in out
    assert not gpu.alive("bench_throughput")
    assert gpu.report()["stages"]["smoke"]["status"] == "passed"


# ---- gpu-check: the tests' shards ----


def test_shards_run_every_test(gpu, monkeypatch):
    found, left = gpu.shards(monkeypatch, "")
    assert len(found.passed) == 8 and found.processes == 2 and not (left or found.failed or found.skipped)


def test_a_trap_fails_one_test(gpu, monkeypatch):
    """Those after it, in the process that has lost its context, pass in a fresh one."""
    found, left = gpu.shards(monkeypatch, "C=trap")
    assert list(found.failed) == ["On/Suite.C/Cuda"] and len(found.passed) == 7 and not left
    assert found.failed["On/Suite.C/Cuda"] == (
        "some_test.cpp:12: Expected equality of these values: an unspecified launch failure"
    )


@pytest.mark.parametrize(
    "kind, words", [("crash", "was ended by SIGSEGV in this test"), ("hang", "printed nothing for 3 s in this test")]
)
def test_a_process_that_dies_names_its_test(gpu, monkeypatch, kind, words):
    found, left = gpu.shards(monkeypatch, f"A={kind},D={kind},G=fail")
    assert sorted(found.failed) == [f"On/Suite.{test}/Cuda" for test in "ADG"] and len(found.passed) == 5 and not left
    assert words in found.failed["On/Suite.A/Cuda"] and "one and two" in found.failed["On/Suite.G/Cuda"]
    assert not gpu.alive("gpu_tests")


def test_a_process_that_dies_at_its_end_is_no_success(gpu, monkeypatch):
    found, _ = gpu.shards(monkeypatch, "exit")
    assert {"after this test: gpu_tests was ended by SIGSEGV"} == set(found.failed.values()) and len(found.failed) == 2


def test_tests_that_cannot_start_have_all_failed(gpu, monkeypatch):
    monkeypatch.setenv("BREAK", "gpu_tests")
    found, left = gpu.shards(monkeypatch, "")
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


# ---- gpu-check: machines on which it does not go so well ----


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


def one_line(done, status, *words):
    assert done.returncode == status, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


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


# ---- packs ----


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
