"""One environment as Gymnasium's Env, for what takes no batch: Stable-Baselines3, wrappers, SyncVectorEnv."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np

from perilune import _arguments, _native
from perilune.vector import VectorEnv

_UNLIMITED = 2**31 - 1


class Env(gymnasium.Env):
    """A single environment; gymnasium.make("perilune/<id>", ...) makes it. It has the bits of environment 0 of a
    perilune.VectorEnv with the same seed: reset(seed=s) starts on the first episode of seed s, reset() goes on with the
    next.

    For speed take perilune.VectorEnv: what a call costs is then shared by many environments.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        env_id: str = "CartPole-v1",
        *,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **parameters: Any,
    ):
        """env_id, max_episode_steps, render_mode, parameters: as of perilune.VectorEnv, and so what it raises."""
        self._envs = VectorEnv(
            env_id,
            1,
            max_episode_steps=max_episode_steps,
            autoreset_mode="Disabled",
            threads=1,
            render_mode=render_mode,
            **parameters,
        )
        self.render_mode = None
        self.env_id = self._envs.env_id
        self.observation_space = self._envs.single_observation_space
        self.action_space = self._envs.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode: its first observation float32 [D], and no infos. There are no options.

        Raises TypeError for a seed that is no integer, UsageError for one out of range and for options.
        """
        if options := _arguments.mapping("options", options, "an empty dict"):
            _arguments.not_possible("options", options, "None, {}", "more than these environments know")
        if seed is not None:
            seed = _arguments.integer("seed", seed)
        super().reset(seed=seed)
        return self._envs.reset(seed=seed)[0][0].copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step: observation float32 [D], reward, terminated, truncated, and no infos.

        action: an integer (Discrete) or numbers [k] (Box). Raises as VectorEnv.step does, UsageError also when the
        episode is over: reset() begins another.
        """
        observations, rewards, terminated, truncated, _ = self._envs.step(self._batch_of_one(action))
        return observations[0].copy(), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def get_state(self) -> np.ndarray:
        """The state, a structured array [1]; see VectorEnv.get_state."""
        return self._envs.get_state()

    def set_state(self, state: np.ndarray) -> np.ndarray:
        """Puts the environment into a state of get_state(); returns its observation [D]. See VectorEnv.set_state."""
        return self._envs.set_state(state)[0].copy()

    def render(self) -> None:
        """These environments do not draw. Raises Error."""
        self._envs.render()

    def close(self) -> None:
        """Gives memory back. Later calls raise Error."""
        if "_envs" in self.__dict__:  # not when making it failed
            self._envs.close()

    def _batch_of_one(self, action: Any) -> np.ndarray:
        array = _arguments.array_of("action", action, "an action of the action space")
        if array.shape != self.action_space.shape:
            _arguments.not_possible("action", action, f"of shape {self.action_space.shape}", f"of shape {array.shape}")
        return array[np.newaxis]

    def __repr__(self) -> str:
        return f"<perilune.Env {self.env_id}>"


def without_limit(env_id: str, **options: Any) -> Env:
    """For gymnasium.make, whose own TimeLimit cuts episodes where it is asked to."""
    if options.get("max_episode_steps") is not None:
        raise _native.UsageError("max_episode_steps belongs to gymnasium.make, not into kwargs")
    return Env(env_id, **options | {"max_episode_steps": _UNLIMITED})
