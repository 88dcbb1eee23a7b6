"""Every public function and method refuses every wrong kind of argument, naming it and saying what is allowed.

What there is to call, and with which arguments, is looked up (inspect); only values for arguments without a default
stand here.
"""

import decimal
import fractions
import inspect
import os
import pathlib
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pytest

import perilune
from conftest import SHORT

NOT_CALLED = {
    "Evaluation": "a record of results",
    "Best": "a record of results",
    "DeviceArray": "a class of the native module: tested by itself below",
}

VALUES = [
    None,
    True,
    False,
    np.True_,
    np.array(True),
    0,
    1,
    3,
    -1,
    2**31,
    2**32,
    2**63,
    2**64,
    10**30,
    -(10**30),
    10**4000,
    1.0,
    1.5,
    1e300,
    float("nan"),
    float("inf"),
    1j,
    fractions.Fraction(3, 2),
    decimal.Decimal("1.5"),
    "",
    "1",
    "1.5",
    "x",
    "none",
    "a\0b",
    "\udc80",
    "x" * 300,
    b"1",
    bytearray(b"\1\0\1"),
    memoryview(b"\1\0\1"),
    [],
    [1],
    [1.5],
    ["x"],
    [None],
    [[1], [2, 3]],
    [2**70],
    (1, 2, 3),
    {},
    {"x": 1},
    {1: 2},
    {"a\0b": 1},
    {1, 2},
    range(3),
    iter([1]),
    object(),
    int,
    lambda: None,
    pathlib.PurePath("x"),
    NotImplemented,
    ...,
    np.int64(3),
    np.uint64(2**63),
    np.int8(-1),
    np.float32(1.5),
    np.float64("nan"),
    np.array(3),
    np.array(1.5),
    np.array([3]),
    np.array("x"),
    np.array(["x", "y"]),
    np.array(None),
    np.array([None, 1]),
    np.zeros(3),
    np.zeros(0),
    np.zeros((3, 4)),
    np.zeros((4, 3)).T,
    np.zeros((2, 2, 2)),
    np.zeros(3, complex),
    np.zeros(3, ">i4"),
    np.zeros(3, ">f8"),
    np.zeros(3, bool),
    np.array([0, -1, 1]),
    np.full(3, 2**63, np.uint64),
    np.full(3, np.nan),
    np.full((1, 4), np.inf),
    np.zeros(3, "M8[s]"),
    np.zeros(3, [("x", "f4")]),
    np.float16(1.5),
    np.str_("x"),
    np.datetime64(1, "s"),
    np.longdouble(1.5),
]

# Texts of nanobind, Python and NumPy that say nothing of what is allowed here.
RAW = [
    "incompatible function arguments",
    "bad_cast",
    "Invoked with",
    "not iterable",
    "expected str, bytes",
    "has no len",
    "cannot be interpreted",
    "unhashable",
    "positional argument",
    "object is not",
    "has no attribute",
    "unsupported operand",
    "is not a valid",
    "only integer scalar arrays",
]


class Callables:
    """What is public, as (name, function, good arguments). Every call gets its own, made by a function of the table."""

    def __init__(self, run, directory):
        self.run, self.directory, self.count = run, directory, 0
        self.policy = run.policy
        self.state = self.policy.export(directory / "policy.pth")
        self.samples = {
            "load": lambda: {"run": run.run_dir, "device": "cpu"},
            "import_policy": lambda: {
                "file": self.state,
                "preset": "cartpole",
                "to": self.fresh().with_suffix(".safetensors"),
            },
            "Policy": lambda: {"path": run.run_dir, "device": "cpu"},
            "Run": lambda: {"run_dir": run.run_dir},
            "VectorEnv": lambda: {"num_envs": 3},
            "train": lambda: {
                **SHORT,
                "preset": "cartpole",
                "callback": lambda progress: False,
                "run_dir": self.fresh(),
            },
            "evaluate": lambda: {"policy": run.run_dir, "episodes": 2, "device": "cpu"},
            "replay": lambda: {"env_id": "CartPole-v1", "draws": np.zeros(4), "actions": [0, 1, 0]},
            "Policy.__call__": lambda: {"obs": np.zeros((3, 4), np.float32)},
            "Policy.outputs": lambda: {"obs": np.zeros((3, 4), np.float32)},
            "Policy.export": lambda: {"path": self.fresh().with_suffix(".npz")},
            "Policy.evaluate": lambda: {"episodes": 2},
            "Run.evaluate": lambda: {"episodes": 2, "device": "cpu"},
            "Env.step": lambda: {"action": 0},
            "Env.set_state": lambda: {"state": self.environment().get_state()},
            "VectorEnv.step": lambda: {"actions": np.zeros(3, int)},
            "VectorEnv.set_state": lambda: {"state": self.environments().get_state()},
        }
        self.instances = {
            "Policy": lambda: self.policy,
            "Run": lambda: run,
            "VectorEnv": self.environments,
            "Env": self.environment,
        }

    def fresh(self):
        self.count += 1
        return self.directory / str(self.count)

    def environment(self):
        env = perilune.Env("CartPole-v1")
        env.reset(seed=1)
        return env

    def environments(self):
        envs = perilune.VectorEnv("CartPole-v1", 3)
        envs.reset(seed=1)
        return envs

    def __iter__(self):
        for name in perilune.__all__:
            thing = getattr(perilune, name)
            if name in NOT_CALLED or (isinstance(thing, type) and issubclass(thing, Exception)):
                continue
            yield name, lambda thing=thing: thing, self.samples.get(name, dict)
            for method, function in vars(thing).items() if isinstance(thing, type) else ():
                if isinstance(function, types.FunctionType) and (method == "__call__" or not method.startswith("_")):
                    assert name in self.instances, f"{name} is new: say in Callables how to make one"
                    yield (
                        f"{name}.{method}",
                        partial(self._bound, name, method),
                        self.samples.get(f"{name}.{method}", dict),
                    )

    def _bound(self, name, method):
        return getattr(self.instances[name](), method)


