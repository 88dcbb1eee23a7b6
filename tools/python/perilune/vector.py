"""Batches of environments as Gymnasium's vector environments."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from perilune import _arguments, _native
from perilune.spaces import action_space, observation_space

# Fields of a state besides the simulator's own.
_COUNTERS = [
    ("episode", np.uint32),
    ("elapsed", np.uint32),
    ("episode_return", np.float32),
    ("ended", np.bool_),
    ("seed", np.uint32),
    ("number", np.uint32),
]


class VectorEnv(gymnasium.vector.VectorEnv):
    """Environments stepped together; gymnasium.make_vec("perilune/<id>", num_envs=N, ...) makes it.

    Arrays. step() returns observations float32 [N, D], rewards float32 [N], terminations and truncations bool [N]. On
    the CPU they are NumPy arrays that the simulator writes directly: nothing is copied. An array that you keep, or of
    which you keep a view, a slice or a tensor made from it, is never written again; one that nobody refers to any more
    is used for a later step. (A bare address, as from x.ctypes.data, counts for nothing: keep the array with it.) On a
    GPU, or with arrays="dlpack", they are perilune.DeviceArray, for torch.from_dlpack(x) and its like; a step only
    enqueues, and a consumer's stream is made to wait for it and is waited for. What is wrong with actions on a GPU is
    raised by the next call that waits: check() or get_state().

    Randomness. reset(seed=s) starts environment i on the episodes of environment i of a training run with seed s,
    whatever N is; reset(seed=[s0, s1, ...]) starts each as environment 0 of a run with its seed. reset() goes on with
    the next episode.

    infos. Of a step in which episodes ended, with SAME_STEP: final_obs (object [N]), final_info and their masks, as of
    SyncVectorEnv. With episode_statistics also episode {r, l, t} (return float32 [N], length int32 [N], seconds float64
    [N]; 0 where no episode ended) and _episode (bool [N]), as Gymnasium's RecordEpisodeStatistics adds them, at no
    cost; that wrapper refuses infos that have them already. On a GPU r, l and final_obs are in every step's infos,
    without masks, valid where an episode ended.

    Copies. copy.deepcopy and pickle give environments of their own that go on in the same episodes with the same bits;
    those that were never reset are new ones. They are made as these were, with the same device and threads ("auto" and
    None choose anew; unpickling those of device="cuda" where there is no GPU raises NoDeviceError); states pass through
    the CPU.
    """

    def __init__(
        self,
        env_id: str = "CartPole-v1",
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        device: str = "cpu",
        threads: int | None = None,
        arrays: str | None = None,
        episode_statistics: bool = False,
        render_mode: str | None = None,
        **parameters: Any,
    ):
        """Makes num_envs environments.

        env_id: Gymnasium's id or an alias. max_episode_steps: the time limit (default: the environment's own).
        autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED, of Gymnasium's AutoresetMode or by name or value. device:
        "cpu", "cuda" or "auto" (a GPU if there is one). threads: of the CPU, None for one per core. arrays: "numpy"
        (the CPU's default) or "dlpack" (a GPU's). episode_statistics: whether infos have them. render_mode: None.
        parameters: of the environment, such as sutton_barto_reward=True.
        Raises UsageError for an unknown environment or parameter and for values that are not possible; warns of values
        that Gymnasium advises against.
        """
        if render_mode is not None:
            raise _arguments.RenderModeError(
                f"render_mode {_arguments.shown(render_mode)} is not possible - allowed: None - these "
                "environments do not draw"
            )
        env_id, num_envs = _arguments.text("env_id", env_id), _arguments.integer("num_envs", num_envs)
        arrays = _arguments.choice("arrays", arrays, ("numpy", "dlpack"), optional=True)
        statistics = _arguments.boolean("episode_statistics", episode_statistics)
        modes = {text: mode for mode in AutoresetMode for text in (mode.name, mode.value)}
        mode = (
            autoreset_mode
            if isinstance(autoreset_mode, AutoresetMode)
            else modes[_arguments.choice("autoreset_mode", autoreset_mode, modes)]
        )
        values = _arguments.parameters(parameters)
        for warning in _native.environment_warnings(env_id, values):
            warnings.warn(warning, stacklevel=2)
        self._made_with = (
            env_id,
            num_envs,
            values,
            _arguments.integer("max_episode_steps", max_episode_steps, optional=True) or 0,
            mode.value,
            *_arguments.device(device, threads),
            None if arrays is None else arrays == "numpy",
            statistics,
        )
        self._native = _native.VectorEnv(*self._made_with)
        self.num_envs = num_envs
        self.env_id = self._native.env_id
        self.max_episode_steps = self._native.max_episode_steps
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self.single_observation_space = observation_space(self._native.observation)
        self.single_action_space = action_space(self._native.is_continuous, self._native.num_actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._state_type = np.dtype([(name, np.float32) for name in self._native.field_names] + _COUNTERS)

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy take: everything but the native environments, whose states stand for them."""
        state = {**self.__dict__, "_native": None}
        if self._native.was_reset:
            state["_native"] = self.get_state(), self._native.seconds()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        native = _native.VectorEnv(*state["_made_with"])
        self.__dict__.update(state, _native=native)
        if self.closed:
            native.close()
        elif state["_native"] is not None:
            self._put(None, *state["_native"])

    @property
    def device(self) -> str:
        """What steps run on, in words."""
        return self._native.device

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts episodes; returns the observations of all environments and no infos.

        seed: see the class; 0 .. 2**32 - 1. options: {"reset_mask": bool [N]} restarts only those (not in the first
        reset).
        Raises UsageError for seeds out of range or of the wrong number and for a mask that is none.
        """
        mask = None
        options = _arguments.mapping("options", options, 'a dict {"reset_mask": bool [N]}')
        if unknown := sorted(set(options) - {"reset_mask"}):
            raise _native.UsageError(f"options {', '.join(unknown)} are unknown - allowed: reset_mask")
        if options:
            mask = self._mask(options["reset_mask"])
        seeds: list[int | None] = []
        if isinstance(seed, (list, tuple, range)) or (isinstance(seed, np.ndarray) and seed.ndim > 0):
            seeds = _arguments.seeds("seed", seed, self.num_envs)
            seed = None
        elif seed is not None:
            seed = _arguments.integer("seed", seed)
            super().reset(seed=seed)
        return self._native.reset(seed, seeds, mask), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step of every environment: observations, rewards, terminations, truncations, infos (see the class).

        actions: integers [N] (Discrete) or numbers [N, k] (Box; clipped as the environment does), NumPy or what NumPy
        can make an array of; int32, int64 and float32 are read where they are. On a GPU also DLPack arrays.
        Raises UsageError for a wrong shape, an action that is none or NaN, an episode that is over (DISABLED) and
        before the first reset, TypeError for a wrong type, Error after close. Nothing has changed then.
        """
        return self._native.step(actions)

    def observations(self) -> Any:
        """The observations [N, D] of the states as they are."""
        return self._native.observe()

    def get_state(self, indices: Any = None) -> np.ndarray:
        """The states of all environments, or those with these indices or of this mask: a structured array [n] of the
        simulator's fields and episode, elapsed, episode_return, ended, seed, number. Waits for the device."""
        fields, *counters = self._native.states(self._indices(indices))
        state = np.empty(len(fields), self._state_type)
        for i, name in enumerate(self._native.field_names):
            state[name] = fields[:, i]
        for (name, _), values in zip(_COUNTERS, counters, strict=True):
            state[name] = values
        return state

    def set_state(self, state: np.ndarray, indices: Any = None) -> Any:
        """Puts environments into states of get_state(), or into ones made by hand; returns the observations [N, D].

        Steps from the same state with the same actions give the same bits. Raises UsageError for states that are not
        possible, TypeError for an array without these fields.
        """
        state = np.atleast_1d(_arguments.array_of("state", state, "a structured array of get_state()"))
        if state.ndim != 1 or state.dtype.names is None or set(self._state_type.names) - set(state.dtype.names):
            raise TypeError(
                f"state of type {state.dtype}, shape {state.shape}, is no state of {self.env_id} - its fields are "
                f"{', '.join(self._state_type.names)} - take one from get_state() and change it"
            )
        places = self._indices(indices)
        count = self.num_envs if places is None else len(places)
        if len(state) != count:
            raise _native.UsageError(
                f"state has {len(state)} entries - allowed: {count}, one for each environment that indices "
                "name (None: all)"
            )
        self._put(places, state)
        return self._native.observe()

    def check(self) -> None:
        """Waits for the device; raises UsageError for an action that it has found wrong."""
        self._native.check()

    def render(self) -> None:
        """These environments do not draw. Raises Error."""
        raise _native.Error(
            f"{self.env_id} of perilune does not draw - make it with render_mode=None, and use Gymnasium's own "
            f"{self.env_id} to see an episode"
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Gives memory and threads back; arrays that were handed out stay."""
        if "_native" in self.__dict__:  # not when making it failed
            self._native.close()

    def _mask(self, mask: Any) -> np.ndarray:
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            what = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise _native.UsageError(
                f"options['reset_mask'] is {what} - allowed: a NumPy array of bool, ({self.num_envs},)"
            )
        if not mask.any():
            raise _native.UsageError("options['reset_mask'] names no environment - at least one must be True")
        return np.ascontiguousarray(mask).view(np.uint8)

    def _indices(self, indices: Any) -> list[int] | None:
        if indices is None:
            return None
        array = np.atleast_1d(_arguments.array_of("indices", indices, "integers, or a mask of bool"))
        if array.dtype == np.bool_:
            if array.shape != (self.num_envs,):
                raise _native.UsageError(f"indices is a mask of shape {array.shape} - allowed: ({self.num_envs},)")
            array = np.flatnonzero(array)
        return _arguments.integers("indices", array, (0, self.num_envs - 1))

    def _put(self, places: list[int] | None, state: np.ndarray, seconds: np.ndarray | None = None) -> None:
        """seconds [n]: how long their episodes have taken; None: they begin now."""
        fields = np.stack([self._field(state, name, np.float32) for name in self._native.field_names], axis=1)
        counters = [self._field(state, name, np.uint8 if kind is np.bool_ else kind) for name, kind in _COUNTERS]
        self._native.set_states(places, np.ascontiguousarray(fields), *counters, seconds)

    def _field(self, state: np.ndarray, name: str, kind: Any) -> np.ndarray:
        """A field [n] of states in this type. Counters are whole numbers that fit it."""
        values = _arguments.floats(f"state[{name!r}]", state[name], None)
        if values.ndim != 1:
            _arguments.not_possible(
                f"state[{name!r}]", values, f"one number for each of {len(state)}", f"of shape {values.shape}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            converted = np.ascontiguousarray(values, kind)
        if kind is not np.float32 and (converted != values).any():
            _arguments.not_possible(f"state[{name!r}]", values, f"whole numbers, 0 .. {np.iinfo(kind).max}")
        return converted

    def __repr__(self) -> str:
        return f"<perilune.VectorEnv of {self.num_envs} {self.env_id} on {self.device}>"
