"""PyTorch state dictionaries as others write and read them: by hand with Python's pickle and zipfile, which need no
PyTorch, and by PyTorch itself where it is installed. Policies that are made of them compute what their networks do."""

import collections
import io
import itertools
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

try:
    import torch
except ImportError:
    torch = None
NEEDS_TORCH = pytest.mark.skipif(torch is None, reason="torch is not in build/venv")

FAILED, USAGE = 1, 2

STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage"}


@pytest.fixture(autouse=True)
def names_of_torch(monkeypatch):
    """What pickles of torch.save name, for Python's pickle to find; nothing of it does anything."""
    if torch is not None:
        return

    def function(name, module):
        made = types.FunctionType(compile("None", name, "exec"), {}, name)
        made.__module__, made.__qualname__ = module, name
        return made

    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(module, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        setattr(utils, name, function(name, "torch._utils"))
    module._utils = utils
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


class Storage:
    def __init__(self, array):
        self.array = array


class Tensor:
    """Pickled as a tensor over the array's numbers; shape, strides and offset may lie."""

    def __init__(self, array, **lies):
        self.storage = Storage(np.ascontiguousarray(array))
        strides = tuple(int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim))
        self.told = {"offset": 0, "shape": array.shape, "strides": strides, **lies}

    def __reduce__(self):
        told = self.told
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (
            self.storage,
            told["offset"],
            told["shape"],
            told["strides"],
            False,
            collections.OrderedDict(),
        )


def save(path, value, protocol=2, compression=zipfile.ZIP_STORED, **entries):
    """As torch.save does, with Python's own pickle and zipfile."""
    storages = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            if thing not in storages:
                storages.append(thing)
            array = thing.array
            kind = getattr(sys.modules["torch"], STORAGES[array.dtype.str[1:]])
            return "storage", kind, str(storages.index(thing)), "cpu", array.size

    data = io.BytesIO()
    Pickler(data, protocol).dump(value)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", data.getvalue())
        archive.writestr("model/version", "3\n")
        for i, storage in enumerate(storages):
            archive.writestr(f"model/data/{i}", storage.array.tobytes())
        for name, content in entries.items():
            archive.writestr(f"model/{name}", content)
    return path


