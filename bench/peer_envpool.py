#!/usr/bin/env python3
"""Steps per second of EnvPool's LunarLander beside Perilune's landers, through the Python interface of both.

  python bench/peer_envpool.py [--package build/release/python] [--seconds 2] [--threads N]

Both step batches with random actions, NEXT_STEP autoreset or what EnvPool has instead; they are measured in turns,
--repeat times, and the best of each counts. EnvPool is measured with several batch sizes, its best one counts. Prints
one JSON object. Needs the package and EnvPool (pip install envpool).
"""

import json
import os
import sys
import time

import numpy as np

from harness import command_line, parser_of, processor

OURS = {
    "exact": ("LunarLander-v3", {}),
    "fast": ("LunarLander-v3", {"fast_solver": True}),
    "simplified": ("Lander-v0", {}),
}


def rate(step, num_envs, seconds):
    """Steps of single environments per second; step takes actions [N]."""
    rng = np.random.default_rng(1)
    actions = [rng.integers(0, 4, num_envs).astype(np.int32) for _ in range(8)]
    for some in actions:
        step(some)
    calls, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        for some in actions:
            step(some)
        calls += len(actions)
    return calls * num_envs / spent


def ours(environment, parameters, num_envs, threads):
    import perilune

    envs = perilune.VectorEnv(environment, num_envs, threads=threads, **parameters)
    envs.reset(seed=1)
    return envs.step


def theirs(num_envs, threads):
    import envpool

    envs = envpool.make("LunarLander-v3", env_type="gymnasium", num_envs=num_envs, num_threads=threads)
    envs.reset()
    return envs.step


def main():
    parser = parser_of(__doc__, "--package")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    sys.path.insert(0, str(options.package))

    subjects = {f"envpool {n}": (n, theirs(n, options.threads)) for n in (16, 64, 256)}
    subjects |= {
        name: (1024, ours(environment, parameters, 1024, options.threads))
        for name, (environment, parameters) in OURS.items()
    }
    rates = dict.fromkeys(subjects, 0.0)
    for _ in range(options.repeat):
        for name, (num_envs, step) in subjects.items():
            rates[name] = max(rates[name], rate(step, num_envs, options.seconds))
    reference = max(value for name, value in rates.items() if name.startswith("envpool"))
    rows = [
        {
            "solver": name,
            "environment": OURS[name][0],
            "num_envs": 1024,
            "steps_per_second": round(rates[name]),
            "ratio": round(rates[name] / reference, 2),
        }
        for name in OURS
    ]
    import envpool

    import perilune

    print(
        json.dumps(
            {
                "benchmark": "envpool",
                "processor": processor(),
                "device": perilune.info()["device"],
                "threads": options.threads,
                "command": command_line(),
                "envpool": envpool.__version__,
                "envpool_steps_per_second": round(reference),
                "envpool_by_num_envs": {
                    name.split()[1]: round(value) for name, value in rates.items() if name.startswith("envpool")
                },
                "rows": rows,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
