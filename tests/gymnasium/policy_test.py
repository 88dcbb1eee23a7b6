"""A policy trained here, played in the real Gymnasium CartPole-v1 with NumPy: it must score there what it scores here."""

import json
import math
import os
import subprocess

import gymnasium
import numpy as np
import pytest
from safetensors import safe_open

PROGRAM = os.environ["PERILUNE_PROGRAM"]
EPISODES = 100


def perilune(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def load_actor(path):
    """[(weight [out, in], bias [out]), ...] in order, and the activation, of a policy file."""
    with safe_open(path, framework="numpy") as file:
        names = sorted({name.rsplit(".", 1)[0] for name in file.keys() if name.startswith("actor.")},
                       key=lambda name: int(name.split(".")[1]))
        layers = [(file.get_tensor(f"{name}.weight"), file.get_tensor(f"{name}.bias")) for name in names]
        activation = "relu" if 'activation = "relu"' in file.metadata()["config"] else "tanh"
    return layers, {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}[activation]


def play(layers, activation, episodes, seed):
    """Returns of whole greedy episodes, one in each environment."""
    envs = gymnasium.make_vec("CartPole-v1", num_envs=episodes, vectorization_mode="vector_entry_point")
    observation, _ = envs.reset(seed=seed)
    total, running = np.zeros(episodes), np.ones(episodes, bool)
    while running.any():
        x = observation
        for weight, bias in layers[:-1]:
            x = activation(x @ weight.T + bias)
        weight, bias = layers[-1]
        actions = np.argmax(x @ weight.T + bias, axis=1)
        observation, reward, terminated, truncated, _ = envs.step(actions)
        total += np.where(running, reward, 0.0)
        running &= ~(terminated | truncated)
    envs.close()
    return total


@pytest.mark.parametrize("seed", [1, 2])
def test_trained_policy_scores_the_same_in_gymnasium(tmp_path, seed):
    run = tmp_path / "run"
    result = perilune("train", "cartpole", "--json", "--quiet", "--device", "cpu", "--seed", seed, "--run-dir", run)
    assert result["solved"]
    here = perilune("eval", run, "--json", "--device", "cpu", "--episodes", 2000, "--seed", 77)
    there = play(*load_actor(run / "policy.safetensors"), EPISODES, seed=1000 + seed)
    assert there.mean() >= 475
    # The difference of the two means has this standard error; a returns' spread of 0 in both allows no difference. Three of
    # them: the test has fixed seeds, so this only says how far a faithful simulator may fall by chance.
    error = math.sqrt(here["std"] ** 2 / here["episodes"] + max(there.std(), here["std"]) ** 2 / EPISODES)
    print(f"seed {seed}: here {here['mean']:.2f} +- {here['std']:.2f}, in Gymnasium {there.mean():.2f} +- {there.std():.2f}")
    assert abs(there.mean() - here["mean"]) <= 3 * error


def test_untrained_policy_scores_the_same_in_gymnasium(tmp_path):
    """A bad policy has short episodes of varied length, where a difference in the dynamics would show."""
    run = tmp_path / "run"
    perilune("train", "cartpole", "--json", "--quiet", "--device", "cpu", "--seed", 5, "--run-dir", run,
             "--set", "total_timesteps=2048", "--set", "num_envs=64", "--set", "num_steps=32",
             "--set", "learning_rate=1e-4", "--set", "eval_every=0", "--set", "target_return=none")
    here = perilune("eval", run, "--json", "--device", "cpu", "--episodes", 5000, "--seed", 3)
    there = play(*load_actor(run / "policy.safetensors"), 1000, seed=9)
    error = math.sqrt(here["std"] ** 2 / here["episodes"] + there.std() ** 2 / 1000)
    print(f"here {here['mean']:.2f} +- {here['std']:.2f}, in Gymnasium {there.mean():.2f} +- {there.std():.2f}")
    assert abs(there.mean() - here["mean"]) <= 3 * error
