"""The spaces of single environments, equal to those of Gymnasium's environments of the same id."""

from __future__ import annotations

import math

import numpy as np
from gymnasium import spaces

# What bounds each number of an observation, on both sides.
_LANDER = [2.5, 2.5, 10.0, 10.0, 2 * math.pi, 10.0]
_BOUNDS = {
    # Twice the limits at which an episode ends; velocities are not bounded.
    "CartPole-v1": [4.8, np.inf, 2 * 12 * 2 * math.pi / 360, np.inf]
}


def observation_space(env_id: str, dim: int) -> spaces.Box:
    """Box of float32 [dim]; without bounds for an environment that is not Gymnasium's."""
    if env_id in _BOUNDS:
        high = np.array(_BOUNDS[env_id], np.float32)
        return spaces.Box(-high, high, dtype=np.float32)
    if "Lander" in env_id and dim == 8:  # the last two say which leg touches the ground
        high = np.array([*_LANDER, 1.0, 1.0], np.float32)
        low = np.array([*(-bound for bound in _LANDER), 0.0, 0.0], np.float32)
        return spaces.Box(low, high, dtype=np.float32)
    return spaces.Box(-np.inf, np.inf, (dim,), np.float32)


def action_space(is_continuous: bool, count: int) -> spaces.Space:
    """Discrete(count), or Box of `count` numbers within -1 and 1."""
    if is_continuous:
        return spaces.Box(-1.0, 1.0, (count,), np.float32)
    return spaces.Discrete(count)
