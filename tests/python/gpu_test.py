"""DLPack in both directions, between the package and a library that has arrays on the GPU: environments and policies
there have the CPU's results, nothing is read before it is written, and what is kept is never written again. NumPy
stands in for such a library on the CPU, so that the tests are tried out everywhere. Gymnasium is not needed: the
classes are the native ones."""

import contextlib
import gc
import os

import numpy as np
import pytest

import perilune
from perilune import _native


class NumPy:
    device = "cpu"
    take = staticmethod(np.from_dlpack)
    give = staticmethod(np.array)
    host = staticmethod(np.array)
    copy = staticmethod(np.copy)
    stream = staticmethod(contextlib.nullcontext)

    @staticmethod
    def wait():
        pass

    @staticmethod
    def be_busy():
        pass


class Torch:
    device = "cuda"

    def __init__(self):
        self.torch = pytest.importorskip("torch", reason="torch is not installed")
        self.take = self.torch.from_dlpack
        self.wait = self.torch.cuda.synchronize

    def give(self, array):
        return self.torch.from_numpy(np.asarray(array)).cuda()

    def host(self, tensor):
        return tensor.cpu().numpy()

    def copy(self, tensor):
        return tensor.clone()

    def stream(self):
        return self.torch.cuda.stream(self.torch.cuda.Stream())

    def be_busy(self):
        """Keeps the stream busy for some milliseconds."""
        x = self.torch.ones(4096, 4096, device="cuda")
        for _ in range(8):
            x = x @ x


class CuPy:
    device = "cuda"

    def __init__(self):
        self.cupy = pytest.importorskip("cupy", reason="cupy is not installed")
        self.take, self.give, self.host = self.cupy.from_dlpack, self.cupy.asarray, self.cupy.asnumpy
        self.copy = self.cupy.copy

    def stream(self):
        return self.cupy.cuda.Stream(non_blocking=True)

    def wait(self):
        self.cupy.cuda.Device().synchronize()

    def be_busy(self):
        x = self.cupy.ones((4096, 4096), np.float32)
        for _ in range(8):
            x = x * 0.5 + self.cupy.sqrt(x.T)


@pytest.fixture(params=[NumPy, Torch, CuPy], ids=lambda library: library.__name__)
def library(request):
    if request.param.device == "cuda":
        try:
            make("CartPole-v1", 1, "cuda")
        except perilune.NoDeviceError as error:
            if os.environ.get("PERILUNE_REQUIRE_GPU") == "1":
                raise
            pytest.skip(str(error))
    return request.param()


def make(env_id, count, device, parameters=None, limit=0):
    """Environments whose arrays are for DLPack."""
    return _native.VectorEnv(env_id, count, parameters or {}, limit, "NextStep", device, None, False, False)


def random_actions(envs, rng, count):
    if envs.is_continuous:
        return rng.uniform(-1.2, 1.2, (count, envs.num_actions)).astype(np.float32)
    return rng.integers(envs.num_actions, size=count)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3", "LunarLanderContinuous-v3", "LanderContinuous-v0"])
def test_steps_have_the_bits_of_the_cpu(library, env_id):
    """With actions of the device and of the host."""
    envs, expected = make(env_id, 129, library.device, limit=9), make(env_id, 129, "cpu", limit=9)
    first = envs.reset(7, [], None)
    np.testing.assert_array_equal(library.host(library.take(first)), np.from_dlpack(expected.reset(7, [], None)))
    assert first.__dlpack_device__()[0] == (2 if library.device == "cuda" else 1)
    rng = np.random.default_rng(1)
    for step in range(21):
        actions = random_actions(envs, rng, 129)
        results, wanted = envs.step(library.give(actions) if step % 2 else actions), expected.step(actions)
        for mine, theirs in zip(results[:2], wanted[:2], strict=True):
            np.testing.assert_array_equal(library.host(library.take(mine)), np.from_dlpack(theirs))
        for mine, theirs in zip(results[2:4], wanted[2:4], strict=True):
            np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    with pytest.raises((perilune.UsageError, TypeError)):
        envs.step(library.give(np.full((129, 3), 2.0, np.float32)))


def test_nothing_is_read_before_it_is_written(library):
    """Everything happens on a stream of the library's that is busy, and nobody waits for it but through DLPack."""
    envs, expected = make("CartPole-v1", 3000, library.device), make("CartPole-v1", 3000, "cpu")
    envs.reset(3, [], None), expected.reset(3, [], None)
    rng = np.random.default_rng(2)
    copies, wanted = [], []
    given = library.give(np.zeros(3000, np.int64))
    chosen = [library.give(rng.integers(2, size=3000)) for _ in range(12)]
    library.wait()
    with library.stream():
        for actions in chosen:
            library.be_busy()
            given[:] = actions
            seen = library.take(envs.step(given)[0])
            library.be_busy()
            copies.append(library.copy(seen))
            del seen  # so that its memory is used again
    library.wait()
    for actions in chosen:
        wanted.append(np.from_dlpack(expected.step(library.host(actions))[0]).copy())
    for copy, then in zip(copies, wanted, strict=True):
        np.testing.assert_array_equal(library.host(copy), then)


def test_what_is_kept_is_never_written_again(library):
    envs = make("CartPole-v1", 300, library.device)
    envs.reset(3, [], None)
    kept = []
    for step in range(30):
        observations = library.take(envs.step(np.full(300, step % 2))[0])
        kept.append((observations, library.host(observations).copy()))
    gc.collect()
    for observations, then in kept:
        np.testing.assert_array_equal(library.host(observations), then)
    envs.close()
    del envs
    gc.collect()
    for observations, then in kept:
        np.testing.assert_array_equal(library.host(observations), then)


def test_an_unknown_action_of_the_device_is_an_error(library):
    envs = make("CartPole-v1", 300, library.device)
    envs.reset(3, [], None)
    actions = np.ones(300, np.int64)
    actions[123] = 2
    with pytest.raises(perilune.UsageError, match=r"actions\[123\] = 2"):
        envs.step(library.give(actions))
        envs.check()


@pytest.mark.parametrize("preset", ["cartpole", "lander-continuous"])
def test_a_policy_acts_on_arrays_of_the_device(library, short, preset):
    run = perilune.train(preset, **{**short, "hidden_width": 64}, seed=1)
    policy, expected = (perilune.load(run.run_dir, device=device) for device in (library.device, "cpu"))
    width = np.shape(expected.weights()["actor.0.weight"])[1]
    rows = np.random.default_rng(3).uniform(-1, 1, (257, width)).astype(np.float32)
    with library.stream():
        library.be_busy()
        given = library.give(rows)
        outputs = (
            library.host(library.take(policy.outputs(given))) if library.device == "cuda" else policy.outputs(given)
        )
        actions = library.host(library.take(policy(given))) if library.device == "cuda" else policy(given)
    # 4e-6 of the CPU's tanh in each unit, and float sums.
    np.testing.assert_allclose(outputs, expected.outputs(rows), rtol=0, atol=3e-5)
    wanted = expected(rows)
    if wanted.dtype == np.int64:
        np.testing.assert_array_equal(actions, outputs.argmax(1))
    else:
        np.testing.assert_allclose(np.clip(actions, -1, 1), wanted, rtol=0, atol=3e-5)
