"""
The compiled half of perilune; use the functions of the package instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy


class Error(RuntimeError):
    """
    What failed though it was asked for rightly: files, devices, training that diverged.
    """

class NoDeviceError(Error):
    """The device that was asked for is not there."""

class OutOfMemoryError(Error):
    """The device has less memory left than is needed."""

class UsageError(ValueError):
    """What was asked for is not possible; the text says what is allowed."""

def environments() -> list:
    """The built-in environments, a dict each."""

def presets() -> list:
    """The presets, a dict each."""

def keys() -> list:
    """The keys of a configuration, a dict each."""

def info() -> dict:
    """The build and what it can run on here."""

def environment_warnings(arg0: str, arg1: Mapping[str, float], /) -> list[str]:
    """What of these parameters Gymnasium advises against, a sentence each."""

def version() -> str: ...

class DeviceArray:
    """
    An array in a device's memory, for any library that takes DLPack arrays: torch.from_dlpack(x), jax.dlpack.from_dlpack(x), cupy.from_dlpack(x). Nothing is copied, and the device is not waited for, until numpy() is called.
    """

    def __dlpack__(self, stream: int | None = None, **kwargs: object) -> object:
        """
        A DLPack capsule. What `stream` holds from now on runs after what was enqueued here (DLPack's numbers: None or 1 the legacy default stream, 2 the thread's, -1 no ordering).
        """

    def __dlpack_device__(self) -> tuple[int, int]: ...

    def numpy(self) -> numpy.ndarray:
        """A copy as a NumPy array; waits for the device."""

    def __array__(self, dtype: object = None, copy: object = None) -> numpy.ndarray: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...

    @property
    def device(self) -> str: ...

class VectorEnv:
    """What perilune.VectorEnv is written on."""

    def __init__(self, env_id: str, num_envs: int, parameters: Mapping[str, float], max_episode_steps: int, autoreset: str, device: str, threads: int | None, as_numpy: bool | None, statistics: bool) -> None: ...

    def reset(self, seed: int | None, seeds: Sequence[int | None], mask: numpy.ndarray | None) -> Any: ...

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]: ...

    def observe(self) -> Any: ...

    def states(self, indices: Sequence[int] | None) -> tuple[numpy.ndarray, ...]: ...

    def set_states(self, indices: Sequence[int] | None, fields: numpy.ndarray, episode: numpy.ndarray, elapsed: numpy.ndarray, episode_return: numpy.ndarray, ended: numpy.ndarray, seed: numpy.ndarray, number: numpy.ndarray, seconds: numpy.ndarray | None) -> None: ...

    def seconds(self) -> numpy.ndarray: ...

    def check(self) -> None: ...

    def close(self) -> None: ...

    @property
    def is_closed(self) -> bool: ...

    @property
    def was_reset(self) -> bool: ...

    @property
    def is_continuous(self) -> bool: ...

    @property
    def num_actions(self) -> int: ...

    @property
    def observation(self) -> dict[str, tuple[float, float]]: ...

    @property
    def max_episode_steps(self) -> int: ...

    @property
    def env_id(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def is_cuda(self) -> bool: ...

    @property
    def field_names(self) -> list[str]: ...

class Policy:
    """What perilune.Policy is written on."""

    @overload
    def __init__(self, path: str, device: str, threads: int | None) -> None: ...

    @overload
    def __init__(self, file: bytes, source: str, device: str, threads: int | None) -> None: ...

    def file(self) -> bytes: ...

    def act(self, observations: Any, deterministic: bool, seed: int, call: int) -> tuple[Any, Any]: ...

    def evaluate(self, episodes: int, deterministic: bool, seed: int, settings: Sequence[tuple[str, None | bool | int | float | str | Sequence[int]]]) -> dict: ...

    def export_state(self, by_layer: bool, to: str) -> None: ...

    def config(self) -> dict: ...

    @property
    def observation_dim(self) -> int: ...

    @property
    def num_actions(self) -> int: ...

    @property
    def is_continuous(self) -> bool: ...

    @property
    def device(self) -> str: ...

def best_policy(run: str) -> str: ...

def evaluate(path: str, episodes: int, deterministic: bool, seed: int, settings: Sequence[tuple[str, None | bool | int | float | str | Sequence[int]]], device: str, threads: int | None) -> dict: ...

def import_policy(file: str, critic: str | None, preset: str | None, config_file: str | None, settings: Sequence[tuple[str, None | bool | int | float | str | Sequence[int]]], to: str) -> list[str]: ...

def replay(env_id: str, draws: numpy.ndarray, actions: numpy.ndarray, parameters: Mapping[str, float], max_episode_steps: int, in_double: bool) -> tuple[Any, ...]: ...

def train(preset: str, config_file: str | None, settings: Sequence[tuple[str, None | bool | int | float | str | Sequence[int]]], run_dir: str | None, resume: str | None, from_policy: str | None, device: str, threads: int | None, callback: object | None, display: object) -> dict: ...

def resolve_config(preset: str, config_file: str | None, settings: Sequence[tuple[str, None | bool | int | float | str | Sequence[int]]]) -> dict: ...

def saved_config(path: str) -> dict: ...
