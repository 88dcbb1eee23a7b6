"""The spaces of single environments, equal to those of Gymnasium's environments of the same id."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces


def observation_space(observation: dict[str, tuple[float, float]]) -> spaces.Box:
    """Box of float32 [D]. observation: low and high of each of its numbers."""
    low, high = np.array(list(observation.values()), np.float32).T
    return spaces.Box(low, high, dtype=np.float32)


def action_space(is_continuous: bool, count: int) -> spaces.Space:
    """Discrete(count), or Box of `count` numbers within -1 and 1."""
    if is_continuous:
        return spaces.Box(-1.0, 1.0, (count,), np.float32)
    return spaces.Discrete(count)
