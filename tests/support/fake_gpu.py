"""A machine that only looks as if it had a GPU: every tool that tools/gpu-check and tools/profile call is faked, and
answers in the format that the real one was seen to print."""

import json
import os
import subprocess
import sys
from pathlib import Path

from gpu_check import pack
from gpu_check.rehearsal import KERNEL_CSV, NCU_CSV, RANGE_CSV
from gpu_check.stages import SANITIZED_TESTS, STAGES

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
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


class Gpu:
    """A machine that looks as if it had a GPU: a folder `build`, a folder `bin` first on the PATH, and what was
    called."""

    def __init__(self, folder):
        self.tmp, self.path, self.folder = folder, folder / "bin", folder / "results"
        short = ["--threads", "1", "--iterations", "1", "--set", "num_envs=64", "--set", "num_steps=32"]
        command = [os.environ["PERILUNE_PROGRAM"], "profile", "--json", "--device", "cpu", *short]
        self.own = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        self.own["peak"].update(gpu=True, bytes_per_second=4.8e12)
        self.own["device"] = "NVIDIA H200"
        texts = {
            "sanitized": "\n".join(f"On/{name.replace('.', '.' + chr(10) + '  ')}/Cuda" for name in SANITIZED_TESTS),
            "ncu": NCU_CSV,
            "cuda_gpu_kern_sum": KERNEL_CSV,
            "nvtx_gpu_proj_sum": RANGE_CSV,
            "profile": json.dumps(self.own),
        }
        (self.tmp / "texts.json").write_text(json.dumps(texts))
        for place, names in {"build": pack.PROGRAMS, "bin": TOOLS}.items():
            (self.tmp / place).mkdir()
            for name in names:
                path = self.tmp / place / name
                path.write_text(FAKE.format(python=sys.executable))
                path.chmod(0o755)

    def environment(self, **changes):
        own = {
            "PATH": f"{self.path}:{os.environ['PATH']}",
            "FAKE_LOG": str(self.tmp / "log"),
            "FAKE_TEXTS": str(self.tmp / "texts.json"),
        }
        return {**os.environ, **own, **changes}

    def run(self, tool, *words, **changes):
        return subprocess.run(
            [sys.executable, ROOT / "tools" / tool, *map(str, words)],
            capture_output=True,
            text=True,
            env=self.environment(**changes),
            timeout=120,
        )

    def check(self, *words, **changes):
        return self.run("gpu-check", self.folder, "--build", self.tmp / "build", *words, **changes)

    def profile(self, *words, **changes):
        place = ["--program", self.tmp / "build" / "perilune", "--out", self.tmp / "out"]
        return self.run("profile", *place, *words, **changes)

    def report(self):
        return json.loads((self.folder / "gpu-check.json").read_text())

    def results(self, stage):
        return json.loads((self.folder / STAGES[stage].file).read_text())

    def log(self):
        log = self.tmp / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def calls(self, name):
        return [words for own, _, *words in self.log() if own == name]

    def alive(self, name):
        return [process for own, process, *_ in self.log() if own == name and Path(f"/proc/{process}").exists()]


def one_line(done, status, *words):
    assert done.returncode == status, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
