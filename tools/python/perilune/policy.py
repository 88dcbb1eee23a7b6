"""Trained policies: observations in, actions out; and their networks for other programs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perilune import _arguments, _native, _safetensors
from perilune.evaluation import Evaluation

# Of every number of a continuous action.
_LOW, _HIGH = -1.0, 1.0
# Added to the variance that observations are normalised by.
_EPSILON = 1e-8


def load(run: str | os.PathLike, *, best: bool = False, device: str = "auto", threads: int | None = None) -> Policy:
    """Loads a trained policy.

    run: a run directory (its newest readable checkpoint), a checkpoint or policy file, or what train() returned.
    best: of a run, the policy of its best evaluation instead.
    device: "auto" (a GPU if there is one), "cpu" or "cuda". threads: of the CPU, None for one per core.
    Raises UsageError if there is nothing to load, Error if it cannot be read or a run has not been evaluated yet.
    """
    return Policy(file_of("run", run, best), device=device, threads=threads)


def import_policy(
    file: str | os.PathLike,
    critic: str | os.PathLike | None = None,
    *,
    to: str | os.PathLike,
    preset: str | None = None,
    config_file: str | os.PathLike | None = None,
    env: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Path:
    """Makes a policy file, which load() and train(from_policy=...) take, of PyTorch state dictionaries; PyTorch is not
    needed, and no code in them is run.

    file: of an actor and a critic as CleanRL saves them (actor.0.weight, critic.0.weight, ...; actor_mean and
    actor_logstd), or of the actor alone, and critic: of the critic alone, each with input_layer, hidden_layer and
    output_layer or as a Sequential. to: the file to write, which ends in .safetensors.
    preset, config_file (TOML), env (parameters of the environment) and overrides (any key of keys()) set what weights
    do not tell: env_id, activation, and log_std_init where no standard deviations are in the file; the later wins.

    Returns the path that was written. What was not taken as it is (float64, missing standard deviations) is a
    UserWarning. Raises UsageError for settings that are missing or do not fit the weights, Error for files that are
    damaged or hold anything but the tensors of such networks.
    """
    notes = _native.import_policy(
        _arguments.path("file", file),
        _arguments.path("critic", critic, optional=True),
        None if preset is None else _arguments.text("preset", preset),
        _arguments.path("config_file", config_file, optional=True),
        _arguments.settings(env, overrides),
        written := _arguments.path("to", to),
    )
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Path(written)


def file_of(name: str, run: str | os.PathLike, best: bool) -> str:
    """What the argument `name` says to load: a run directory or file itself, or the file of a run's best policy."""
    path = _arguments.path(name, run)
    return _native.best_policy(path) if _arguments.boolean("best", best) else path


