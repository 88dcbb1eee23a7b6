#!/usr/bin/env python3
"""How long a preset takes to solve its environment: whole processes, several seeds, one JSON object.

  bench/solve.py [PRESET] [--seeds 1,2,3,4,5] [--program build/release/perilune] [--set key=value ...] [--confirm 1000]

Each seed is one `perilune train PRESET --json` process; `seconds` is what it reports (start of the process to the end of
training, evaluations that decide to stop included) and `wall` what this script saw around it (program exit included).
After the clock, the policy plays `--confirm` more episodes. Needs only Python's own library.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", default="cartpole")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "release" / "perilune")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--confirm", type=int, default=1000, help="episodes of the evaluation outside the clock")
    options = parser.parse_args()
    settings = [word for pair in options.set for word in ("--set", pair)]

    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds.split(","):
            run = Path(folder) / seed
            begin = time.perf_counter()
            process = subprocess.run([options.program, "train", options.preset, "--json", "--quiet", "--seed", seed,
                                      "--device", options.device, "--run-dir", run, *settings],
                                     capture_output=True, text=True)
            wall = time.perf_counter() - begin
            if process.returncode != 0:
                sys.exit(f"seed {seed} failed with {process.returncode}: {process.stderr.strip()}")
            result = json.loads(process.stdout)
            confirm = subprocess.run([options.program, "eval", run, "--json", "--episodes", str(options.confirm),
                                      "--seed", str(1000003 + int(seed)), "--device", options.device],
                                     capture_output=True, text=True, check=True)
            runs.append({"seed": int(seed), "solved": result["solved"], "steps": result["steps"],
                         "seconds": result["seconds"], "wall": round(wall, 4), "eval_mean": result["eval"]["mean"],
                         "confirmed_mean": json.loads(confirm.stdout)["mean"], "device": result["device"]})
    summary = {
        "benchmark": "solve", "preset": options.preset, "device": runs[0]["device"], "processor": processor(),
        "command": " ".join(["bench/solve.py", options.preset, "--seeds", options.seeds, *settings]),
        "solved": sum(run["solved"] for run in runs), "runs": len(runs),
        "median_seconds": statistics.median(run["seconds"] for run in runs),
        "median_steps": statistics.median(run["steps"] for run in runs),
        "confirmed_at_least_475": sum(run["confirmed_mean"] >= 475 for run in runs),
        "rows": runs,
    }
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
