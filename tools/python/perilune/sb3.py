"""Environments for Stable-Baselines3, which is needed: perilune.sb3.make("CartPole-v1", num_envs=1024) is a VecEnv."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from perilune.vector import VectorEnv


def make(env_id: str = "CartPole-v1", num_envs: int = 1, **options: Any) -> PeriluneVecEnv:
    """A VecEnv of num_envs environments; options as of perilune.VectorEnv."""
    options = {"autoreset_mode": AutoresetMode.SAME_STEP, "episode_statistics": True} | options
    return PeriluneVecEnv(VectorEnv(env_id, num_envs, **options))


class PeriluneVecEnv(VecEnv):
    """A perilune.VectorEnv with SAME_STEP autoreset as Stable-Baselines3 wants environments: done flags, and a list of
    infos with terminal_observation, TimeLimit.truncated and, with episode_statistics, Monitor's episode {r, l, t}."""

    def __init__(self, envs: VectorEnv):
        if envs.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            raise ValueError(f"autoreset_mode {envs.metadata['autoreset_mode']} - Stable-Baselines3 needs SAME_STEP")
        self.envs = envs
        self.render_mode = None
        self._actions: Any = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        """Starts all environments, with the seeds of seed() where that was called; observations float32 [N, D]."""
        seeds = self._seeds if any(seed is not None for seed in self._seeds) else None
        observations, _ = self.envs.reset(seed=seeds)
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminated, truncated, batch = self.envs.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        dones = terminated | truncated
        if batch:
            statistics = batch.get("episode")
            for i in np.flatnonzero(dones):
                infos[i] = {
                    "terminal_observation": batch["final_obs"][i],
                    "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                }
                if statistics is not None:
                    infos[i]["episode"] = {
                        "r": float(statistics["r"][i]),
                        "l": int(statistics["l"][i]),
                        "t": float(statistics["t"][i]),
                    }
        return observations, rewards, dones, infos

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The batch's attribute, once per environment: they have none of their own."""
        return [getattr(self.envs, attr_name) for _ in self._indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible: environments of a batch have no attributes of their own. Raises AttributeError."""
        raise AttributeError(f"{attr_name} cannot be set for single environments of a batch - make another one with it")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not possible: environments of a batch have no methods of their own. Raises AttributeError."""
        raise AttributeError(f"{method_name} cannot be called for single environments of a batch - call it of .envs")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Monitor's statistics are in the infos; there are no other wrappers."""
        is_monitor = wrapper_class.__name__ == "Monitor"
        return [is_monitor for _ in self._indices(indices)]

    def _indices(self, indices: int | Iterable[int] | None) -> Sequence[int]:
        return list(self._get_indices(indices))
