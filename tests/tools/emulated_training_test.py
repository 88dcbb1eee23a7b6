"""Whole training runs on emulated tensor cores: the host's trainer over the kernels that a GPU runs, against fp32."""

import json
import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(os.environ["PERILUNE_BUILD_DIR"]) / "perilune_emulated"
# Two updates of each network on 512 samples: small enough for the fibers under sanitizers.
SETTINGS = [
    "num_envs=32",
    "num_steps=16",
    "num_minibatches=2",
    "update_epochs=1",
    "hidden_width=32",
    "total_timesteps=1024",
    "eval_every=1000",
    "eval_episodes=1",
]


def metrics(folder, precision, seed):
    run = folder / f"{precision}-{seed}"
    settings = [word for setting in [*SETTINGS, f"precision={precision}"] for word in ("--set", setting)]
    subprocess.run(
        [PROGRAM, "train", "cartpole", "--seed", str(seed), "--run-dir", run, *settings],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return [json.loads(line) for line in (run / "metrics.jsonl").open()]


@pytest.mark.parametrize("precision, rounding", [("tf32", 2**-11), ("bf16", 2**-8)])
@pytest.mark.parametrize("seed", [1, 2])
def test_first_iteration_is_that_of_fp32(tmp_path, precision, rounding, seed):
    expected, actual = (metrics(tmp_path, p, seed)[0] for p in ("fp32", precision))
    # The first policy is close to uniform (head gain 0.01), so that a logit's error of `rounding` x 0.01 turns one
    # action in some thousands at most: the same episodes.
    assert actual["charts/episodes"] == pytest.approx(expected["charts/episodes"], rel=0.1)
    # Losses are means of products of a few rounded numbers; 4 roundings each, and as much for the update's effect.
    for name in ("losses/value_loss", "losses/entropy", "losses/gradient_norm"):
        assert actual[name] == pytest.approx(expected[name], rel=8 * rounding), name


def test_a_precision_that_no_kernel_has_is_refused(tmp_path):
    process = subprocess.run(
        [
            PROGRAM,
            "train",
            "cartpole",
            "--run-dir",
            tmp_path / "run",
            "--set",
            "precision=bf16",
            "--set",
            "hidden_width=128",
        ],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert "precision bf16: fibers has fp32" in process.stderr
