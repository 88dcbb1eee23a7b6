"""What there is to choose from: environments, presets, configuration keys, and what this build runs on."""

from __future__ import annotations

from typing import Any

from perilune import _native


def environments() -> dict[str, dict[str, Any]]:
    """The built-in environments by Gymnasium id: aliases, observation_dim, observation (low and high of its numbers,
    by name), num_actions, continuous (an action is num_actions numbers within -1 and 1, not one of num_actions
    choices), max_episode_steps, solved_return and parameters (type, default, allowed in words, its ends min and max,
    help of each)."""
    return {entry.pop("id"): entry for entry in _native.environments()}


def presets() -> dict[str, dict[str, str]]:
    """The presets that train() starts from, by name: env_id, summary and their settings as TOML."""
    return {entry.pop("name"): entry for entry in _native.presets()}


def keys() -> dict[str, dict[str, Any]]:
    """Every key that train() takes, by name: type, default, allowed and help."""
    return {entry.pop("name"): entry for entry in _native.keys()}


def info() -> dict[str, Any]:
    """The build (version, commit, compiler, build_type, cuda, gpus, cpu_levels), what it runs on here (device and why,
    cuda_status, processor, cpu_level, threads; None where no level fits), and left_out: a sentence for each thing that
    was not built, with how to get it."""
    values = _native.info()
    values["left_out"] = _left_out(values, values.pop("no_cuda"))
    return values


def _left_out(values: dict[str, Any], no_cuda: str) -> list[str]:
    levels = [level for level in ("v4", "v3", "portable") if level not in values["cpu_levels"]]
    sentences = []
    if values["processor"] in levels:
        runs = (
            f"which runs {values['cpu_level']} instead" if values["cpu_level"] else "which can run none of this build's"
        )
        sentences.append(
            f"Code for this processor ({values['processor']}), {runs}: pip install ./tools/python, in a clone on "
            "this machine."
        )
        levels.remove(values["processor"])
    if levels:
        sentences.append(
            f"Code for other processors ({', '.join(levels)}): PERILUNE_CPU_LEVELS=all pip install ./tools/python; "
            "tools/build-wheel makes a wheel for other machines."
        )
    if values["cuda"] == "none":
        sentences.append(
            f"Code for GPUs ({no_cuda}): pip install ./tools/python where a GPU and a CUDA toolkit are, "
            "PERILUNE_CUDA=ON pip install ./tools/python where only a toolkit is."
        )
    return sentences
