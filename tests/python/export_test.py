"""Exported policies compute what the policy does, clipped where it clips, in the formats' own runtimes where they are
installed; without them what was written is read by the few lines of NumPy below."""

import contextlib
import sys
import types

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import perilune
from conftest import SHORT


@pytest.fixture(scope="module")
def saturating(tmp_path_factory):
    """A policy with two continuous actions, most of which are far beyond their bounds."""
    folder = tmp_path_factory.mktemp("saturating")
    run = perilune.train("lander-continuous", **{**SHORT, "hidden_width": 64, "run_dir": folder / "run"})
    file = run.run_dir / "policy.safetensors"
    tensors = load_file(file)
    with safe_open(file, "np") as opened:
        metadata = opened.metadata()
    last = max(name for name in tensors if name.startswith("actor.") and name.endswith(".weight"))
    tensors[last] *= 200
    save_file(tensors, folder / "policy.safetensors", metadata)
    return perilune.load(folder / "policy.safetensors", device="cpu")


@pytest.fixture(scope="module")
def normalizing(tmp_path_factory):
    """Policies of CartPole that normalise their observations, and clip them, by clip_obs."""
    folder = tmp_path_factory.mktemp("normalizing")
    return {
        clip: perilune.train(
            "cartpole", **{**SHORT, "norm_obs": True, "clip_obs": clip, "run_dir": folder / f"clip {clip}"}
        ).policy
        for clip in (0, 1.5)
    }


@pytest.fixture(params=["discrete", "continuous", "normalized", "normalized and clipped"])
def policy(request, trained, saturating, normalizing):
    return {
        "discrete": trained.policy,
        "continuous": saturating,
        "normalized": normalizing[0],
        "normalized and clipped": normalizing[1.5],
    }[request.param]


def observations_of(policy, count=257):
    dim = policy.weights()["actor.0.weight"].shape[1]
    return np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)