def load(path):
    """As torch.load does, with Python's own, and nothing else than what torch.save writes for tensors."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        (folder,) = {name.split("/")[0] for name in archive.namelist()}
        assert archive.read(f"{folder}/version") == b"3\n" and archive.read(f"{folder}/byteorder") == b"little"
        assert len(archive.read(f"{folder}/.data/serialization_id")) == 40

        def tensor(array, offset, shape, strides, requires_grad, hooks):
            assert (offset, requires_grad, hooks) == (0, False, collections.OrderedDict())
            array = array.reshape(shape)
            assert tuple(stride * 4 for stride in strides) == array.strides
            return array

        class Unpickler(pickle.Unpickler):
            def find_class(self, module, name):
                return {
                    ("collections", "OrderedDict"): collections.OrderedDict,
                    ("torch._utils", "_rebuild_tensor_v2"): tensor,
                    ("torch", "FloatStorage"): "f4",
                }[module, name]

            def persistent_load(self, parts):
                word, kind, key, device, size = parts
                assert (word, kind, device) == ("storage", "f4", "cpu")
                return np.frombuffer(archive.read(f"{folder}/data/{key}"), "<f4", size)

        places = [entry.header_offset for entry in archive.infolist()]
        for entry in archive.infolist():  # data at multiples of 64, as torch.load maps them
            with open(path, "rb") as file:
                file.seek(entry.header_offset + 26)
                name, extra = struct.unpack("<HH", file.read(4))
            assert (entry.header_offset + 30 + name + extra) % 64 == 0
        assert places == sorted(places)
        return Unpickler(io.BytesIO(archive.read(f"{folder}/data.pkl"))).load()


def network(seed, prefix, *sizes, dtype=np.float32):
    """The layers of a Sequential."""
    random = np.random.default_rng(seed)
    layers = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers[f"{prefix}{2 * i}.weight"] = random.normal(size=(outputs, inputs)).astype(dtype)
        layers[f"{prefix}{2 * i}.bias"] = random.normal(size=outputs).astype(dtype)
    return layers


def cartpole(**changes):
    return {**network(1, "actor.", 4, 16, 2), **network(2, "critic.", 4, 16, 1), **changes}


def tensors(arrays):
    return {name: Tensor(array) if isinstance(array, np.ndarray) else array for name, array in arrays.items()}


def by_layer(arrays, prefix):
    names = dict(zip("024", ("input_layer", "hidden_layer", "output_layer"), strict=True))
    return {f"{names[name[len(prefix)]]}.{name.split('.')[-1]}": array for name, array in arrays.items()}


IMPORT = ["--preset", "cartpole", "--to", "policy.safetensors"]


def imported(perilune, *arguments):
    perilune.good("import", *arguments, "--to", "policy.safetensors")
    return load_file(perilune.directory / "policy.safetensors")


def expect_equal(found, wanted):
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == np.float32 and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("container", [dict, collections.OrderedDict])
def test_files_by_hand(perilune, container):
    arrays = cartpole()
    save(perilune.directory / "policy.pth", container(tensors(arrays)))
    found = imported(perilune, "policy.pth", "--preset", "cartpole")
    expect_equal(found, arrays)
    with safe_open(perilune.directory / "policy.safetensors", "np") as file:
        assert file.metadata()["format"] == "perilune policy" and 'env_id = "CartPole-v1"' in file.metadata()["config"]
    result = perilune.json("eval", "policy.safetensors", "--episodes", 10)
    assert result["episodes"] == 10 and result["env"] == "CartPole-v1"
    perilune.good("export", "policy.safetensors", "--to", "again.pth")
    expect_equal(load(perilune.directory / "again.pth"), arrays)


def test_two_files_by_layer(perilune):
    actor, critic = network(1, "actor.", 8, 64, 48, 4), network(2, "critic.", 8, 64, 48, 1)
    save(perilune.directory / "a.pt", tensors(by_layer(actor, "actor.")))
    save(perilune.directory / "c.pt", tensors(by_layer(critic, "critic.")))
    told = ["--set", "env_id=LunarLander-v3", "--set", "activation=relu"]
    expect_equal(imported(perilune, "a.pt", "c.pt", *told), {**actor, **critic})
    result = perilune.json("export", "policy.safetensors", "--layout", "layers", "--to", "networks")
    assert result["files"] == ["networks/actor_nn.pt", "networks/critic_nn.pt"] and result["activation"] == "relu"
    assert result["output_activation"] == "none"
    expect_equal(load(perilune.directory / "networks" / "actor_nn.pt"), by_layer(actor, "actor."))
    expect_equal(load(perilune.directory / "networks" / "critic_nn.pt"), by_layer(critic, "critic."))


def test_runs_are_exported_and_begin_with_what_is_imported(perilune, short):
    perilune.good("train", "cartpole", *short, "--run-dir", "run")
    trained = load_file(perilune.directory / "run" / "policy.safetensors")
    perilune.good("export", "run", "--to", "policy.pth")
    expect_equal(load(perilune.directory / "policy.pth"), trained)
    expect_equal(imported(perilune, "policy.pth", "--preset", "cartpole"), trained)
    perilune.good("train", "cartpole", *short, "--from", "policy.safetensors", "--run-dir", "more")


def test_other_numbers(perilune):
    """float64 is rounded and said to be; float16 is taken as it is; views are taken from where they lie."""
    arrays = cartpole()
    pickled = tensors({name: array.astype("f8") for name, array in arrays.items()})
    pickled["actor.0.bias"] = Tensor(arrays["actor.0.bias"].astype("f2"))
    weight = arrays["critic.0.weight"]
    pickled["critic.0.weight"] = Tensor(weight.T, shape=weight.shape, strides=(1, weight.shape[0]))
    save(perilune.directory / "policy.pth", pickled)
    told = perilune.json("import", "policy.pth", *IMPORT)
    assert len(told["notes"]) == 1 and "float64" in told["notes"][0]
    arrays["actor.0.bias"] = arrays["actor.0.bias"].astype("f2").astype("f4")
    expect_equal(load_file(perilune.directory / "policy.safetensors"), arrays)


class Runs:
    """Its pickle runs a command of the shell."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"deeper": value}
    return value


