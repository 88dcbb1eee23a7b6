"""What there is to choose from: environments, presets, configuration keys, and what this build runs on."""

from __future__ import annotations

from typing import Any

from perilune import _native


def environments() -> dict[str, dict[str, Any]]:
    """The built-in environments by Gymnasium id: aliases, observation_dim, num_actions, continuous (an action is num_actions
    numbers within -1 and 1, not one of num_actions choices), max_episode_steps, solved_return and parameters (type, default,
    min, max, help of each)."""
    return {entry.pop("id"): entry for entry in _native.environments()}


def presets() -> dict[str, dict[str, str]]:
    """The presets that train() starts from, by name: env_id, summary and their settings as TOML."""
    return {entry.pop("name"): entry for entry in _native.presets()}


def keys() -> dict[str, dict[str, Any]]:
    """Every key that train() takes, by name: type, default, allowed and help."""
    return {entry.pop("name"): entry for entry in _native.keys()}


def info() -> dict[str, Any]:
    """The build (version, commit, compiler, cuda) and what it runs on here (device and why, cpu_level, threads)."""
    return _native.info()


def parameter_values(environment: str, parameters: dict[str, Any]) -> dict[str, float]:
    """Environment parameters as numbers. Raises TypeError for a value that is neither bool nor number; names and ranges are
    checked by the native module."""
    values = {}
    for name, value in parameters.items():
        try:
            values[name] = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name} = {value!r} of {environment} is no number - allowed: True, False or a number") from None
    return values
