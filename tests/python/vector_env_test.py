"""Stepping: the same numbers as Gymnasium's CartPole, the same bits in any batch, and Gymnasium's autoreset modes."""

import csv
import functools
import os
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import perilune
from common import SOURCE, random_actions

FIELDS = ["position", "velocity", "angle", "angular_velocity"]


def golden(name):
    rows = csv.reader(line for line in (SOURCE / "tests" / "golden" / name).read_text().splitlines() if line[0] != "#")
    return np.array([[float(cell) for cell in row] for row in rows])


def state_of(envs, fields, **counters):
    """A state made by hand: fields [n, 4], counters 0 where not given."""
    state = np.zeros(len(fields), envs.get_state(0).dtype)
    for i, name in enumerate(FIELDS):
        state[name] = fields[:, i]
    for name, value in counters.items():
        state[name] = value
    return state


def test_recorded_steps_of_gymnasium(make):
    """Transitions of Gymnasium's float64 CartPole, taken here from the same states."""
    rows = golden("cartpole_onestep.csv")
    envs = make(num_envs=len(rows))
    envs.reset(seed=1)
    envs.set_state(state_of(envs, rows[:, :4]))
    observations, rewards, terminated, truncated, _ = envs.step(rows[:, 4].astype(np.int64))
    # As tests/sims/cartpole_test.cpp: rounding the inputs and some 20 float operations on values below 4.
    np.testing.assert_allclose(observations, rows[:, 9:13], rtol=0, atol=1e-6)
    near = (np.abs(np.abs(rows[:, 5]) - 2.4) < 1e-6) | (np.abs(np.abs(rows[:, 7]) - 12 * 2 * np.pi / 360) < 1e-6)
    np.testing.assert_array_equal(terminated[~near], rows[~near, 14] != 0)
    np.testing.assert_array_equal(rewards, rows[:, 13])
    assert not truncated.any()


def test_replays_of_recorded_episodes():
    """Open loop, whole episodes of random actions (up to 33 steps); balanced ones for as many steps, since an error of
    the last bit grows to the size of the track within some 200."""
    rows = golden("cartpole_episodes.csv")
    for number in np.unique(rows[:, 0]):
        episode = rows[rows[:, 0] == number]
        episode = episode if number % 2 == 0 else episode[:33]
        replayed = perilune.replay("CartPole-v1", episode[0, 2:6], episode[:, 6].astype(int), dtype="float64")
        assert len(replayed["reward"]) == len(episode) and replayed["obs"].shape == (len(episode) + 1, 4)
        # As tests/sims/cartpole_test.cpp has it over double.
        np.testing.assert_allclose(replayed["obs"][1:], episode[:, 7:11], rtol=0, atol=1e-12)
        for i, name in enumerate(["reward", "terminated", "truncated"]):
            np.testing.assert_array_equal(replayed[name], episode[:, 11 + i].astype(replayed[name].dtype))
    assert "bodies" not in replayed


def test_replay_in_float_is_what_environments_do(make):
    envs = make(num_envs=1, max_episode_steps=40)
    observations, _ = envs.reset(seed=5)
    rng = np.random.default_rng(1)
    seen, actions, rewards = [observations[0]], [], []
    while True:
        actions.append(rng.integers(2, size=1))
        observations, reward, terminated, truncated, _ = envs.step(actions[-1])
        seen.append(observations[0])
        rewards.append(reward[0])
        if terminated[0] or truncated[0]:
            break
    replayed = perilune.replay("cartpole", seen[0], np.concatenate(actions), max_episode_steps=40)
    assert replayed["obs"].dtype == np.float32
    np.testing.assert_array_equal(replayed["obs"], seen)
    np.testing.assert_array_equal(replayed["reward"], rewards)
    assert replayed["terminated"][-1] == terminated[0] and replayed["truncated"][-1] == truncated[0]


def test_replay_says_what_is_wrong():
    with pytest.raises(perilune.UsageError):
        perilune.replay("CartPole-v1", [0.0, 0.0], [1, 1])
    with pytest.raises(perilune.UsageError):
        perilune.replay("CartPole-v1", np.zeros(4), [1, 2])
    with pytest.raises(perilune.UsageError, match=r"dtype = .*int32.* - allowed: float32, float64"):
        perilune.replay("CartPole-v1", np.zeros(4), [1], dtype=np.int32)


