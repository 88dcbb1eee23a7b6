"""Recorded episodes played again."""

from __future__ import annotations

from typing import Any

import numpy as np

from perilune import _arguments, _native


def replay(
    env_id: str,
    draws: Any,
    actions: Any,
    *,
    max_episode_steps: int | None = None,
    dtype: str | type | np.dtype = "float32",
    **parameters: Any,
) -> dict[str, np.ndarray]:
    """Plays one episode from recorded random draws and actions: how a simulator is held against the environment that it
    stands for.

    draws: the values that the environment drew, in its order (CartPole: the four of its reset). actions: [T] integers,
    or [T, k] numbers. dtype: the arithmetic, "float32" as everywhere else or "float64" as Gymnasium's (of LunarLander
    the task alone: Box2D's world is in float32 there, too). parameters: of the environment.

    Returns obs [T+1, D] (the reset's first), reward [T], terminated [T], truncated [T], of as many steps as there are
    actions, or fewer where the episode ended; bodies [T+1, bodies, 6] (x, y, angle, vx, vy, w) where it has any.
    Raises UsageError for an unknown environment or parameter, an action that is none, or if the draws run out.
    """
    in_double = _arguments.dtype("dtype", dtype, (np.float32, np.float64)) == np.float64
    dtype = np.float64 if in_double else np.float32
    draws = _arguments.floats("draws", draws, np.float64, "numbers [any number]")
    if draws.ndim != 1 or not np.isfinite(draws).all():
        _arguments.not_possible("draws", draws, "finite numbers [any number]", f"of shape {draws.shape}, or not finite")
    env_id = _arguments.text("env_id", env_id)
    actions = _arguments.floats("actions", actions, np.float64, "integers [T], or numbers [T, k]")
    obs, reward, terminated, truncated, bodies = _native.replay(
        env_id,
        draws,
        actions,
        _arguments.parameters(parameters),
        _arguments.integer("max_episode_steps", max_episode_steps, optional=True) or 0,
        in_double,
    )
    result = {
        "obs": obs.astype(dtype, copy=False),
        "reward": reward.astype(dtype, copy=False),
        "terminated": terminated.view(np.bool_),
        "truncated": truncated.view(np.bool_),
    }
    if bodies is not None:
        result["bodies"] = bodies.astype(dtype, copy=False)
    return result