@pytest.mark.parametrize(
    "value, words",
    [
        (Runs, ["'system'", "allowed: tensors alone", "nothing in it was run"]),
        (lambda here: tensors(cartpole(hook=Runs(here))), ["'system'"]),
        (lambda here: {"actor.0.weight": [Runs(here)]}, ["'system'"]),
        (lambda here: {**tensors(cartpole()), "epoch": 3}, ["'epoch' is an integer"]),
        (lambda here: {"model": tensors(cartpole()), "optimizer": {"lr": 0.1, "p": [1]}}, ["'model' is a dict"]),
        (lambda here: nested(300), ["'deeper' is a dict"]),
        (lambda here: list(tensors(cartpole()).values()), ["it holds a list"]),
        (lambda here: {1: Tensor(np.zeros(1, "f4"))}, ["a key of its dict is an integer"]),
        (lambda here: 10**400, ["an integer has 167 bytes"]),
        (lambda here: 10**1000, ["opcode 0x8b"]),
        (lambda here: print, ["'print'"]),
        (lambda here: {"w": {1, 2}}, ["'set'"]),
        (lambda here: {"w": b"bytes"}, ["'encode' of the module '_codecs'"]),
        (lambda here: tensors(cartpole(extra=np.zeros(3, "f4"))), ["'extra' [3] that no layer takes"]),
        (lambda here: tensors(cartpole(n=np.zeros(1, "i8"))), ["tensor 'n' is of 'LongStorage'"]),
        (
            lambda here: tensors(cartpole(**{"actor.0.bias": np.full(16, np.nan, "f4")})),
            ["'actor.0.bias' has nan at [0]"],
        ),
        (
            lambda here: {**tensors(cartpole()), "actor.0.bias": Tensor(np.zeros(1, "f4"), shape=(16,), strides=(0,))},
            ["'actor.0.bias' of shape [16] repeats"],
        ),
        (
            lambda here: {**tensors(cartpole()), "actor.0.bias": Tensor(np.zeros(8, "f4"), shape=(16,), strides=(1,))},
            ["'actor.0.bias' of shape [16]", "does not fit its storage of 8 numbers"],
        ),
        (
            lambda here: {"w": Tensor(np.zeros(1, "f4"), shape=(10**9, 10**9), strides=(0, 0))},
            ["repeats the 1 numbers"],
        ),
    ],
)
def test_what_is_no_network(perilune, value, words):
    here = perilune.directory / "was-here"
    save(perilune.directory / "policy.pth", value(here))
    (perilune.directory / "policy.safetensors").write_text("precious")
    perilune.fails(FAILED, "policy.pth", *words, arguments=["import", "policy.pth", *IMPORT])
    assert not here.exists()
    assert (perilune.directory / "policy.safetensors").read_text() == "precious"
    assert sorted(path.name for path in perilune.directory.iterdir()) == ["policy.pth", "policy.safetensors"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"protocol": 4}, ["protocol 4, not 2"]),
        ({"protocol": 0}, ["does not begin as a pickle"]),
        ({"compression": zipfile.ZIP_DEFLATED}, ["'model/data.pkl' is compressed (method 8)"]),
        ({"compression": zipfile.ZIP_BZIP2}, ["compressed (method 12)"]),
        ({"byteorder": "big"}, ["byte order 'big'"]),
        ({"constants.pkl": ""}, ["TorchScript"]),
    ],
)
def test_other_archives(perilune, options, words):
    save(perilune.directory / "policy.pth", tensors(cartpole()), **options)
    perilune.fails(FAILED, "policy.pth", *words, arguments=["import", "policy.pth", *IMPORT])


