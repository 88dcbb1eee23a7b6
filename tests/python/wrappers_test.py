"""Gymnasium's own wrappers and checks, and Stable-Baselines3, around perilune's environments."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as wrappers

import perilune
from common import random_actions

IDS = list(perilune.environments())


def wrap_all():
    yield "RecordEpisodeStatistics", wrappers.RecordEpisodeStatistics
    yield "NormalizeObservation", wrappers.NormalizeObservation
    yield "NormalizeReward", wrappers.NormalizeReward
    yield "DictInfoToList", wrappers.DictInfoToList
    yield "ClipReward", lambda envs: wrappers.ClipReward(envs, -0.5, 0.5)
    yield "TransformReward", lambda envs: wrappers.TransformReward(envs, lambda reward: 2 * reward)
    yield "TransformObservation", lambda envs: wrappers.TransformObservation(envs, lambda observation: 2 * observation)
    yield "DtypeObservation", lambda envs: wrappers.DtypeObservation(envs, np.float64)
    yield "FlattenObservation", wrappers.FlattenObservation
    yield (
        "ReshapeObservation",
        lambda envs: wrappers.ReshapeObservation(envs, (envs.single_observation_space.shape[0], 1)),
    )
    yield "NumpyToTorch", None


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name, wrap", list(wrap_all()), ids=lambda value: value if isinstance(value, str) else "")
def test_gymnasiums_wrappers(make, name, wrap, mode):
    if wrap is None:
        if mode is AutoresetMode.SAME_STEP:  # it cannot convert final_obs, SyncVectorEnv's neither
            return
        for needed in ("torch", "array_api_compat"):
            pytest.importorskip(needed, reason=f"{needed} is not in build/venv")
        wrap = wrappers.NumpyToTorch
    inner = make(num_envs=5, max_episode_steps=20, autoreset_mode=mode)
    try:
        envs = wrap(inner)
    except ValueError as error:  # some refuse a mode, whose environments ever
        assert mode is not AutoresetMode.NEXT_STEP and "autoreset_mode" in str(error)
        return
    observations, _ = envs.reset(seed=1)
    rng = np.random.default_rng(1)
    for _ in range(60):
        observations, rewards, terminated, truncated, _ = envs.step(random_actions(inner, rng))
        assert len(observations) == 5 and len(rewards) == 5
        done = np.asarray(terminated) | np.asarray(truncated)
        if mode is AutoresetMode.DISABLED and done.any():
            envs.reset(options={"reset_mask": done})


@pytest.mark.parametrize("env_id", IDS)
def test_record_episode_statistics_as_everybody_writes_it(make, env_id):
    """With default keys around default environments, and its queues."""
    inner = make(f"perilune/{env_id}", num_envs=16, max_episode_steps=60)
    envs = wrappers.RecordEpisodeStatistics(wrappers.NormalizeReward(inner))
    envs.reset(seed=1)
    rng = np.random.default_rng(1)
    ended = sum(int(envs.step(random_actions(inner, rng))[4].get("_episode", np.zeros(1)).sum()) for _ in range(200))
    assert ended > 16 and envs.episode_count == ended
    assert 0 < np.mean(envs.length_queue) <= 60


class MoreStatistics(wrappers.RecordEpisodeStatistics):
    """A subclass, as MO-Gymnasium has one."""


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize(
    "reset",
    [
        lambda w: w.reset(seed=[1, 2, 3]),
        lambda w: w.env.reset(seed=[1, 2, 3]),
        lambda w: (w.reset(seed=[1, 2, 3]), w.unwrapped.reset(seed=[4, 5, 6])),
        lambda w: (w.reset(seed=[1, 2, 3]), w.env.reset(options={"reset_mask": np.array([True, False, False])})),
    ],
    ids=["its own", "the inner one's", "the innermost later", "the inner one's, masked"],
)
@pytest.mark.parametrize("wrap", [wrappers.RecordEpisodeStatistics, MoreStatistics])
def test_record_episode_statistics_whoever_resets(make, wrap, reset, mode):
    """Counts and returns as around Gymnasium's own SyncVectorEnv of the same environments."""
    seen = []
    for kind in ("vector_entry_point", "sync"):
        options = {"vector_kwargs": {"autoreset_mode": mode}} if kind == "sync" else {"autoreset_mode": mode}
        envs = wrap(make(num_envs=3, max_episode_steps=20, vectorization_mode=kind, **options))
        reset(envs)
        rows = []
        for t in range(80):
            *_, infos = envs.step(np.full(3, t // 3 % 2))
            if "episode" in infos:
                rows.append(
                    (t, infos["_episode"].tolist(), infos["episode"]["r"].tolist(), infos["episode"]["l"].tolist())
                )
        seen.append((envs.episode_count, rows))
    assert seen[0] == seen[1] and seen[0][0] >= 9


def test_statistics_of_its_own_are_not_given_twice(make):
    envs = wrappers.RecordEpisodeStatistics(
        make(num_envs=2, max_episode_steps=4, episode_statistics=True), stats_key="again"
    )
    envs.reset(seed=1)
    infos = [envs.step(np.zeros(2, int))[4] for _ in range(4)][-1]
    np.testing.assert_array_equal(infos["episode"]["r"], infos["again"]["r"])


@pytest.mark.parametrize("env_id", IDS)
def test_results_are_in_their_spaces(make, env_id):
    envs = make(f"perilune/{env_id}", num_envs=33)
    envs.action_space.seed(1)
    observations, _ = envs.reset(seed=1)
    for _ in range(100):
        assert observations in envs.observation_space or "Lander" in env_id  # Gymnasium's lander leaves its space, too
        observations, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert observations.dtype == np.float32 and observations.shape == (33, *envs.single_observation_space.shape)
        assert rewards.dtype == np.float32 and rewards.shape == (33,)
        assert terminated.dtype == truncated.dtype == np.bool_ and terminated.shape == truncated.shape == (33,)
        assert isinstance(infos, dict)


def test_seeded_generator_and_repr(make):
    envs = make(num_envs=2)
    envs.reset(seed=11)
    assert envs.np_random_seed == 11
    assert "CartPole-v1" in repr(envs)


def test_a_list_of_infos_for_stable_baselines(make):
    """perilune.sb3 without a policy: what VecEnv promises at episode ends."""
    pytest.importorskip(
        "stable_baselines3", reason="not in build/venv (3 GB with torch): build/venv/bin/pip install stable-baselines3"
    )
    from stable_baselines3.common.monitor import Monitor

    import perilune.sb3

    envs = perilune.sb3.make("CartPole-v1", 6, max_episode_steps=15)
    envs.seed(3)
    observations = envs.reset()
    expected, _ = make(num_envs=1).reset(seed=3)
    np.testing.assert_array_equal(observations[0], expected[0])
    assert envs.env_is_wrapped(Monitor) == [True] * 6 and envs.get_attr("env_id", [1, 2]) == ["CartPole-v1"] * 2
    rng = np.random.default_rng(1)
    ends = 0
    for _ in range(100):
        _, rewards, dones, infos = envs.step(rng.integers(2, size=6))
        assert len(infos) == 6 and rewards.shape == dones.shape == (6,)
        for done, info in zip(dones, infos, strict=True):
            assert done == ("terminal_observation" in info) == ("episode" in info)
            if done:
                ends += 1
                assert info["TimeLimit.truncated"] == (
                    info["episode"]["l"] == 15 and not abs(info["terminal_observation"][2]) > 0.2095
                )
                assert info["terminal_observation"].shape == (4,)
    assert ends > 20
    envs.close()


def test_stable_baselines_solves_cartpole(tmp_path):
    pytest.importorskip(
        "stable_baselines3", reason="not in build/venv (3 GB with torch): build/venv/bin/pip install stable-baselines3"
    )
    import torch
    from stable_baselines3 import PPO

    import perilune.sb3

    torch.set_num_threads(1)  # networks this small gain nothing from more, and lose where others compute
    # RL-Zoo's settings.
    envs = perilune.sb3.make("CartPole-v1", 8)
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gae_lambda=0.8,
        gamma=0.98,
        ent_coef=0.0,
        seed=1,
        learning_rate=lambda left: 1e-3 * left,
        clip_range=lambda left: 0.2 * left,
        device="cpu",
    )
    model.learn(100_000)
    envs.close()
    evaluation = perilune.VectorEnv("CartPole-v1", 100)
    observations, _ = evaluation.reset(seed=1000)
    total, running = np.zeros(100), np.ones(100, bool)
    while running.any():
        observations, rewards, terminated, truncated, _ = evaluation.step(
            model.predict(observations, deterministic=True)[0]
        )
        total += np.where(running, rewards, 0)
        running &= ~(terminated | truncated)
    evaluation.close()
    assert total.mean() >= 475