@pytest.mark.parametrize("env_id", list(perilune.environments()))
@pytest.mark.parametrize("num_envs", [1, 7, 31, 33, 65, 257])
def test_same_seeds_give_the_same_bits_in_any_batch(env_id, num_envs):
    """Environment i is the same whatever stands beside it, and for any number of threads."""
    seen = []
    for count, threads in [(num_envs, 1), (300, 2)]:
        envs = perilune.VectorEnv(env_id, count, threads=threads)
        out = [envs.reset(seed=9)[0]]
        for step in range(60):
            actions = random_actions(envs, np.random.default_rng(step), 300)[:count]
            out += envs.step(actions)[:4]
        seen.append([part[:num_envs] for part in out])
        envs.close()
    for mine, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_seeds(make):
    envs = make(num_envs=5)
    first, _ = envs.reset(seed=3)
    again, _ = envs.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    following, _ = envs.reset()
    assert (following != first).any(axis=1).all()
    # A seed of its own is environment 0 of a batch with that seed.
    listed, _ = envs.reset(seed=[11, 3, 11, None, 12])
    np.testing.assert_array_equal(listed[0], listed[2])
    np.testing.assert_array_equal(listed[1], first[0])
    assert (listed[0] != listed[4]).all()
    unseeded = [make(num_envs=2).reset()[0] for _ in range(2)]
    assert (unseeded[0] != unseeded[1]).all()


def test_reset_mask_restarts_only_those(make):
    envs = make(num_envs=4, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=1)
    before, *_ = envs.step(np.array([0, 1, 0, 1]))
    mask = np.array([False, True, False, True])
    after, _ = envs.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert (after[mask] != before[mask]).any(axis=1).all()
    np.testing.assert_array_equal(envs.get_state()["elapsed"], [1, 0, 1, 0])
    again, _ = envs.reset(seed=[None, 5, None, None], options={"reset_mask": mask})
    np.testing.assert_array_equal(again[1], make(num_envs=1).reset(seed=5)[0][0])


