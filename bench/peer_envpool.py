#!/usr/bin/env python3
"""Steps per second of EnvPool's LunarLander and BipedalWalker beside Perilune's, through the Python interface of both.

  python bench/peer_envpool.py [--package build/release/python] [--seconds 2] [--threads N]

Both step batches with random actions, NEXT_STEP autoreset or what EnvPool has instead; they are measured in turns,
--repeat times, and the best of each counts. EnvPool is measured with several batch sizes, its best one counts. Prints
one JSON object. Needs the package, which tools/test puts there, and EnvPool, best in an environment of its own
(pip install envpool "numpy<2").
"""

import json
import os
import time

import numpy as np

from harness import command_line, parser_of, processor, require, require_package

ACTIONS = {
    "LunarLander-v3": lambda rng, num_envs: rng.integers(0, 4, num_envs).astype(np.int32),
    "BipedalWalker-v3": lambda rng, num_envs: rng.uniform(-1, 1, (num_envs, 4)).astype(np.float32),
}
# EnvPool's environment, our name for what stands beside it, our environment and its parameters.
OURS = [
    ("LunarLander-v3", "exact", "LunarLander-v3", {}),
    ("LunarLander-v3", "fast", "LunarLander-v3", {"fast_solver": True}),
    ("LunarLander-v3", "simplified", "Lander-v0", {}),
    ("BipedalWalker-v3", "exact", "BipedalWalker-v3", {}),
]


def rate(step, actions_of, num_envs, seconds):
    """Steps of single environments per second."""
    rng = np.random.default_rng(1)
    actions = [actions_of(rng, num_envs) for _ in range(8)]
    for some in actions:
        step(some)
    calls, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        for some in actions:
            step(some)
        calls += len(actions)
    return calls * num_envs / spent


def ours(perilune, environment, parameters, num_envs, threads):
    envs = perilune.VectorEnv(environment, num_envs, threads=threads, **parameters)
    envs.reset(seed=1)
    return envs.step


def theirs(envpool, environment, num_envs, threads):
    envs = envpool.make(environment, env_type="gymnasium", num_envs=num_envs, num_threads=threads)
    envs.reset()
    return envs.step


def measure(perilune, envpool, environment, options):
    """EnvPool's rates of an environment by the number of environments, and a row for each of ours beside its best."""
    subjects = {n: (n, theirs(envpool, environment, n, options.threads)) for n in (16, 64, 256)}
    beside = [row[1:] for row in OURS if row[0] == environment]
    for name, own, parameters in beside:
        subjects[name] = 1024, ours(perilune, own, parameters, 1024, options.threads)
    rates = dict.fromkeys(subjects, 0.0)
    for _ in range(options.repeat):
        for name, (num_envs, step) in subjects.items():
            rates[name] = max(rates[name], rate(step, ACTIONS[environment], num_envs, options.seconds))
    peers = {n: round(value) for n, value in rates.items() if isinstance(n, int)}
    rows = [
        {
            "solver": name,
            "environment": own,
            "num_envs": 1024,
            "steps_per_second": round(rates[name]),
            "peer": environment,
            "peer_steps_per_second": max(peers.values()),
            "ratio": round(rates[name] / max(peers.values()), 2),
        }
        for name, own, _ in beside
    ]
    return peers, rows


def main():
    parser = parser_of(__doc__, "--package")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    perilune = require_package(options.package)
    envpool = require("envpool", 'pip install envpool "numpy<2", best in an environment of its own')

    results = {environment: measure(perilune, envpool, environment, options) for environment in ACTIONS}

    print(
        json.dumps(
            {
                "benchmark": "envpool",
                "processor": processor(),
                "device": perilune.info()["device"],
                "threads": options.threads,
                "command": command_line(),
                "envpool": envpool.__version__,
                "envpool_by_num_envs": {environment: peers for environment, (peers, _) in results.items()},
                "rows": [row for _, rows in results.values() for row in rows],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
