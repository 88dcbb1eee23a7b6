#!/usr/bin/env python3
"""Whether every precision learns as well as fp32: presets over several seeds in each precision, one JSON object.

  bench/precision.py [PRESET ...] [--seeds 1,2,...] [--precisions fp32,bf16] [--program build/release/perilune]
                     [--set key=value ...] [--threads 1]

Each seed is one `perilune train PRESET` process with an evaluation of 100 greedy episodes at its end.
`training_return` is the mean episodic return over all iterations of the run: the area under the learning curve, which
still tells runs apart that all end at the highest score. Precisions not named are those that `perilune info` says this
machine has. Differences are to the first precision, standard errors over seeds. Needs only Python's own library.
"""

import json
import statistics
import tempfile
from pathlib import Path

from harness import ask, command_line, parser_of, processor, set_words


def precisions_of(program):
    info = ask(program, "info")
    return next(one["precisions"] for one in info["instances"] if one["env"] == "CartPole-v1")


def train(options, preset, precision, seed, folder):
    run = Path(folder) / f"{preset}-{precision}-{seed}"
    result = ask(
        options.program,
        "train",
        preset,
        *("--quiet", "--seed", seed, "--device", options.device, "--threads", options.threads, "--run-dir", run),
        *set_words([f"precision={precision}", *options.set]),
        name=f"{preset}, {precision}, seed {seed}",
    )
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
    parser = parser_of(__doc__, "--program", "--device", "--set")
    parser.add_argument("presets", nargs="*", default=["cartpole-zoo", "cartpole-cleanrl"], metavar="PRESET")
    parser.add_argument("--seeds", default="1,2,3,4,5,6,7,8,9,10")
    parser.add_argument("--precisions")
    parser.add_argument("--threads", default="1", help="of each process; results do not depend on it")
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
        "command": command_line(),
        "rows": table,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
