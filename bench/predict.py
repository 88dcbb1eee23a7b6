#!/usr/bin/env python3
"""What the performance model says of a GPU that need not be here: 2x64 tanh, 128 steps, 4 epochs of 4 minibatches.

  bench/predict.py GPU [--program build/release/perilune] > bench/results/GPU-predicted/model.json

No row was measured; tools/gpu-check writes measured ones, with the prediction beside each. The model itself is
host/planning/performance_model.cpp: this only asks `perilune profile --predict`. Needs only Python's own library.
"""

import json

from harness import ask, parser_of, set_words

SETTINGS = ["num_steps=128", "num_minibatches=4", "update_epochs=4", "hidden_width=64", "hidden_layers=2"]
# What rows call an environment: its preset and settings.
ENVIRONMENTS = {
    "CartPole-v1": ["cartpole"],
    "LunarLander-v3, exact": ["lunar-lander", "--set", "env.fast_solver=0"],
    "LunarLander-v3, fast": ["lunar-lander", "--set", "env.fast_solver=1"],
    "Lander-v0": ["lander"],
}


def rounded(x):
    return float(f"{x:.4g}") if isinstance(x, float) else x


def main():
    parser = parser_of(__doc__, "--program")
    parser.add_argument("gpu")
    options = parser.parse_args()
    train, simulate = [], []
    for environment, task in ENVIRONMENTS.items():
        for envs in (4096, 16384, 65536):
            for precision in ("fp32", "tf32", "bf16"):
                settings = set_words([*SETTINGS, f"num_envs={envs}", f"precision={precision}"])
                told = ask(options.program, "profile", *task, "--predict", options.gpu, *settings)
                seconds = told["seconds_per_iteration"]["predicted"]
                phases = {
                    row["phase"]: {"seconds": rounded(row["predicted_seconds"]), "bound": row["bound"]}
                    for row in told["phases"]
                }
                train.append(
                    {
                        "environment": environment,
                        "num_envs": envs,
                        "precision": precision,
                        "flop_per_step": told["flop_per_step"],
                        "seconds_per_iteration": rounded(seconds),
                        "steps_per_second": rounded(told["steps_per_iteration"] / seconds),
                        "phases": phases,
                    }
                )
            simulate.append(
                {
                    "environment": environment,
                    "num_envs": envs,
                    "steps_per_second": rounded(told["simulation_steps_per_second"]),
                }
            )
    print(
        json.dumps(
            {
                "benchmark": "prediction",
                "measured": False,
                "gpu": options.gpu,
                "version": told["version"],
                "command": f"bench/predict.py {options.gpu}",
                "peak": told["peak"],
                "train": train,
                "simulate": simulate,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
