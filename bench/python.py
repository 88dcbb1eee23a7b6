#!/usr/bin/env python3
"""What Python costs: stepping beside Gymnasium's own CartPole, training beside the program, one call, the import.

  build/venv/bin/python bench/python.py [--package build/release/python] [--program build/release/perilune]
                                        [--seconds 0.5]

Prints one JSON object. Everything that is compared is measured in turns in one run, --repeat times; the best of each
counts. Needs the package (tools/test or pip installs it), and Gymnasium for the comparison.
"""

import json
import platform
import re
import subprocess
import sys
import tempfile
import time

from harness import ask, parser_of, processor, require, require_package, set_words

TRAINING = {
    "num_envs": 1024,
    "num_steps": 128,
    "hidden_width": 64,
    "hidden_layers": 2,
    "update_epochs": 4,
    "num_minibatches": 4,
    "total_timesteps": 1024 * 128 * 12,
    "eval_every": 0,
    "target_return": None,
    "precision": "fp32",
}


def seconds_per_step(envs, actions, seconds):
    """Of envs.step with actions made beforehand; results are dropped as a rollout would that keeps none."""
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for action in actions:
            envs.step(action)
        steps += len(actions)
    return (time.perf_counter() - begin) / steps


def stepping(gymnasium, np, num_envs, options):
    actions = [np.random.default_rng(seed).integers(2, size=num_envs) for seed in range(16)]
    batches = {
        "perilune": gymnasium.make_vec("perilune/CartPole-v1", num_envs=num_envs),
        "gymnasium": gymnasium.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode="vector_entry_point"),
    }
    best = dict.fromkeys(batches, float("inf"))
    for envs in batches.values():
        envs.reset(seed=1)
    for _ in range(options.repeat):
        for name, envs in batches.items():
            best[name] = min(best[name], seconds_per_step(envs, actions, options.seconds))
    for envs in batches.values():
        envs.close()
    return {
        "what": "step",
        "num_envs": num_envs,
        "seconds_per_call": best["perilune"],
        "steps_per_second": num_envs / best["perilune"],
        "gymnasium_steps_per_second": num_envs / best["gymnasium"],
        "ratio": best["gymnasium"] / best["perilune"],
    }


def training(perilune, options):
    words = set_words(f"{key}={'none' if value is None else value}" for key, value in TRAINING.items())
    here = program = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeat):
            run = perilune.train("cartpole", quiet=True, device="cpu", run_dir=f"{folder}/python{repeat}", **TRAINING)
            here = max(here, run.steps_per_second)
            place = ["--device", "cpu", "--run-dir", f"{folder}/program{repeat}"]
            done = ask(options.program, "train", "cartpole", "--quiet", *place, *words)
            program = max(program, done["steps_per_second"])
    return {"what": "train", "steps_per_second": here, "program_steps_per_second": program, "ratio": here / program}


def import_seconds(package):
    """Of `import perilune` in a process that has NumPy."""
    code = f"import sys; sys.path.insert(0, {str(package)!r}); import numpy, perilune"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    return int(re.search(r"\| +(\d+) \| perilune$", done.stderr, re.M).group(1)) / 1e6


def main():
    parser = parser_of(__doc__, "--package", "--program")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    perilune = require_package(options.package)
    gymnasium = require("gymnasium", "tools/setup --tests puts it into build/venv")
    import numpy as np

    rows = [stepping(gymnasium, np, num_envs, options) for num_envs in (1, 4096, 65536)]
    rows.append(training(perilune, options))
    rows.append({"what": "import", "seconds": min(import_seconds(options.package) for _ in range(options.repeat))})
    info = perilune.info()
    print(
        json.dumps(
            {
                "benchmark": "python",
                "device": f"{info['cpu_level']}, {info['threads']} threads",
                "processor": processor(),
                "commit": info["commit"],
                "python": platform.python_version(),
                "numpy": np.__version__,
                "gymnasium": gymnasium.__version__,
                "command": "bench/python.py",
                "rows": rows,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
