"""What a caller keeps is never written again, nothing is copied, and DLPack arrays are what they say."""

import gc

import numpy as np
import pytest

import perilune


def address(array):
    return array.__array_interface__["data"][0]


def holders():
    """Ways to keep an array: (name, function from the array to what is kept, function from that to its values)."""
    yield "itself", lambda x: x, np.asarray
    yield "a view", lambda x: x[:], np.asarray
    yield "a slice of a view", lambda x: x[1:][:2], np.asarray
    yield "a transposed view", lambda x: x.T, np.asarray
    yield "a row", lambda x: x[1], np.asarray
    yield "a memoryview", memoryview, np.asarray
    yield "another type", lambda x: x.view(np.uint8), np.asarray
    yield "an exchange", np.from_dlpack, np.asarray
    yield "an array of the buffer", lambda x: np.frombuffer(x, np.uint8), np.asarray
    yield "inside a list", lambda x: [x], lambda kept: kept[0]


@pytest.mark.parametrize(
    "name, keep, values", list(holders()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_kept_is_never_written_again(make, name, keep, values):
    envs = make(num_envs=5)
    kept = []
    observations, _ = envs.reset(seed=1)
    for step in range(50):
        kept.append((keep(observations), np.array(values(keep(observations)))))
        observations, *_ = envs.step(np.full(5, step % 2))
    for held, then in kept:
        np.testing.assert_array_equal(values(held), then)


def test_rewards_flags_and_infos_are_kept_too(make):
    envs = make(num_envs=5, max_episode_steps=3, autoreset_mode="SameStep", episode_statistics=True)
    envs.reset(seed=1)
    kept = []
    for step in range(40):
        _, rewards, terminated, truncated, infos = envs.step(np.full(5, step % 2))
        parts = [rewards, terminated, truncated]
        if infos:
            parts += [*infos["episode"].values(), infos["_episode"], *(x for x in infos["final_obs"] if x is not None)]
        kept.append([(part, part.copy()) for part in parts])
    for parts in kept:
        for held, then in parts:
            np.testing.assert_array_equal(held, then)


def test_memory_is_used_again_once_nobody_refers_to_it(make):
    envs = make(num_envs=5)
    envs.reset(seed=1)
    places = set()
    for step in range(100):
        observations, *_ = envs.step(np.full(5, step % 2))
        places.add(address(observations))
    assert len(places) <= 4
    row = observations[2]
    place, then = address(observations), row.copy()
    del observations
    for step in range(20):
        assert address(envs.step(np.full(5, step % 2))[0]) != place
    np.testing.assert_array_equal(row, then)
    del row
    gc.collect()
    kept = [envs.step(np.full(5, step % 2))[0] for step in range(8)]
    assert place in map(address, kept)


def test_arrays_outlive_their_environments():
    envs = perilune.VectorEnv("CartPole-v1", 1000)
    observations, _ = envs.reset(seed=1)
    then = observations.copy()
    envs.close()
    del envs
    gc.collect()
    np.testing.assert_array_equal(observations, then)


def test_arrays_are_the_callers_to_change(make):
    """Writing into a result changes nothing in the environments."""
    envs, other = make(num_envs=4), make(num_envs=4)
    observations, _ = envs.reset(seed=1)
    other.reset(seed=1)
    observations[:] = np.nan
    observations, *_ = envs.step(np.ones(4, int))
    expected, *_ = other.step(np.ones(4, int))
    np.testing.assert_array_equal(observations, expected)


def test_dlpack_arrays_on_the_cpu(make):
    envs, other = make(num_envs=6, arrays="dlpack"), make(num_envs=6)
    observations, _ = envs.reset(seed=1)
    expected, _ = other.reset(seed=1)
    assert isinstance(observations, perilune.DeviceArray)
    assert (observations.shape, observations.dtype, observations.device) == ((6, 4), "float32", "cpu")
    assert observations.__dlpack_device__() == (1, 0)
    taken = np.from_dlpack(observations)
    np.testing.assert_array_equal(taken, expected)
    assert address(taken) == address(np.from_dlpack(observations))
    np.testing.assert_array_equal(observations.numpy(), expected)
    np.testing.assert_array_equal(np.asarray(observations), expected)
    kept = [(taken, expected.copy())]
    del observations
    for step in range(30):
        results, wanted = envs.step(np.full(6, step % 2)), other.step(np.full(6, step % 2))
        for mine, theirs in zip(results[:4], wanted[:4], strict=True):
            array = np.from_dlpack(mine)
            assert array.dtype == theirs.dtype
            np.testing.assert_array_equal(array, theirs)
        kept.append((np.from_dlpack(results[0]), wanted[0].copy()))
    for held, then in kept:
        np.testing.assert_array_equal(held, then)


def test_dlpack_infos_have_values_where_episodes_ended(make):
    options = {"num_envs": 6, "autoreset_mode": "SameStep", "max_episode_steps": 9, "episode_statistics": True}
    envs = make(arrays="dlpack", **options)
    other = make(**options)
    envs.reset(seed=1), other.reset(seed=1)
    for step in range(30):
        *_, terminated, truncated, infos = envs.step(np.full(6, step % 2))
        wanted = other.step(np.full(6, step % 2))[4]
        done = np.from_dlpack(terminated) | np.from_dlpack(truncated)
        for i in np.flatnonzero(done):
            assert np.from_dlpack(infos["episode"]["r"])[i] == wanted["episode"]["r"][i]
            assert np.from_dlpack(infos["episode"]["l"])[i] == wanted["episode"]["l"][i]
            np.testing.assert_array_equal(np.from_dlpack(infos["final_obs"])[i], wanted["final_obs"][i])


def test_dlpack_streams(make):
    observations, _ = make(num_envs=2, arrays="dlpack").reset(seed=1)
    with pytest.raises(ValueError, match="stream"):
        observations.__dlpack__(stream=1)
    capsule = observations.__dlpack__(stream=None)
    assert "dltensor" in repr(capsule)
    assert "dltensor_versioned" in repr(observations.__dlpack__(max_version=(1, 0)))
    del capsule  # never taken: its memory is given back


def test_dlpack_memory_is_used_again(make):
    envs = make(num_envs=50, arrays="dlpack")
    envs.reset(seed=1)
    places = {address(np.from_dlpack(envs.step(np.zeros(50, int))[0])) for _ in range(100)}
    assert len(places) <= 4


def test_actions_may_be_dlpack_or_anything_numpy_takes(make):
    envs, other = make(num_envs=3, arrays="dlpack"), make(num_envs=3)
    envs.reset(seed=1)
    other.reset(seed=1)

    class OnlyDlpack:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **arguments):
            return self.array.__dlpack__(**arguments)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    for actions in (np.array([1, 0, 1]), [1, 0, 1], (1, 0, 1), OnlyDlpack(np.array([1, 0, 1]))):
        np.testing.assert_array_equal(np.from_dlpack(envs.step(actions)[0]), other.step(np.array([1, 0, 1]))[0])


def test_torch_shares_the_memory(make):
    torch = pytest.importorskip("torch", reason="torch is not in build/venv")
    for arrays, take in (("numpy", torch.from_numpy), ("numpy", torch.from_dlpack), ("dlpack", torch.from_dlpack)):
        envs, kept = make(num_envs=4, arrays=arrays), []
        observations, _ = envs.reset(seed=1)
        for _ in range(20):
            tensor = take(observations)
            kept.append((tensor, tensor.clone()))
            observations, *_ = envs.step(torch.ones(4, dtype=torch.int64))
        assert all(torch.equal(held, then) for held, then in kept)