def expect_the_policys_actions(policy, observations, outputs):
    """What an exported program says of observations: actions as the policy takes them, or logits."""
    assert outputs.dtype == np.float32
    if policy.env_id == "CartPole-v1":
        # Some 40 fp32 operations on numbers up to 50, and a tanh that is within 3e-7.
        np.testing.assert_allclose(outputs, policy.outputs(observations), rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(outputs.argmax(axis=1), policy(observations))
        return
    means, actions = policy.outputs(observations), policy(observations)
    beyond = np.abs(means) > 1.1
    assert beyond.any(axis=0).all() and (np.abs(means) < 0.9).any() and np.abs(means).max() > 5
    np.testing.assert_array_equal(outputs[beyond], np.sign(means[beyond]))
    np.testing.assert_allclose(outputs, actions, rtol=1e-5, atol=1e-3)  # 200 times what the network's rounding is


def network(tensors, observations, activation=np.tanh, clip=np.inf):
    """The actor of named tensors, in the arithmetic of a reader's own program."""
    x, layer = observations, 0
    if "obs_mean" in tensors:
        x = (x - tensors["obs_mean"]) / np.sqrt(tensors["obs_var"] + np.float32(1e-8))
        x = np.clip(x, -clip, clip)
    while f"actor.{layer}.weight" in tensors:
        x = (activation(x) if layer else x) @ tensors[f"actor.{layer}.weight"].T + tensors[f"actor.{layer}.bias"]
        layer += 2
    return x


def test_weights_and_how_to_clip(policy, tmp_path):
    continuous = policy.env_id != "CartPole-v1"
    observations = observations_of(policy)
    file = policy.export(tmp_path / "policy.safetensors")
    exported, arrays = load_file(file), dict(np.load(policy.export(tmp_path / "policy.npz")))
    with safe_open(file, "np") as opened:
        metadata = opened.metadata()
    bounds = [arrays.pop(name) for name in ("action_low", "action_high")] if continuous else []
    clip = arrays.pop("obs_clip", np.inf)
    assert float(metadata.get("obs_clip", np.inf)) == clip
    assert ("obs_normalization" in metadata) == ("obs_mean" in exported)
    assert set(exported) == set(arrays) == set(policy.weights())
    for name, tensor in policy.weights().items():
        np.testing.assert_array_equal(exported[name], tensor)
        np.testing.assert_array_equal(arrays[name], tensor)
    np.testing.assert_array_equal(perilune.load(file).outputs(observations), policy.outputs(observations))
    outputs = network(exported, observations, clip=clip)
    if continuous:
        expect_the_policys_actions(policy, observations, np.clip(outputs, *bounds))
        outputs = np.clip(outputs, float(metadata["action_low"]), float(metadata["action_high"]))
    else:
        assert not {"action_low", "action_high"} & set(metadata)
    expect_the_policys_actions(policy, observations, outputs)


def test_files_of_runs_say_how_to_clip(saturating):
    """Without an export, too."""
    with safe_open(saturating.path.parent / "run" / "policy.safetensors", "np") as opened:
        assert (opened.metadata()["action_low"], opened.metadata()["action_high"]) == ("-1.0", "1.0")


def test_exports_of_every_file(trained, tmp_path):
    wanted = load_file(trained.run_dir / "policy.safetensors")
    for source in (
        trained.policy,
        perilune.load(trained.run_dir / "checkpoint.safetensors"),
        perilune.load(trained.run_dir / "policy.safetensors"),
    ):
        exported = load_file(source.export(tmp_path / "policy.safetensors"))
        assert set(exported) == set(wanted)
        for name, tensor in wanted.items():
            np.testing.assert_array_equal(exported[name], tensor)
    with pytest.raises(perilune.UsageError, match="does not say in what form"):
        trained.policy.export(tmp_path / "policy.bin")


def test_torchscript(policy, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not in build/venv")
    module = torch.jit.load(policy.export(tmp_path / "policy.pt"))
    observations = observations_of(policy)
    expect_the_policys_actions(policy, observations, module(torch.from_numpy(observations)).detach().numpy())


def test_onnx(policy, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not in build/venv")
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(policy.export(tmp_path / "policy.onnx"))
    observations = observations_of(policy)
    expect_the_policys_actions(policy, observations, ReferenceEvaluator(model).run(None, {"obs": observations})[0])


def test_onnx_in_its_runtime(policy, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not in build/venv")
    pytest.importorskip("onnx", reason="onnx is not in build/venv")
    session = onnxruntime.InferenceSession(policy.export(tmp_path / "policy.onnx"))
    observations = observations_of(policy)
    expect_the_policys_actions(policy, observations, session.run(["outputs"], {"obs": observations})[0])


class Tape(list):
    """What an exporter says to a library that is not here: it notes each call of any function as (name, arguments)."""

    def __getattr__(self, name):
        def note(*arguments, **options):
            self.append((name, arguments, options))
            return self[-1]

        return note


@pytest.fixture
def libraries(monkeypatch):
    """Stand-ins for onnx and torch, and what the exporter gave them."""
    tape = Tape()
    onnx = types.SimpleNamespace(
        helper=tape,
        numpy_helper=tape,
        TensorProto=types.SimpleNamespace(FLOAT=1),
        save=tape.save,
        checker=types.SimpleNamespace(check_model=lambda model: None),
    )

    class Linear:
        def __init__(self, inputs, outputs):
            self.weight, self.bias = (
                types.SimpleNamespace(copy_=lambda values, name=name: setattr(self, name, values))
                for name in ("weight", "bias")
            )

    class Sequential(tuple):
        def __new__(cls, *modules):
            return super().__new__(cls, modules)

        def eval(self):
            return self

    class BatchNorm1d:
        def __init__(self, count, eps, affine):
            assert not affine
            self.eps, self.shape = eps, (count,)
            self.running_mean, self.running_var = (
                types.SimpleNamespace(copy_=lambda values, name=name: setattr(self, name, values))
                for name in ("running_mean", "running_var")
            )

        def eval(self):
            return self

        def __call__(self, x):
            assert self.running_mean.shape == self.running_var.shape == self.shape
            return (x - self.running_mean) / np.sqrt(self.running_var + np.float32(self.eps))

    nn = types.SimpleNamespace(
        Linear=Linear,
        Tanh=lambda: np.tanh,
        ReLU=lambda: lambda x: np.maximum(x, 0),
        Sequential=Sequential,
        BatchNorm1d=BatchNorm1d,
        Hardtanh=lambda low, high: lambda x: np.clip(x, low, high),
    )
    torch = types.SimpleNamespace(
        nn=nn,
        no_grad=contextlib.nullcontext,
        tensor=lambda values: values,
        jit=types.SimpleNamespace(script=lambda modules: types.SimpleNamespace(save=lambda path: tape.save(modules))),
    )
    monkeypatch.setitem(sys.modules, "onnx", onnx)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return tape


def run_onnx(policy, libraries, path, observations):
    """What the graph that was written says of observations, and the graph."""
    policy.export(path)
    values = {"obs": observations} | {
        arguments[1]: arguments[0] for name, arguments, _ in libraries if name == "from_array"
    }
    operators = {
        "Gemm": lambda x, weight, bias: x @ weight.T + bias,
        "Tanh": np.tanh,
        "Relu": lambda x: np.maximum(x, 0),
        "Clip": np.clip,
        "Sub": np.subtract,
        "Div": np.divide,
    }
    (graph,) = [arguments for name, arguments, _ in libraries if name == "make_graph"]
    for _, (operator, inputs, outputs), options in graph[0]:
        assert options == ({"transB": 1} if operator == "Gemm" else {})
        values[outputs[0]] = operators[operator](*(values[name] for name in inputs))
    return values["outputs"], graph


def run_torchscript(policy, libraries, path, observations):
    policy.export(path)
    ((_, (modules,), _),) = [entry for entry in libraries if entry[0] == "save"]
    for module in modules:
        observations = module(observations) if callable(module) else observations @ module.weight.T + module.bias
    return observations


def test_onnx_as_numpy_reads_it(policy, libraries, tmp_path):
    observations = observations_of(policy)
    outputs, graph = run_onnx(policy, libraries, tmp_path / "policy.onnx", observations)
    assert [(arguments[0], arguments[2]) for _, arguments, _ in (*graph[2], *graph[3])] == [
        ("obs", ["n", observations.shape[1]]),
        ("outputs", ["n", outputs.shape[1]]),
    ]
    expect_the_policys_actions(policy, observations, outputs)


def test_torchscript_as_numpy_reads_it(policy, libraries, tmp_path):
    observations = observations_of(policy)
    outputs = run_torchscript(policy, libraries, tmp_path / "policy.pt", observations)
    expect_the_policys_actions(policy, observations, outputs)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("preset", ["cartpole", "lander-continuous"])
def test_activations_of_outputs(preset, activation, short, libraries, tmp_path):
    """Of the trained policy, and in every form that it is written in."""
    run = perilune.train(
        preset, **{**short, "hidden_width": 16, "activation": "tanh", "init": "torch", "output_activation": activation}
    )
    policy = perilune.load(run.run_dir, device="cpu")
    assert policy.config["output_activation"] == activation
    observations = observations_of(policy)
    plain = network(policy.weights(), observations)
    outputs = np.tanh(plain) if activation == "tanh" else np.maximum(plain, 0)
    assert (np.abs(outputs - plain) > 1e-3).mean() > 0.2
    np.testing.assert_allclose(policy.outputs(observations), outputs, rtol=1e-5, atol=1e-5)
    exported = perilune.load(policy.export(tmp_path / "policy.safetensors"), device="cpu")
    np.testing.assert_array_equal(exported.outputs(observations), policy.outputs(observations))
    assert str(np.load(policy.export(tmp_path / "policy.npz"))["output_activation"]) == activation
    clipped = outputs if preset == "cartpole" else np.clip(outputs, -1, 1)
    for read, name in ((run_onnx, "policy.onnx"), (run_torchscript, "policy.pt")):
        libraries.clear()
        result = read(policy, libraries, tmp_path / name, observations)
        np.testing.assert_allclose(result[0] if read is run_onnx else result, clipped, rtol=1e-5, atol=1e-5)


def test_state_dictionaries_come_back(policy, tmp_path):
    """What is in the files: tests/tools/state_dictionary_test.py."""
    settings = {"env_id": policy.env_id, "activation": policy.config["activation"]}
    if policy.config["norm_obs"]:
        with pytest.raises(perilune.UsageError, match="obs_mean is part of the policy, but no state dictionary"):
            policy.export(tmp_path / "policy.pth")
        assert not list(tmp_path.iterdir())
        return
    continuous = policy.env_id != "CartPole-v1"
    file = policy.export(tmp_path / "policy.pth")
    assert policy.export(tmp_path / "policy.pt", layout="sequential").read_bytes() == file.read_bytes()
    folder = policy.export(tmp_path / "networks", layout="layers")
    assert sorted(path.name for path in folder.iterdir()) == ["actor_nn.pt", "critic_nn.pt"]
    made = [perilune.import_policy(file, to=tmp_path / "one.safetensors", **settings)]
    if continuous:
        with pytest.raises(perilune.UsageError, match="weights do not tell log_std_init"):
            perilune.import_policy(
                folder / "actor_nn.pt", folder / "critic_nn.pt", to=tmp_path / "x.safetensors", **settings
            )
    told = contextlib.nullcontext()
    if continuous:
        settings["log_std_init"], told = -0.5, pytest.warns(UserWarning, match="no standard deviations")
    with told:
        made.append(
            perilune.import_policy(
                folder / "actor_nn.pt", folder / "critic_nn.pt", to=tmp_path / "two.safetensors", **settings
            )
        )
    wanted = policy.weights()
    for path in made:
        found = load_file(path)
        assert set(found) == set(wanted)
        for name, tensor in wanted.items():
            if path.name == "one.safetensors" or name != "actor.log_std":
                np.testing.assert_array_equal(found[name], tensor)
    observations = observations_of(policy)
    np.testing.assert_array_equal(perilune.load(made[0]).outputs(observations), policy.outputs(observations))
    (tmp_path / "damaged.pth").write_bytes(file.read_bytes()[:-1])
    with pytest.raises(perilune.Error, match=r"damaged\.pth is damaged"):
        perilune.import_policy(tmp_path / "damaged.pth", to=tmp_path / "x.safetensors", **settings)
    assert not (tmp_path / "x.safetensors").exists()