def extra_arguments(name):
    """What **arguments stand for, with what is allowed."""
    if name in ("train", "import_policy"):
        return {key: entry["type"] for key, entry in perilune.keys().items()}
    if name in ("VectorEnv", "Env", "replay"):
        parameters = perilune.environments()["CartPole-v1" if name == "replay" else "LunarLander-v3"]["parameters"]
        return {key: entry["type"] for key, entry in parameters.items()}
    if name == "Run.evaluate":
        return {
            key: hint
            for key, hint in typing.get_type_hints(perilune.evaluate).items()
            if key not in ("policy", "episodes", "return")
        }
    return {}


def is_integer(value):
    return (
        not isinstance(value, (bool, np.bool_))
        and hasattr(value, "__index__")
        and (not isinstance(value, np.ndarray) or (value.ndim == 0 and value.dtype.kind in "iu"))
    )


def is_number(value):
    return (
        is_integer(value)
        or isinstance(value, (float, fractions.Fraction, np.floating))
        or (isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf")
    )


def is_boolean(value):
    return isinstance(value, (bool, np.bool_)) or (
        isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype == bool
    )


def is_array(value):
    return np.asarray(value).dtype.kind in "biuf" or np.asarray(value).dtype.names is not None


def fits(value, hint):
    """Whether the value is what a type hint, or the type of a key, says."""
    if isinstance(hint, str):  # of a key or parameter; a str is what the command line takes
        return (
            {
                "integer": is_number(value),
                "number": is_number(value),
                "choice": is_boolean(value) or value is None,
                "boolean": is_boolean(value) or (is_integer(value) and value in (0, 1)),
                "list": value is None or is_integer(value) or isinstance(value, (list, tuple, np.ndarray)),
                "text": False,
            }[hint]
            or isinstance(value, str)
            or (value is None and hint == "number")
        )
    if hint is typing.Any:
        return value is None or is_array(value)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    rules = {
        int: is_integer,
        float: is_number,
        bool: is_boolean,
        type(None): lambda value: value is None,
        Callable: callable,
        Sequence: lambda value: (
            isinstance(value, (list, tuple, range)) or (isinstance(value, np.ndarray) and value.ndim == 1)
        ),
        Mapping: lambda value: isinstance(value, Mapping),
        dict: lambda value: isinstance(value, Mapping),
        np.ndarray: is_array,
    }
    return rules.get(kind, lambda value: isinstance(value, kind))(value)


def complaint(call, argument, value, hint):
    """What is wrong with what the call did; None if nothing is."""
    try:
        call()
    except (TypeError, ValueError, perilune.Error) as error:
        if callable(value) and argument == "callback":  # its own error
            return None
        text = str(error)
        if any(raw in text for raw in RAW):
            return f"raises {type(error).__name__}: {text}"
        named = argument in text or (isinstance(value, (str, os.PathLike)) and str(value)[:20] in text)
        if not named or " - " not in text:
            return f"does not say what and what is allowed: {type(error).__name__}: {text}"
        return f"is too long: {text}" if len(text) > 1000 else None
    except BaseException as error:
        return f"raises {type(error).__name__}: {error}"
    return None if fits(value, hint) else "is taken"


def call_once(function, sample, changes):
    """Calls what function() makes with the arguments that sample() makes, these changed."""
    return function()(**{**sample(), **changes})


def test_wrong_kinds_of_every_argument(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    warnings.simplefilter("ignore")
    complaints, tried = [], {}
    for name, function, sample in Callables(trained, tmp_path):
        parameters = inspect.signature(function()).parameters
        hints = typing.get_type_hints(function().__init__ if isinstance(function(), type) else function())
        required = {
            key
            for key, one in parameters.items()
            if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
        }
        assert required <= set(sample()), f"{name}: say in Callables what its {required} may be"
        arguments = {key: hints.get(key) for key, one in parameters.items() if one.kind is not one.VAR_KEYWORD}
        assert all(hint is not None for hint in arguments.values()), f"{name}: an argument has no type: {arguments}"
        if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            arguments |= extra_arguments(name)
        extra = set(arguments) - set(parameters)
        tried[name] = set(arguments)
        for number, (argument, hint) in enumerate(arguments.items()):
            # Keys are many and of few types: each value is tried with some of every type.
            for value in VALUES[number % 5 :: 5] if argument in extra and len(extra) > 20 else VALUES:
                of = {"env_id": "LunarLander-v3"} if name in ("VectorEnv", "Env") and isinstance(hint, str) else {}
                call = partial(call_once, function, sample, {**of, argument: value})
                if found := complaint(call, argument.split(".")[-1], value, hint):
                    complaints.append(f"{name}({argument}={value!r:.60}) {found}")
    assert {"train", "evaluate", "load", "replay", "VectorEnv.reset", "Policy.__call__", "Run.evaluate"} <= set(tried)
    assert {"seed", "resume", "gamma", "env.gravity", "threads"} <= tried["train"]
    assert not complaints, f"{len(complaints)}:\n" + "\n".join(complaints)


def test_arrays_of_devices(make):
    """Their class is the native module's, which has no signatures to look up."""
    public = {name for name in vars(perilune.DeviceArray) if not name.startswith("_")}
    assert public == {"numpy", "shape", "dtype", "device"}, "new: try their arguments here"
    observations, _ = make(num_envs=3, arrays="dlpack").reset(seed=1)
    for stream in (0, True, 1.5, "1", 2**70, object(), 1, 2, -1):
        with pytest.raises((TypeError, ValueError), match=r"^stream .* - "):
            observations.__dlpack__(stream=stream)
    assert np.asarray(observations, np.float64).dtype == np.float64
    assert np.array(observations, copy=True).shape == np.asarray(observations).shape == (3, 4)
    with pytest.raises(ValueError, match=r"^copy = False is not possible - allowed: None, True"):
        np.array(observations, copy=False)
    with pytest.raises(TypeError, match="constructor"):
        perilune.DeviceArray()


def test_states_are_not_cut(make):
    """Counters that are no whole numbers, or too large for their 32 bits, and shapes that do not fit."""
    envs = make(num_envs=3)
    envs.reset(seed=1)
    state = envs.get_state()
    wide = state.astype([(name, "f8") for name in state.dtype.names])
    envs.set_state(wide)
    np.testing.assert_array_equal(envs.get_state(), state)
    for name, value in [("episode", 1.5), ("elapsed", -1), ("seed", 2**32), ("number", np.nan), ("ended", 0.5)]:
        wrong = wide.copy()
        wrong[name][1] = value
        with pytest.raises(
            perilune.UsageError, match=rf"state\['{name}'\] = .* is out of range - allowed: whole numbers, 0 \.\. "
        ):
            envs.set_state(wrong)
    for wrong in (state[:2], np.stack([state, state]), state[:0], np.repeat(state, 2)):
        with pytest.raises((perilune.UsageError, TypeError), match=r"^state .* - "):
            envs.set_state(wrong)
    with pytest.raises(perilune.UsageError, match=r"indices = .* of shape \(2, 1\)"):
        envs.get_state([[0], [1]])
    np.testing.assert_array_equal(envs.get_state(), state)


@pytest.mark.parametrize(
    "env_id, shapes", [("CartPole-v1", [(3, 1), (1, 3), (3, 2)]), ("LanderContinuous-v0", [(4,), (2, 3), (2, 2, 2)])]
)
def test_replayed_actions_are_not_flattened(env_id, shapes):
    draws = np.zeros(200)
    for shape in shapes:
        with pytest.raises(perilune.UsageError, match=r"^actions have shape .* - allowed for "):
            perilune.replay(env_id, draws, np.zeros(shape))
    for wrong in (np.zeros((2, 2)), [np.nan] * 20):
        with pytest.raises(perilune.UsageError, match=r"^draws = .* - allowed: finite numbers"):
            perilune.replay(env_id, wrong, [])
    assert len(perilune.replay(env_id, draws, [])["reward"]) == 0


@pytest.mark.parametrize("dtype", [">i4", ">i8", "<u2"])
def test_actions_in_another_byte_order(make, dtype):
    envs, other = make(num_envs=3), make(num_envs=3)
    envs.reset(seed=1), other.reset(seed=1)
    np.testing.assert_array_equal(envs.step(np.array([1, 0, 1], dtype))[0], other.step(np.array([1, 0, 1]))[0])