class Reference:
    """Gymnasium's SyncVectorEnv over CartPoles that are put into the states that perilune's environments have: resets,
    which draw other numbers there, included."""

    def __init__(self, num_envs, mode, limit):
        self.envs = SyncVectorEnv(
            [lambda: gymnasium.make("CartPole-v1", max_episode_steps=limit, disable_env_checker=True)] * num_envs,
            autoreset_mode=mode,
        )
        self.resets = []
        for index, env in enumerate(self.envs.envs):
            env.unwrapped.reset = functools.partial(self._reset, index, env.unwrapped, env.unwrapped.reset)

    def _reset(self, index, env, original, **options):
        original(**options)
        env.state = np.array(self.resets[index], np.float64)
        return np.array(env.state, np.float32), {}


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("limit", [12, 500])
def test_autoreset_is_gymnasiums(mode, limit):
    """A scripted sequence over several episode ends, by falling and by the time limit: observations, rewards, flags and
    infos are those of SyncVectorEnv."""
    count = 6
    envs = gymnasium.make_vec("perilune/CartPole-v1", num_envs=count, autoreset_mode=mode, max_episode_steps=limit)
    reference = Reference(count, mode, limit)
    observations, _ = envs.reset(seed=4)
    reference.resets = observations
    expected, _ = reference.envs.reset()
    np.testing.assert_array_equal(observations, expected)
    ends = 0
    for step in range(60):
        before = envs.get_state()
        actions = np.array([(i + (step // (i + 1))) % 2 for i in range(count)])
        result = envs.step(actions)
        after = envs.get_state()
        fresh = after["episode"] != before["episode"]
        reference.resets = np.stack([after[name] for name in FIELDS], axis=1)
        wanted = reference.envs.step(actions)
        assert (fresh == (after["elapsed"] == 0)).all()
        # One step differs by at most 3e-7 (sims/cartpole.hpp); the states are made equal again below.
        np.testing.assert_allclose(result[0], wanted[0], rtol=0, atol=1e-6)
        for mine, theirs in zip(result[1:4], wanted[1:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        infos, wanted_infos = result[4], wanted[4]
        assert infos.keys() == wanted_infos.keys()
        if "final_obs" in infos:
            np.testing.assert_array_equal(infos["_final_obs"], wanted_infos["_final_obs"])
            np.testing.assert_array_equal(infos["_final_info"], wanted_infos["_final_info"])
            assert infos["final_info"] == wanted_infos["final_info"] == {}
            assert infos["final_obs"].dtype == wanted_infos["final_obs"].dtype == object
            for mine, theirs in zip(infos["final_obs"], wanted_infos["final_obs"], strict=True):
                assert (mine is None) == (theirs is None)
                if mine is not None:
                    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6)
        done = result[2] | result[3]
        ends += done.sum()
        for i, env in enumerate(reference.envs.envs):
            env.unwrapped.state = np.array([after[name][i] for name in FIELDS], np.float64)
        if mode is AutoresetMode.DISABLED and done.any():
            with pytest.raises(perilune.UsageError):
                envs.step(actions)
            observations, _ = envs.reset(options={"reset_mask": done})
            reference.resets = observations
            expected, _ = reference.envs.reset(options={"reset_mask": done})
            np.testing.assert_allclose(observations, expected, rtol=0, atol=1e-6)
    assert ends >= 2 * count
    envs.close()
    reference.envs.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_episode_statistics_are_those_of_record_episode_statistics(make, mode):
    """Beside Gymnasium's wrapper around the same environments under another key."""
    envs = make(num_envs=9, autoreset_mode=mode, max_episode_steps=25, episode_statistics=True)
    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs, stats_key="theirs")
    began = time.perf_counter()
    wrapped.reset(seed=2)
    rng = np.random.default_rng(2)
    ends = 0
    for _ in range(200):
        _, _, terminated, truncated, infos = wrapped.step(rng.integers(2, size=9))
        done = terminated | truncated
        assert ("episode" in infos) == done.any()
        if not done.any():
            continue
        ends += done.sum()
        np.testing.assert_array_equal(infos["_episode"], infos["_theirs"])
        assert infos["episode"].keys() == infos["theirs"].keys()
        np.testing.assert_array_equal(infos["episode"]["r"], infos["theirs"]["r"])
        np.testing.assert_array_equal(infos["episode"]["l"], infos["theirs"]["l"])
        seconds = infos["episode"]["t"]
        assert (
            (seconds[~done] == 0).all()
            and (seconds[done] >= 0).all()
            and (seconds <= time.perf_counter() - began).all()
        )
        if mode is AutoresetMode.SAME_STEP:
            np.testing.assert_array_equal(infos["final_info"]["episode"]["r"], infos["episode"]["r"])
        if mode is AutoresetMode.DISABLED:
            wrapped.reset(options={"reset_mask": done})
    assert ends > 50


def test_statistics_come_when_asked_for(make):
    envs = make(num_envs=4, max_episode_steps=3)
    envs.reset(seed=1)
    assert all(envs.step(np.zeros(4, int))[4] == {} for _ in range(10))


def test_states_come_back(make):
    envs = make(num_envs=7)
    envs.reset(seed=1)
    rng = np.random.default_rng(1)
    for _ in range(30):
        envs.step(rng.integers(2, size=7))
    saved = envs.get_state()
    assert saved.shape == (7,) and saved.dtype.names[:4] == tuple(FIELDS)
    actions = [rng.integers(2, size=7) for _ in range(40)]
    first = [envs.step(action) for action in actions]
    observations = envs.set_state(saved)
    np.testing.assert_array_equal(envs.get_state(), saved)
    np.testing.assert_array_equal(observations, np.stack([saved[name] for name in FIELDS], axis=1))
    for action, expected in zip(actions, first, strict=True):
        for mine, theirs in zip(envs.step(action)[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    # Another batch can take them on, in other places too.
    other = make(num_envs=3)
    other.reset(seed=77)
    other.set_state(saved[[5, 2]], [0, 2])
    np.testing.assert_array_equal(other.get_state([0, 2]), saved[[5, 2]])
    got = other.step(np.array([actions[0][5], 0, actions[0][2]]))[0]
    np.testing.assert_array_equal(got[[0, 2]], first[0][0][[5, 2]])
    np.testing.assert_array_equal(envs.get_state(np.arange(7) % 2 == 0), envs.get_state([0, 2, 4, 6]))


def test_states_that_are_none(make):
    envs = make(num_envs=3)
    envs.reset(seed=1)
    state = envs.get_state()
    for wrong, indices in [(state[:2], None), (state, [0, 1, 3]), (state, [0, 1, -1]), (state, [True, False, True])]:
        with pytest.raises(perilune.UsageError):
            envs.set_state(wrong, np.array(indices) if indices else None)
    broken = state.copy()
    broken["angle"][1] = np.nan
    with pytest.raises(perilune.UsageError):
        envs.set_state(broken)
    with pytest.raises(TypeError, match="no state"):
        envs.set_state(np.zeros(3))
    with pytest.raises(TypeError, match="indices"):
        envs.get_state([0.5])
    np.testing.assert_array_equal(envs.get_state(), state)


def test_two_batches_on_two_threads():
    """Both give what they give alone."""
    from threading import Thread

    def run(seed, out):
        envs = perilune.VectorEnv("CartPole-v1", 1024, threads=2)
        out[seed] = [envs.reset(seed=seed)[0]] + [envs.step(np.full(1024, step % 2))[0] for step in range(300)]
        envs.close()

    together, alone = {}, {}
    threads = [Thread(target=run, args=(seed, together)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        run(seed, alone)
        for mine, theirs in zip(together[seed], alone[seed], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_one_batch_on_two_threads_is_an_error_and_no_crash():
    from threading import Thread

    envs = perilune.VectorEnv("CartPole-v1", 20000)
    envs.reset(seed=1)
    seen = set()

    def run():
        for _ in range(50):
            try:
                envs.step(np.zeros(20000, int))
            except perilune.Error as error:
                seen.add(str(error))

    threads = [Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    envs.step(np.zeros(20000, int))
    assert all("thread" in text for text in seen), seen
    envs.close()


def bad_steps():
    yield "actions have shape", perilune.UsageError, np.zeros(3, int)
    yield "actions have shape", perilune.UsageError, np.zeros((4, 1), int)
    yield "actions have shape", perilune.UsageError, 1
    yield "no integer", TypeError, np.zeros(4)
    yield "no integer", TypeError, np.zeros(4, complex)
    yield "no integer", TypeError, np.array([0, 1, None, 1])
    yield "no integer", TypeError, "left"
    yield "no integer", TypeError, None
    yield "2", perilune.UsageError, np.array([0, 1, 2, 1])
    yield "-1", perilune.UsageError, np.array([0, 1, -1, 1])
    yield "action", perilune.UsageError, np.array([0, 1, 2**40, 1])
    yield "action", perilune.UsageError, np.array([0, 1, 200, 1], np.uint8)
    yield "action", perilune.UsageError, np.array([0, 1, 2**64 - 1, 1], np.uint64)


@pytest.mark.parametrize("match, error, actions", list(bad_steps()))
def test_actions_that_are_none(make, match, error, actions):
    envs = make(num_envs=4)
    envs.reset(seed=1)
    before = envs.get_state()
    with pytest.raises(error, match=match):
        envs.step(actions)
    np.testing.assert_array_equal(envs.get_state(), before)
    envs.step(np.array([0, 1, 1, 1]))


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, list]
)
def test_actions_of_any_integer_type(make, dtype):
    envs, other = make(num_envs=5), make(num_envs=5)
    envs.reset(seed=1), other.reset(seed=1)
    actions = np.array([0, 1, 1, 0, 1])
    given = actions.tolist() if dtype is list else actions.astype(dtype)
    np.testing.assert_array_equal(envs.step(given)[0], other.step(actions)[0])
    strided = np.repeat(actions, 2)[::2] if dtype is list else np.repeat(actions, 2)[::2].astype(dtype)[::-1][::-1]
    np.testing.assert_array_equal(envs.step(strided)[0], other.step(actions)[0])


CONTINUOUS = [env_id for env_id in perilune.environments() if "Continuous" in env_id]


@pytest.mark.parametrize("env_id", CONTINUOUS)
def test_actions_that_are_numbers(make, env_id):
    envs, other = make(f"perilune/{env_id}", num_envs=5), make(f"perilune/{env_id}", num_envs=5)
    envs.reset(seed=1), other.reset(seed=1)
    actions = np.random.default_rng(1).uniform(-1, 1, (5, 2)).astype(np.float32)
    np.testing.assert_array_equal(envs.step(actions.astype(np.float64))[0], other.step(actions)[0])
    np.testing.assert_array_equal(envs.step(np.ones((5, 2), int))[0], other.step(np.full((5, 2), 3, np.float32))[0])
    before = envs.get_state()
    for wrong in (np.full((5, 2), np.nan), np.full((5, 2), np.nan, np.float32), actions[:, :1], actions.T, actions[0]):
        with pytest.raises(perilune.UsageError):
            envs.step(wrong)
    np.testing.assert_array_equal(envs.get_state(), before)


def test_wrong_numbers_of_environments():
    for wrong in (0, -1, 2**40):
        with pytest.raises(perilune.UsageError):
            perilune.VectorEnv("CartPole-v1", wrong)
    with pytest.raises(TypeError, match=r"num_envs = 1\.5 is not an integer - allowed: a whole number, 1 \.\. 4194304"):
        perilune.VectorEnv("CartPole-v1", 1.5)
    for options in ({"max_episode_steps": -1}, {"device": "tpu"}, {"threads": 0}, {"arrays": "jax"}):
        with pytest.raises(perilune.UsageError):
            perilune.VectorEnv("CartPole-v1", 2, **options)
    with pytest.raises(perilune.UsageError, match="CartPole-v1"):
        perilune.VectorEnv("CartPoll-v1", 2)
    with pytest.raises(ValueError):
        perilune.VectorEnv("CartPole-v1", 2, autoreset_mode="Never")


def test_resets_that_are_none(make):
    envs = make(num_envs=3)
    for use in (lambda: envs.step(np.zeros(3, int)), envs.get_state, envs.observations):
        with pytest.raises(perilune.UsageError, match="reset"):
            use()
    with pytest.raises(perilune.UsageError):
        envs.reset(options={"reset_mask": np.array([True, False, True])})
    envs.reset(seed=1)
    for wrong in (-1, 2**32, [1, 2], [1, 2, -3]):
        with pytest.raises(perilune.UsageError):
            envs.reset(seed=wrong)
    for wrong in (np.zeros(3, bool), np.ones(4, bool), np.ones(3, int), [True, True, True]):
        with pytest.raises(perilune.UsageError, match="reset_mask"):
            envs.reset(options={"reset_mask": wrong})
    with pytest.raises(perilune.UsageError, match="low"):
        envs.reset(options={"low": -0.1})


def test_use_after_close():
    envs = gymnasium.make_vec("perilune/CartPole-v1", num_envs=3)
    observations, _ = envs.reset(seed=1)
    kept = observations.copy()
    envs.close()
    envs.close()
    for use in (
        envs.reset,
        lambda: envs.step(np.zeros(3, int)),
        envs.get_state,
        envs.observations,
        envs.check,
        lambda: envs.set_state(np.zeros(3, envs._state_type)),
    ):
        with pytest.raises(perilune.Error, match="closed"):
            use()
    np.testing.assert_array_equal(observations, kept)


@pytest.mark.skipif(bool(os.environ.get("PERILUNE_SANITIZE")), reason="sanitizers keep freed memory for a while")
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_million_steps_need_no_more_memory(make, mode):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    envs = make(num_envs=8, autoreset_mode=mode)
    envs.reset(seed=1)
    actions = [np.random.default_rng(i).integers(2, size=8) for i in range(100)]
    for _ in range(200):
        for action in actions:
            envs.step(action)
    before = resident()
    for _ in range(10000 if mode is AutoresetMode.NEXT_STEP else 2000):
        for action in actions:
            envs.step(action)
    assert resident() - before < 1 << 20  # a leak of one byte a step would be seen
