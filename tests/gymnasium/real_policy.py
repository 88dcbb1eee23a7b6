"""Policies trained here, played with NumPy in the real Gymnasium."""

import re

import gymnasium
import numpy as np
from safetensors import safe_open

# What a simplified environment stands for.
REAL = {"Lander-v0": "LunarLander-v3", "LanderContinuous-v0": "LunarLanderContinuous-v3"}


def load_policy(path, sample_with=None):
    """(act, environment id) of a policy.safetensors: act takes observations [N, D] and returns actions, numbers [N, A]
    for continuous ones and choices [N] otherwise: the greedy ones, or with a seed in sample_with actions drawn from the
    policy."""
    with safe_open(path, framework="numpy") as file:
        names = sorted(
            {name.rsplit(".", 1)[0] for name in file.keys() if re.match(r"actor\.\d+\.", name)},
            key=lambda name: int(name.split(".")[1]),
        )
        layers = [(file.get_tensor(f"{name}.weight"), file.get_tensor(f"{name}.bias")) for name in names]
        continuous = "actor.log_std" in file.keys()
        std = np.exp(file.get_tensor("actor.log_std")) if continuous else None
        config = file.metadata()["config"]
        normalized = "obs_mean" in file.keys()
        mean, variance = (file.get_tensor(f"obs_{name}") for name in ("mean", "var")) if normalized else (0, 1)
        clip = float(file.metadata().get("obs_clip", np.inf))
    generator = None if sample_with is None else np.random.default_rng(sample_with)
    functions = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "none": lambda x: x}
    activation, of_outputs = (
        functions[found[1]] if (found := re.search(rf'^{key} = "(\w+)"', config, re.MULTILINE)) else functions["none"]
        for key in ("activation", "output_activation")
    )

    def act(observations):
        x = np.clip((observations - mean) / np.sqrt(variance + 1e-8), -clip, clip) if normalized else observations
        for weight, bias in layers[:-1]:
            x = activation(x @ weight.T + bias)
        weight, bias = layers[-1]
        outputs = of_outputs(x @ weight.T + bias)
        if generator is not None and continuous:
            outputs = outputs + std * generator.standard_normal(outputs.shape)
        elif generator is not None:  # the largest of logits with Gumbel noise is a draw from their softmax
            outputs = outputs + generator.gumbel(size=outputs.shape)
        return np.clip(outputs, -1, 1).astype(np.float32) if continuous else np.argmax(outputs, axis=1)

    return act, re.search(r'env_id = "([^"]+)"', config)[1]


def play(env_id, act, episodes, seed, **parameters):
    """Returns [episodes] of whole greedy episodes, one in each environment."""
    env_id = REAL.get(env_id, env_id)
    mode = "vector_entry_point" if env_id.startswith("CartPole") else "sync"
    envs = gymnasium.make_vec(env_id, num_envs=episodes, vectorization_mode=mode, **parameters)
    observations, _ = envs.reset(seed=seed)
    total, running = np.zeros(episodes), np.ones(episodes, bool)
    while running.any():
        observations, rewards, terminated, truncated, _ = envs.step(act(observations))
        total += np.where(running, rewards, 0.0)
        running &= ~(terminated | truncated)
    envs.close()
    return total
