"""A policy trained here, played in the real Gymnasium with NumPy: it must score there what it scores here."""

import json
import math
import os
import subprocess

import pytest

from real_policy import load_policy, play

PROGRAM = os.environ["PERILUNE_PROGRAM"]
EPISODES = 100


def perilune(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("seed, norm_obs", [(1, "false"), (2, "false"), (3, "true")])
def test_trained_policy_scores_the_same_in_gymnasium(tmp_path, seed, norm_obs):
    run = tmp_path / "run"
    result = perilune(
        *("train", "cartpole", "--json", "--quiet", "--device", "cpu", "--seed", seed, "--run-dir", run),
        *("--set", f"norm_obs={norm_obs}", "--set", "clip_obs=2"),
    )
    assert result["solved"]
    here = perilune("eval", run, "--json", "--device", "cpu", "--episodes", 2000, "--seed", 77)
    act, env_id = load_policy(run / "policy.safetensors")
    there = play(env_id, act, EPISODES, seed=1000 + seed)
    assert there.mean() >= 475
    # The difference of the two means has this standard error; a returns' spread of 0 in both allows no difference.
    # Three of them: the test has fixed seeds, so this only says how far a faithful simulator may fall by chance.
    error = math.sqrt(here["std"] ** 2 / here["episodes"] + max(there.std(), here["std"]) ** 2 / EPISODES)
    print(
        f"seed {seed}: here {here['mean']:.2f} +- {here['std']:.2f}, "
        f"in Gymnasium {there.mean():.2f} +- {there.std():.2f}"
    )
    assert abs(there.mean() - here["mean"]) <= 3 * error


def test_untrained_policy_scores_the_same_in_gymnasium(tmp_path):
    """A bad policy has short episodes of varied length, where a difference in the dynamics would show."""
    run = tmp_path / "run"
    perilune(
        "train",
        "cartpole",
        "--json",
        "--quiet",
        "--device",
        "cpu",
        "--seed",
        5,
        "--run-dir",
        run,
        "--set",
        "total_timesteps=2048",
        "--set",
        "num_envs=64",
        "--set",
        "num_steps=32",
        "--set",
        "learning_rate=1e-4",
        "--set",
        "eval_every=0",
        "--set",
        "target_return=none",
    )
    here = perilune("eval", run, "--json", "--device", "cpu", "--episodes", 5000, "--seed", 3)
    act, env_id = load_policy(run / "policy.safetensors")
    there = play(env_id, act, 1000, seed=9)
    error = math.sqrt(here["std"] ** 2 / here["episodes"] + there.std() ** 2 / 1000)
    print(f"here {here['mean']:.2f} +- {here['std']:.2f}, in Gymnasium {there.mean():.2f} +- {there.std():.2f}")
    assert abs(there.mean() - here["mean"]) <= 3 * error


@pytest.mark.parametrize("preset", ["lunar-lander", "lunar-lander-continuous"])
def test_lander_scores_the_same_in_gymnasium(tmp_path, preset):
    """Trained and judged here with the fast solver, as the presets say. A third of the training that solves it: some
    flights land, some crash."""
    run = tmp_path / "run"
    perilune(
        "train",
        preset,
        "--json",
        "--quiet",
        "--device",
        "cpu",
        "--run-dir",
        run,
        "--set",
        "total_timesteps=163840",
        "--set",
        "target_return=none",
        "--set",
        "eval_every=0",
    )
    here = perilune("eval", run, "--json", "--device", "cpu", "--episodes", 2000, "--seed", 77)
    act, env_id = load_policy(run / "policy.safetensors")
    there = play(env_id, act, EPISODES, seed=1)
    error = math.sqrt(here["std"] ** 2 / here["episodes"] + there.std() ** 2 / EPISODES)
    print(
        f"{preset}: here {here['mean']:.1f} +- {here['std']:.1f}, in Gymnasium {there.mean():.1f} +- {there.std():.1f}"
    )
    assert abs(there.mean() - here["mean"]) <= 3 * error


@pytest.mark.parametrize("sampled", [False, True])
def test_walker_scores_the_same_in_gymnasium(tmp_path, sampled):
    """Trained for a few seconds: it falls, each time a little later or earlier, or stands."""
    run = tmp_path / "run"
    settings = ["env_id=BipedalWalker-v3", "hidden_width=64", "num_envs=32", "num_steps=256", "learning_rate=1e-3"]
    settings += ["total_timesteps=163840", "target_return=none", "eval_every=0"]
    words = [word for setting in settings for word in ("--set", setting)]
    perilune("train", "--json", "--quiet", "--device", "cpu", "--run-dir", run, *words)
    how = ["--sampled"] if sampled else []
    here = perilune("eval", run, "--json", "--device", "cpu", "--episodes", 1000, "--seed", 77, *how)
    act, env_id = load_policy(run / "policy.safetensors", sample_with=5 if sampled else None)
    there = play(env_id, act, 40, seed=1)
    error = math.sqrt(here["std"] ** 2 / here["episodes"] + there.std() ** 2 / len(there))
    print(f"here {here['mean']:.1f} +- {here['std']:.1f}, in Gymnasium {there.mean():.1f} +- {there.std():.1f}")
    assert abs(there.mean() - here["mean"]) <= 3 * error
