"""What arguments of the package may be, and the errors that say so.

Each check returns a value as the native module takes it. It raises TypeError for a value of the wrong kind and
UsageError for one of the right kind that is not possible, with the text "<name> = <value> is ... - allowed: ...".

Integers are what operator.index takes: Python's, NumPy's and arrays of no dimensions; numbers also what is a
numbers.Real. Booleans are neither: they are True, False and NumPy's.
"""

from __future__ import annotations

import numbers
import operator
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NoReturn

import numpy as np

from perilune import _native

_SHOWN = 60
_INT64 = (-(2**63), 2**63 - 1)

Setting = None | bool | int | float | str | list[int]


class RenderModeError(_native.UsageError, TypeError):
    """A TypeError too: libraries that ask every environment for pictures (Stable-Baselines3) take it as "without"."""


def shown(value: Any) -> str:
    """The value on one line of readable length."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of an object's own repr, or an integer of thousands of digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def wrong_kind(name: str, value: Any, problem: str, allowed: str) -> NoReturn:
    raise TypeError(f"{name} = {shown(value)} is {problem} - allowed: {allowed}")


def not_possible(name: str, value: Any, allowed: str, problem: str = "out of range") -> NoReturn:
    raise _native.UsageError(f"{name} = {shown(value)} is {problem} - allowed: {allowed}")


@cache
def _keys() -> dict[str, tuple[str, str]]:
    """Type and what is allowed, of every key of a configuration."""
    return {key["name"]: (key["type"], key["allowed"]) for key in _native.keys()}


@cache
def limits_of(key: str) -> tuple[int, int]:
    low, high = (int(float(end)) for end in _keys()[key][1].split(" .. "))
    return low, high


def _index(value: Any) -> int | None:
    """The integer that the value is; None if it is none."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _scalar(value: Any) -> Any:
    """The number of an array of no dimensions; else the value."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "biuf" else value


def integer(name: str, value: Any, limits: tuple[int, int] | None = None, *, optional: bool = False) -> int | None:
    """limits: those of the key of this name if not given. optional: None is allowed, and stays."""
    if optional and value is None:
        return None
    low, high = limits or limits_of(name)
    if type(value) is int and low <= value <= high:  # the usual case
        return value
    allowed = f"{'None or ' if optional else ''}a whole number, {low} .. {high}"
    whole = _index(value)
    if whole is None:
        wrong_kind(name, value, "not an integer", allowed)
    if not low <= whole <= high:
        not_possible(name, value, allowed)
    return whole


def integers(name: str, values: Any, limits: tuple[int, int]) -> list[int]:
    """One-dimensional; an empty list has no type and is one of integers."""
    array = array_of(name, values, "integers")
    if array.ndim != 1:
        not_possible(name, values, f"one dimension of integers, {limits[0]} .. {limits[1]}", f"of shape {array.shape}")
    if array.size == 0:
        return []
    if array.dtype.kind not in "iu":
        wrong_kind(name, values, f"of type {array.dtype}", f"integers, {limits[0]} .. {limits[1]}")
    if array.min() < limits[0] or array.max() > limits[1]:
        not_possible(name, values, f"integers, {limits[0]} .. {limits[1]}")
    return array.tolist()


def seeds(name: str, values: Any, count: int) -> list[int | None]:
    """One for each of `count` environments; None among them stays."""
    if len(values) != count:
        raise _native.UsageError(
            f"{name} has {len(values)} seeds for {count} environments - give one each, or one number for all"
        )
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        return integers(name, values, limits_of("seed"))
    low, high = limits_of("seed")
    return [
        value
        if type(value) is int and low <= value <= high
        # the usual case
        else integer(f"{name}[{i}]", value, (low, high), optional=True)
        for i, value in enumerate(values)
    ]


def boolean(name: str, value: Any, *, optional: bool = False) -> bool | None:
    if optional and value is None:
        return None
    if value is True or value is False:
        return value
    value = _scalar(value)
    if not isinstance(value, (bool, np.bool_)):
        wrong_kind(name, value, "not a boolean", f"{'None, ' if optional else ''}True, False")
    return bool(value)


def text(name: str, value: Any, allowed: str = "a str") -> str:
    if not isinstance(value, str):
        wrong_kind(name, value, "no text", allowed)
    if "\0" in value or not _is_utf8(value):
        not_possible(name, value, allowed, "no text of UTF-8 without null characters")
    return value


def choice(name: str, value: Any, names: Iterable[str], *, optional: bool = False) -> str | None:
    if optional and value is None:
        return None
    allowed = f"{'None, ' if optional else ''}{', '.join(names)}"
    if text(name, value, allowed) not in names:
        not_possible(name, value, allowed, "unknown")
    return value


def path(name: str, value: Any, *, optional: bool = False, allowed: str = "a str or an os.PathLike") -> str | None:
    if optional and value is None:
        return None
    allowed = f"None, {allowed}" if optional else allowed
    plain = text(name, os.fspath(value) if isinstance(value, os.PathLike) else value, allowed)
    if not plain:
        not_possible(name, value, allowed, "empty")
    return plain


def mapping(name: str, value: Any, allowed: str) -> Mapping[str, Any]:
    """None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        wrong_kind(name, value, "no mapping", f"None, {allowed}")
    for key in value:
        text(f"a name in {name}", key)
    return value