def test_damaged_archives(perilune):
    path = perilune.directory / "policy.pth"
    whole = save(path, tensors(cartpole())).read_bytes()
    for size in (0, 1, 21, 22, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        perilune.fails(FAILED, "policy.pth", arguments=["import", "policy.pth", *IMPORT])
    weights = cartpole()["actor.0.weight"].tobytes()
    path.write_bytes(whole.replace(weights, weights[:-1] + bytes([weights[-1] ^ 1]), 1))
    perilune.fails(FAILED, "policy.pth", "CRC-32", arguments=["import", "policy.pth", *IMPORT])
    path.write_bytes(b"PK\3\4" + bytes(10**6))
    perilune.fails(FAILED, "policy.pth", "no end record", arguments=["import", "policy.pth", *IMPORT])


def test_wrong_usage(perilune):
    save(perilune.directory / "policy.pth", tensors(cartpole()))
    run = ["import", "policy.pth"]
    perilune.fails(USAGE, "--to is missing", arguments=[*run, "--preset", "cartpole"])
    perilune.fails(USAGE, "weights do not tell env_id", "CartPole-v1", arguments=[*run, "--to", "x.safetensors"])
    perilune.fails(USAGE, "x.pth", ".safetensors", arguments=[*run, "--preset", "cartpole", "--to", "x.pth"])
    perilune.fails(USAGE, "none.pth is no file", arguments=["import", "none.pth", *IMPORT])
    perilune.good(*run, *IMPORT)
    run = ["export", "policy.safetensors"]
    perilune.fails(USAGE, "--to is missing", arguments=run)
    perilune.fails(USAGE, "x.npz", ".pt or .pth", arguments=[*run, "--to", "x.npz"])
    perilune.fails(USAGE, "name a directory", arguments=[*run, "--layout", "layers", "--to", "x.pt"])
    perilune.fails(USAGE, "'layer'", "layers", arguments=[*run, "--layout", "layer", "--to", "x"])
    perilune.fails(FAILED, "no/policy.pth", arguments=[*run, "--to", "no/policy.pth"])
    perilune.fails(FAILED, "policy.pth", arguments=["export", "policy.pth", "--to", "x.pth"])


def agents():
    """Networks as CleanRL's scripts and the walker's tutorial have them: (env_id, activation, files of modules)."""
    nn = torch.nn

    class ByLayer(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.input_layer = nn.Linear(inputs, 64)
            self.hidden_layer = nn.Linear(64, 64)
            self.output_layer = nn.Linear(64, outputs)

        def forward(self, x):
            return self.output_layer(torch.relu(self.hidden_layer(torch.relu(self.input_layer(x)))))

    def sequential(*sizes):
        layers = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    class Agent(nn.Module):
        def __init__(self, continuous):
            super().__init__()
            self.critic = sequential(8, 64, 64, 1)
            if continuous:
                self.actor_mean = sequential(8, 64, 64, 2)
                self.actor_logstd = nn.Parameter(torch.randn(1, 2))
            else:
                self.actor = sequential(8, 64, 64, 4)

    agent, gaussian = Agent(False), Agent(True)
    actor, critic = ByLayer(8, 4), ByLayer(8, 1)
    alone, its_critic = sequential(8, 24, 4), sequential(8, 24, 1)
    return [
        ("LunarLander-v3", "tanh", [agent], agent.actor, ["sequential"]),
        ("LunarLanderContinuous-v3", "tanh", [gaussian], gaussian.actor_mean, ["sequential"]),
        ("LunarLander-v3", "relu", [actor, critic], actor, ["layers"]),
        ("LunarLander-v3", "tanh", [alone, its_critic], alone, []),
    ]


@NEEDS_TORCH
@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("as_parameters", [False, True])
def test_pytorchs_own_files(perilune, kind, as_parameters):
    torch.manual_seed(kind)
    env_id, activation, modules, actor, layouts = agents()[kind]
    files = [f"{i}.pth" for i in range(len(modules))]
    for file, module in zip(files, modules, strict=True):
        state = dict(module.named_parameters()) if as_parameters else module.state_dict()
        torch.save(state, perilune.directory / file)
    found = imported(perilune, *files, "--set", f"env_id={env_id}", "--set", f"activation={activation}")

    observations = np.random.default_rng(kind).normal(size=(33, 8)).astype(np.float32)
    x, layer = observations, 0
    while f"actor.{layer}.weight" in found:  # as a policy computes it: tests/host/runs/policy_test.cpp
        x = (np.tanh(x) if activation == "tanh" else np.maximum(x, 0)) if layer else x
        x, layer = x @ found[f"actor.{layer}.weight"].T + found[f"actor.{layer}.bias"], layer + 2
    with torch.no_grad():
        # Products of 64 numbers of order 1 in float32, in another order.
        np.testing.assert_allclose(x, actor(torch.from_numpy(observations)).numpy(), rtol=1e-5, atol=1e-5)

    for layout in layouts:
        to = "networks" if layout == "layers" else "again.pth"
        exported = perilune.json("export", "policy.safetensors", "--layout", layout, "--to", to)["files"]
        for file, module in zip(exported, modules, strict=True):
            state = torch.load(perilune.directory / file, weights_only=True)
            before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            with torch.no_grad():
                for tensor in module.parameters():
                    tensor.zero_()
            module.load_state_dict(state)  # strict: all keys, and no others
            for name, tensor in module.state_dict().items():
                assert tensor.numpy().tobytes() == before[name].numpy().tobytes(), name