class Policy:
    """A trained policy. Calling it gives actions; `outputs` gives what the network says.

    Arithmetic is fp32, as in evaluations, whatever precision training multiplied in.

    It can be copied and pickled, weights included, and goes on with the same draws: on the device, and with the
    threads, that it was loaded with ("auto" chooses anew; unpickling a policy of device="cuda" where there is no GPU
    raises NoDeviceError).
    """

    def __init__(self, path: str | os.PathLike, *, device: str = "auto", threads: int | None = None):
        """See load()."""
        self.path = Path(_arguments.path("path", path))
        self._where = _arguments.device(device, threads)
        self._native = _native.Policy(os.fspath(self.path), *self._where)
        self._calls = 0

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy take: the bytes of a policy file and what else there is, so that no file is needed."""
        return {**self.__dict__, "_native": self._native.file()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._native = _native.Policy(state["_native"], os.fspath(self.path), *self._where)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration it was trained with."""
        return self._native.config()

    @property
    def env_id(self) -> str:
        return self.config["env_id"]

    @property
    def device(self) -> str:
        return self._native.device

    def __call__(self, obs: Any, *, deterministic: bool = True, seed: int = 0) -> Any:
        """Actions for observations.

        obs: [D] or [n, D], NumPy (or what NumPy can make an array of), or a DLPack array on the policy's GPU (float32).
        deterministic: the most probable action (Box: the mean); else drawn: call c, row i draws by (seed, c, i).

        Returns int64 [n] (Discrete) or float32 [n, k] within the action space (Box), without the first axis for a
        single observation; for an array on the GPU a DeviceArray, its numbers not clipped, without waiting for the GPU.
        Raises UsageError for a wrong shape or a NaN, TypeError for what is no array of numbers.
        """
        obs, is_single = self._rows(obs)
        deterministic = _arguments.boolean("deterministic", deterministic)
        actions, _ = self._native.act(obs, deterministic, _arguments.integer("seed", seed), self._calls)
        self._calls = (self._calls + (not deterministic)) % 2**32
        if isinstance(actions, _native.DeviceArray):
            return actions
        if self._native.is_continuous:
            actions = np.clip(actions, _LOW, _HIGH, out=actions)
        return actions[0] if is_single else actions

    def outputs(self, obs: Any) -> Any:
        """What the network's head says of observations [D] or [n, D]: logits of the choices, or means of the numbers
        (float32 [k] or [n, k])."""
        obs, is_single = self._rows(obs)
        _, outputs = self._native.act(obs, True, 0, 0)
        return outputs[0] if is_single else outputs

    def _rows(self, obs: Any) -> tuple[Any, bool]:
        """float32 [n, D], and whether it was [D]."""
        if type(obs) is not np.ndarray and hasattr(obs, "__dlpack_device__") and int(obs.__dlpack_device__()[0]) != 1:
            return obs, False
        array = _arguments.floats("obs", obs, np.float32, "float32 [D] or [n, D]")
        return (array[None], True) if array.ndim == 1 else (array, False)

    def evaluate(
        self,
        episodes: int = 100,
        *,
        deterministic: bool = True,
        seed: int = 1,
        env: Mapping[str, Any] | None = None,
        max_episode_steps: int | None = None,
        env_id: str | None = None,
    ) -> Evaluation:
        """Plays whole episodes of the task that the policy was trained for, or of another; see perilune.evaluate()."""
        options = _arguments.evaluation(episodes, deterministic, seed, env, max_episode_steps, env_id)
        return Evaluation(**self._native.evaluate(*options))

    def weights(self) -> dict[str, np.ndarray]:
        """The networks' parameters by name, as in a PyTorch Sequential: actor.0.weight [out, in], actor.0.bias [out],
        ..., critic.0.weight, ...; with norm_obs also obs_mean, obs_var and obs_count, with norm_reward return_mean,
        return_var and return_count."""
        return _safetensors.tensors_of(self._native.file())

    def export(self, path: str | os.PathLike, layout: str | None = None) -> Path:
        """Writes the policy for other programs, as the name ends:

        .safetensors  actor and critic, as weights() names them, and the configuration
        .npz          the same tensors for numpy.load
        .onnx         the actor: "obs" [n, D] -> "outputs" [n, k] (needs the package onnx)
        .pt           the actor as TorchScript, [n, D] -> [n, k] (needs torch)
        .pth          actor and critic as a PyTorch state dictionary with CleanRL's keys (torch is not needed)

        layout: "sequential" writes the state dictionary of .pth also for .pt; "layers" writes two, actor_nn.pt and
        critic_nn.pt, into the directory `path`, with the keys input_layer.weight, hidden_layer.weight, ...

        Discrete actions: the outputs are logits, the action is their argmax. Continuous ones: the outputs of .onnx and
        .pt are the action, clipped to its bounds as a call of the policy clips it. The others hold weights, whose
        outputs are to be clipped to action_low and action_high: arrays [k] of the .npz, numbers in the metadata of the
        .safetensors.

        A policy of norm_obs takes observations as they are and normalises them itself: .onnx and .pt do so as well,
        in the first layer where clip_obs = 0. For the weights of the others observations are to be normalised,
        (obs - obs_mean) / sqrt(obs_var + 1e-8), and then clipped to +-obs_clip, which is an array [] of the .npz and a
        number in the metadata of the .safetensors where there is one.

        Returns the path. Raises UsageError for another ending, ImportError where the package is missing.
        """
        path = Path(_arguments.path("path", path))
        layout = _arguments.choice("layout", layout, ("sequential", "layers"), optional=True)
        if layout is not None:
            self._native.export_state(layout == "layers", os.fspath(path))
            return path
        write = {
            ".safetensors": _write_safetensors,
            ".npz": _write_npz,
            ".onnx": _write_onnx,
            ".pt": _write_torchscript,
            ".pth": lambda policy, path: policy._native.export_state(False, os.fspath(path)),
        }
        if path.suffix not in write:
            raise _native.UsageError(
                f"path {path.name!r} does not say in what form to export - allowed: names that end in "
                f"{', '.join(write)}"
            )
        write[path.suffix](self, path)
        return path

    def _layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(weight [out, in], bias [out]) of the actor's layers, in order. Where nothing is clipped between, the first
        normalises observations."""
        tensors = self.weights()
        numbers = sorted(
            int(name.split(".")[1]) for name in tensors if name.startswith("actor.") and name.endswith(".weight")
        )
        layers = [(tensors[f"actor.{n}.weight"], tensors[f"actor.{n}.bias"]) for n in numbers]
        if self.config["norm_obs"] and self._clip is None:
            weight, bias = layers[0]
            scaled = weight / np.sqrt(tensors["obs_var"].astype(np.float64) + _EPSILON)
            layers[0] = scaled.astype(np.float32), (bias - scaled @ tensors["obs_mean"]).astype(np.float32)
        return layers

    @property
    def _clip(self) -> float | None:
        """Where normalised observations are clipped; None: nowhere."""
        return self.config["clip_obs"] if self.config["norm_obs"] and self.config["clip_obs"] > 0 else None

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"<perilune.Policy for {self.env_id} from {str(self.path)!r} on {self.device}>"


def _write_safetensors(policy: Policy, path: Path) -> None:
    path.write_bytes(policy._native.file())


def _write_npz(policy: Policy, path: Path) -> None:
    count = policy._native.num_actions
    bounds = {"action_low": np.full(count, _LOW, np.float32), "action_high": np.full(count, _HIGH, np.float32)}
    activation = policy.config["output_activation"]
    extra = {} if activation is None else {"output_activation": np.array(activation)}
    if policy._clip is not None:
        extra["obs_clip"] = np.float32(policy._clip)
    np.savez(path, **policy.weights(), **bounds if policy._native.is_continuous else {}, **extra)


def _write_onnx(policy: Policy, path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    layers = policy._layers()
    operators = {"tanh": "Tanh", "relu": "Relu"}
    activation, of_outputs = operators[policy.config["activation"]], policy.config["output_activation"]
    outputs = "means" if policy._native.is_continuous else "outputs"
    nodes, values, current = [], [], "obs"
    if policy._clip is not None:
        weights = policy.weights()
        for name, value in (
            ("obs_mean", weights["obs_mean"]),
            ("obs_std", np.sqrt(weights["obs_var"] + np.float32(_EPSILON))),
            ("obs_low", np.array(-policy._clip, np.float32)),
            ("obs_high", np.array(policy._clip, np.float32)),
        ):
            values.append(numpy_helper.from_array(value, name))
        for operator, operands, result in (
            ("Sub", ["obs", "obs_mean"], "obs_centred"),
            ("Div", ["obs_centred", "obs_std"], "obs_scaled"),
            ("Clip", ["obs_scaled", "obs_low", "obs_high"], "obs_normalized"),
        ):
            nodes.append(helper.make_node(operator, operands, [result]))
        current = "obs_normalized"
    for i, (weight, bias) in enumerate(layers):
        values += [numpy_helper.from_array(weight, f"weight{i}"), numpy_helper.from_array(bias, f"bias{i}")]
        is_last = i + 1 == len(layers)
        result = outputs if is_last and of_outputs is None else f"sum{i}"
        nodes.append(helper.make_node("Gemm", [current, f"weight{i}", f"bias{i}"], [result], transB=1))
        if not is_last:
            nodes.append(helper.make_node(activation, [result], [f"hidden{i}"]))
        elif of_outputs is not None:
            nodes.append(helper.make_node(operators[of_outputs], [result], [outputs]))
        current = f"hidden{i}"
    if policy._native.is_continuous:
        values += [
            numpy_helper.from_array(np.array(bound, np.float32), name)
            for name, bound in (("low", _LOW), ("high", _HIGH))
        ]
        nodes.append(helper.make_node("Clip", ["means", "low", "high"], ["outputs"]))
    graph = helper.make_graph(
        nodes,
        "actor",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["n", layers[0][0].shape[1]])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["n", layers[-1][0].shape[0]])],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, os.fspath(path))


def _write_torchscript(policy: Policy, path: Path) -> None:
    import torch

    kinds = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
    activation, of_outputs = kinds[policy.config["activation"]], policy.config["output_activation"]
    modules: list[Any] = []
    if policy._clip is not None:
        weights = policy.weights()
        normal = torch.nn.BatchNorm1d(len(weights["obs_mean"]), eps=_EPSILON, affine=False).eval()
        normal.running_mean.copy_(torch.tensor(weights["obs_mean"]))
        normal.running_var.copy_(torch.tensor(weights["obs_var"]))
        modules += [normal, torch.nn.Hardtanh(-policy._clip, policy._clip)]
    for weight, bias in policy._layers():
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weight))
            linear.bias.copy_(torch.tensor(bias))
        modules += [linear, activation()]
    modules[-1:] = [] if of_outputs is None else [kinds[of_outputs]()]
    modules += [torch.nn.Hardtanh(_LOW, _HIGH)] if policy._native.is_continuous else []
    torch.jit.script(torch.nn.Sequential(*modules).eval()).save(os.fspath(path))