def array_of(name: str, value: Any, what: str) -> np.ndarray:
    """As NumPy makes an array of it, whatever its type."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise TypeError(f"{name} = {shown(value)} is no array ({error}) - allowed: {what}") from None


def floats(name: str, value: Any, dtype: Any, what: str = "an array of numbers") -> np.ndarray:
    """Contiguous, of this type."""
    array = array_of(name, value, what)
    if array.dtype == dtype:  # the usual case
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "fiub":
        wrong_kind(name, value, f"of type {array.dtype}", what)
    with np.errstate(over="ignore"):  # infinite then, as the receiver sees
        return np.ascontiguousarray(array, dtype)


def dtype(name: str, value: Any, types: tuple[type, ...]) -> np.dtype:
    allowed = ", ".join(one.__name__ for one in types)
    try:
        found = np.dtype(value) if isinstance(value, (str, type, np.dtype)) else None
    except (TypeError, ValueError):
        found = None
    if found is None:
        wrong_kind(name, value, "no type of an array", allowed)
    if found not in types:
        not_possible(name, value, allowed, "another type")
    return found


def device(name: Any, threads: Any) -> tuple[str, int | None]:
    """The arguments device and threads."""
    return text("device", name, "auto, cpu, cuda"), integer("threads", threads, (1, 1024), optional=True)


def evaluation(
    episodes: Any, deterministic: Any, seed: Any, env: Any, max_episode_steps: Any, env_id: Any
) -> tuple[int, bool, int, list[tuple[str, Setting]]]:
    """The arguments of an evaluation, the last three as settings of the task that it plays."""
    task = {"env_id": env_id, "max_episode_steps": integer("max_episode_steps", max_episode_steps, optional=True)}
    return (
        integer("episodes", episodes, limits_of("eval_episodes")),
        boolean("deterministic", deterministic),
        integer("seed", seed),
        settings(env, {key: value for key, value in task.items() if value is not None}),
    )


def parameters(values: Mapping[str, Any]) -> dict[str, float]:
    """Parameters of an environment as numbers. What they may be, and which an environment has, _native knows."""
    return {name: _parameter(name, value) for name, value in values.items()}


def _parameter(name: str, value: Any) -> float:
    kind, allowed = _keys().get(f"env.{name}", ("unknown", ""))
    value = _scalar(value)
    if kind == "unknown":  # whatever it is
        return 0.0
    if kind == "boolean" and isinstance(value, (bool, np.bool_)):
        return float(value)
    if kind == "boolean" and _index(value) not in (0, 1):
        wrong_kind(name, value, "not a boolean", "True, False, 1, 0")
    return _number(name, value, allowed)


def _number(name: str, value: Any, allowed: str) -> float:
    if isinstance(value, (bool, np.bool_)) or not (isinstance(value, numbers.Real) or _index(value) is not None):
        wrong_kind(name, value, "not a number", allowed)
    try:
        return float(value)
    except OverflowError:
        not_possible(name, value, allowed)


def setting(name: str, value: Any) -> Setting:
    """The value of a key as the native module takes it: a str is what the command line takes."""
    kind, allowed = _keys().get(name, ("unknown", ""))
    if kind == "unknown":  # the native module names the nearest
        return None
    value = _scalar(value)
    if isinstance(value, str) or kind == "text":
        return text(name, value, allowed)
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if kind == "list" and isinstance(value, (list, tuple, np.ndarray)):
        return integers(name, value, _INT64) or None
    if kind == "choice":
        wrong_kind(name, value, "no text", allowed)
    whole = _index(value)
    if whole is not None and _INT64[0] <= whole <= _INT64[1]:
        return whole
    return _number(name, value, allowed)


def settings(env: Any, values: Mapping[str, Any]) -> list[tuple[str, Setting]]:
    """The argument env, then the others, as keys and values."""
    env = mapping("env", env, "a mapping of its parameters - to choose an environment use env_id")
    values = {f"env.{name}": value for name, value in env.items()} | dict(values)
    return [(name, setting(name, value)) for name, value in values.items()]


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
