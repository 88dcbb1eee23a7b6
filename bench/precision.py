#!/usr/bin/env python3
"""Whether every precision learns as well as fp32: presets over several seeds in each precision, one JSON object.

  bench/precision.py [PRESET ...] [--seeds 1,2,...] [--precisions fp32,bf16] [--program build/release/perilune]
                     [--set key=value ...] [--threads 1]

Each seed is one `perilune train PRESET` process with an evaluation of 100 greedy episodes at its end.
`training_return` is the mean episodic return over all iterations of the run: the area under the learning curve, which
still tells runs apart that all end at the highest score. Precisions not named are those that `perilune info` says this
machine has. Differences are to the first precision, standard errors over seeds. Needs only Python's own library.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def precisions_of(program):
    info = json.loads(subprocess.run([program, "info", "--json"], capture_output=True, text=True, check=True).stdout)
    return next(one["precisions"] for one in info["instances"] if one["env"] == "CartPole-v1")


def train(options, preset, precision, seed, folder):
    run = Path(folder) / f"{preset}-{precision}-{seed}"
    settings = [word for pair in options.set for word in ("--set", pair)]
    process = subprocess.run(
        [
            options.program,
            "train",
            preset,
            "--json",
            "--quiet",
            "--seed",
            seed,
            "--device",
            options.device,
            "--threads",
            options.threads,
            "--run-dir",
            run,
            "--set",
            f"precision={precision}",
            *settings,
        ],
        capture_output=True,
        text=True,
    )
    if process.returncode != 0:
        sys.exit(f"{preset}, {precision}, seed {seed} failed with {process.returncode}: {process.stderr.strip()}")
    result = json.loads(process.stdout)
    returns = [json.loads(line).get("charts/episodic_return") for line in (run / "metrics.jsonl").open()]
    return {
        "seed": int(seed),
        "eval_mean": result["eval"]["mean"],
        "training_return": round(statistics.fmean(x for x in returns if x is not None), 3),
        "seconds": round(result["seconds"], 4),
        "device": result["device"],
    }


def summary(rows, key):
    values = [row[key] for row in rows]
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"mean": round(statistics.fmean(values), 3), "standard_error": round(error, 3)}


def difference(a, b):
    return {
        "mean": round(a["mean"] - b["mean"], 3),
        "standard_error": round((a["standard_error"] ** 2 + b["standard_error"] ** 2) ** 0.5, 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=["cartpole-zoo", "cartpole-cleanrl"], metavar="PRESET")
    parser.add_argument("--seeds", default="1,2,3,4,5,6,7,8,9,10")
    parser.add_argument("--precisions")
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "release" / "perilune")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", default="1", help="of each process; results do not depend on it")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    precisions = options.precisions.split(",") if options.precisions else precisions_of(options.program)

    table = []
    with tempfile.TemporaryDirectory() as folder:
        for preset in options.presets:
            runs = {precision: [] for precision in precisions}
            for seed in options.seeds.split(","):  # precisions in turn, so that their seconds compare
                for precision in precisions:
                    runs[precision].append(train(options, preset, precision, seed, folder))
            device = runs[precisions[0]][0]["device"]
            for precision, rows in runs.items():
                row = {"preset": preset, "precision": precision, "runs": len(rows)}
                for key in ("eval_mean", "training_return"):
                    row[key] = summary(rows, key)
                    if precision != precisions[0]:
                        row[f"{key}_difference"] = difference(row[key], summary(runs[precisions[0]], key))
                row["median_seconds"] = statistics.median(run["seconds"] for run in rows)
                row["seeds"] = [{key: run[key] for key in run if key != "device"} for run in rows]
                table.append(row)
    result = {
        "benchmark": "precision",
        "device": device,
        "processor": processor(),
        "command": " ".join(["bench/precision.py", *sys.argv[1:]]),
        "rows": table,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
