"""Helpers that tests of the Python package import by name."""

import os
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import perilune

SOURCE = Path(os.environ["PERILUNE_SOURCE_DIR"])
PACKAGE = Path(perilune.__file__).parents[1]  # for the path of other interpreters

# The program of the same build, which ctest names; a wheel alone has none.
PROGRAM = os.environ.get("PERILUNE_PROGRAM")
NEEDS_PROGRAM = pytest.mark.skipif(PROGRAM is None, reason="PERILUNE_PROGRAM is not set: no program to compare with")


def random_actions(envs, rng, count=None):
    """Actions of any built-in environment, as its action space has them, for `count` (default: all) environments."""
    space, count = envs.single_action_space, count or envs.num_envs
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(space.n, size=count)
    return rng.uniform(-1, 1, (count, *space.shape)).astype(np.float32)
