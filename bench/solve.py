#!/usr/bin/env python3
"""How long a preset takes to solve its environment: whole processes, several seeds, one JSON object.

  bench/solve.py [PRESET] [--seeds 1,2,3,4,5] [--program build/release/perilune] [--set key=value ...] [--confirm 1000]
                 [--gymnasium 0] [--sampled]

Each seed is one `perilune train PRESET` process; `seconds` is what it reports (start of the process to the end
of training, evaluations that decide to stop included) and `wall` what this script saw around it (program exit
included). After the clock, the policy plays `--confirm` more episodes here, and `--gymnasium` greedy ones in the real
environment (of a simplified lander: in the one it stands for); with `--sampled` as many again with sampled actions, as
some published scores are. Needs only Python's own library, and Gymnasium for the latter.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from harness import ROOT, ask, parser_of, processor, set_words


def play_in_gymnasium(run, episodes, seed, sampled):
    """Episodes of the run's policy in the real environment: greedy ones, and as many sampled ones if asked."""
    sys.path.insert(0, str(ROOT / "tests" / "gymnasium"))
    from real_policy import load_policy, play

    act, env_id = load_policy(run / "policy.safetensors")
    returns = play(env_id, act, episodes, seed=10000 * seed)
    scores = {
        "gymnasium_episodes": episodes,
        "gymnasium_mean": round(float(returns.mean()), 2),
        "gymnasium_std": round(float(returns.std()), 2),
        "gymnasium_min": round(float(returns.min()), 2),
    }
    if sampled:
        act, env_id = load_policy(run / "policy.safetensors", sample_with=seed)
        returns = play(env_id, act, episodes, seed=10000 * seed + 5000)
        scores["gymnasium_sampled_mean"] = round(float(returns.mean()), 2)
    return scores


def evaluate_here(options, run, seed, *arguments):
    """The mean return of --confirm episodes."""
    play = ["--episodes", options.confirm, "--seed", 1000003 + int(seed), "--device", options.device, *arguments]
    return ask(options.program, "eval", run, *play)["mean"]


def main():
    parser = parser_of(__doc__, "--program", "--device", "--set")
    parser.add_argument("preset", nargs="?", default="cartpole")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--confirm", type=int, default=1000, help="episodes of the evaluation outside the clock")
    parser.add_argument("--gymnasium", type=int, default=0, help="episodes in the real environment")
    parser.add_argument(
        "--sampled", action="store_true", help="the episodes outside the clock with sampled actions too"
    )
    options = parser.parse_args()
    settings = set_words(options.set)

    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds.split(","):
            run = Path(folder) / seed
            begin = time.perf_counter()
            place = ["--device", options.device, "--run-dir", run]
            words = ["train", options.preset, "--quiet", "--seed", seed, *place, *settings]
            result = ask(options.program, *words, name=f"seed {seed}")
            wall = time.perf_counter() - begin
            confirmed = {"confirmed_mean": evaluate_here(options, run, seed)}
            if options.sampled:
                confirmed["sampled_mean"] = evaluate_here(options, run, seed, "--sampled")
            there = (
                play_in_gymnasium(run, options.gymnasium, int(seed), options.sampled) if options.gymnasium > 0 else {}
            )
            runs.append(
                {
                    "seed": int(seed),
                    "solved": result["solved"],
                    "steps": result["steps"],
                    "seconds": result["seconds"],
                    "wall": round(wall, 4),
                    "eval_mean": result["eval"]["mean"],
                    **confirmed,
                    "device": result["device"],
                    **there,
                }
            )
    environment = result["env"]
    entries = ask(options.program, "list", "environments")["environments"]
    threshold = next(entry["solved_return"] for entry in entries if entry["id"] == environment)
    summary = {
        "benchmark": "solve",
        "preset": options.preset,
        "environment": environment,
        "device": runs[0]["device"],
        "processor": processor(),
        "command": " ".join(
            [
                "bench/solve.py",
                options.preset,
                "--seeds",
                options.seeds,
                *settings,
                *(["--confirm", str(options.confirm)] if options.confirm != parser.get_default("confirm") else []),
                *(["--gymnasium", str(options.gymnasium)] if options.gymnasium else []),
                *(["--sampled"] if options.sampled else []),
            ]
        ),
        "solved": sum(run["solved"] for run in runs),
        "runs": len(runs),
        "median_seconds": statistics.median(run["seconds"] for run in runs),
        "median_steps": statistics.median(run["steps"] for run in runs),
        "confirmed": sum(run["confirmed_mean"] >= threshold for run in runs),
        "rows": runs,
    }
    if options.gymnasium:
        summary["median_gymnasium_mean"] = statistics.median(run["gymnasium_mean"] for run in runs)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
