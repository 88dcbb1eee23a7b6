"""Environments, policies and runs are pickled and copied, and go on in other processes as they would have here."""

import copy
import multiprocessing
import pickle
import shutil

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import perilune
from common import random_actions

WAYS = {"pickle": lambda thing: pickle.loads(pickle.dumps(thing)), "deepcopy": copy.deepcopy, "copy": copy.copy}


def play(envs, seed, steps):
    """Results of steps with drawn actions but seconds; environments that are over are reset where no step does that."""
    rng, results = np.random.default_rng(seed), []
    for _ in range(steps):
        *arrays, infos = envs.step(random_actions(envs, rng))
        infos = {**infos, "final_info": None, "final_obs": list(infos.get("final_obs", []))}
        if "episode" in infos:
            infos["episode"] = {key: infos["episode"][key] for key in "rl"}
        results.append((*arrays, infos))
        done = arrays[2] | arrays[3]
        if envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED and done.any():
            results.append(envs.reset(options={"reset_mask": done}))
    return results


def assert_same(mine, theirs):
    np.testing.assert_equal(mine, theirs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("env_id", list(perilune.environments()))
def test_environments_go_on_in_their_copy(env_id, mode, way):
    """At several places of their episodes, one in which resets are pending among them."""
    envs = perilune.VectorEnv(env_id, 7, max_episode_steps=20, autoreset_mode=mode, threads=1, episode_statistics=True)
    envs.reset(seed=[3, 1, 4, 1, 5, 9, 2])
    for steps in (5, 15, 1, 40):  # the limit ends episodes in step 20, where Landers are copied with resets pending
        play(envs, steps, steps)
        other = WAYS[way](envs)
        before = envs.get_state()
        assert_same(other.get_state(), before)
        theirs = play(other, 1, 30)
        assert_same(envs.get_state(), before)  # nothing is shared
        assert_same(play(envs, 1, 30), theirs)
        assert_same(envs.reset()[0], other.reset()[0])  # the same next episodes
        other.close()
        envs.step(random_actions(envs, np.random.default_rng(2)))
    envs.close()


def test_what_environments_were_made_with_goes_along():
    envs = perilune.VectorEnv(
        "LunarLander-v3",
        3,
        max_episode_steps=9,
        autoreset_mode="SameStep",
        gravity=-5.0,
        fast_solver=True,
        threads=1,
        episode_statistics=False,
    )
    envs.reset(seed=5)
    envs.action_space.seed(8)
    envs.note = "mine"
    other = pickle.loads(pickle.dumps(envs))
    assert (repr(other), other.note, other.np_random_seed, other.max_episode_steps) == (repr(envs), "mine", 5, 9)
    assert other.metadata == envs.metadata and other.observation_space == envs.observation_space
    assert_same([other.action_space.sample() for _ in range(5)], [envs.action_space.sample() for _ in range(5)])
    assert other.np_random.random() == envs.np_random.random()
    assert_same(play(other, 1, 30), play(envs, 1, 30))


def test_registered_environments_keep_their_spec(make):
    envs = make(num_envs=3, max_episode_steps=11)
    assert pickle.loads(pickle.dumps(envs)).spec == envs.spec


def test_environments_that_have_no_state_yet_or_no_more():
    new = pickle.loads(pickle.dumps(perilune.VectorEnv("CartPole-v1", 3)))
    with pytest.raises(perilune.UsageError, match="call reset first"):
        new.get_state()
    assert_same(new.reset(seed=2)[0], perilune.VectorEnv("CartPole-v1", 3).reset(seed=2)[0])
    new.close()
    closed = copy.deepcopy(new)
    assert closed.closed
    with pytest.raises(perilune.Error, match="closed"):
        closed.reset()


@pytest.mark.parametrize("seconds_before", [0.0, 0.05])
def test_seconds_of_episodes_go_along(seconds_before):
    """An episode's seconds count from its own beginning, before the copy; one put in by hand begins then."""
    import time

    envs = perilune.VectorEnv("CartPole-v1", 2, max_episode_steps=2, episode_statistics=True, threads=1)
    envs.reset(seed=1)
    envs.step(np.zeros(2, int))
    time.sleep(seconds_before)
    other = copy.deepcopy(envs)
    seconds = other.step(np.zeros(2, int))[4]["episode"]["t"]
    assert (seconds >= seconds_before).all() and (seconds < seconds_before + 5).all()
    by_hand = perilune.VectorEnv("CartPole-v1", 2, max_episode_steps=2, episode_statistics=True, threads=1)
    by_hand.set_state(envs.get_state())
    assert (by_hand.step(np.zeros(2, int))[4]["episode"]["t"] < 5).all()


@pytest.mark.parametrize("way", WAYS)
def test_policies_need_no_file(trained, tmp_path, way):
    directory = shutil.copytree(trained.run_dir, tmp_path / "run")
    policy = perilune.load(directory, device="cpu", threads=1)
    observations = np.random.default_rng(1).normal(size=(33, 4)).astype(np.float32)
    policy(observations, deterministic=False)  # draws go on from the second call
    weights = policy.weights()
    shutil.rmtree(directory)
    other = WAYS[way](policy)
    assert_same(other.outputs(observations), policy.outputs(observations))
    assert_same(
        [other(observations, deterministic=False) for _ in range(3)],
        [policy(observations, deterministic=False) for _ in range(3)],
    )
    assert other.config == policy.config and repr(other) == repr(policy)
    assert_same(other.weights(), weights)
    assert other.evaluate(5) == policy.evaluate(5)
    exported = perilune.load(other.export(tmp_path / "copy.safetensors"), device="cpu")
    assert_same(exported.outputs(observations), policy.outputs(observations))


def test_exports_are_the_policy_that_was_loaded(trained, tmp_path):
    """Byte for byte the file that training wrote; and not what lies in its place since then."""
    directory = shutil.copytree(trained.run_dir, tmp_path / "run")
    written = (directory / "policy.safetensors").read_bytes()
    policy = perilune.load(directory, device="cpu")
    for path in directory.glob("*.safetensors"):
        path.write_bytes(b"something else")
    assert policy.export(tmp_path / "exported.safetensors").read_bytes() == written


def test_damaged_bytes_are_an_error(trained):
    policy = perilune.load(trained, device="cpu")
    state = policy.__getstate__()
    broken = {**state, "_native": state["_native"][:-8]}
    with pytest.raises(perilune.Error, match="truncated"):
        copy.copy(policy).__setstate__(broken)


@pytest.mark.parametrize("way", WAYS)
def test_runs_are_their_data_and_directory(trained, way):
    policy = trained.policy  # cached: both are read again by the copy
    metrics = trained.metrics
    size = len(pickle.dumps(trained))
    other = WAYS[way](trained)
    assert size < 10_000
    assert repr(other) == repr(trained) and other.config == trained.config and other.steps == trained.steps
    assert other.evaluation == trained.evaluation and other.run_dir == trained.run_dir
    assert_same(other.metrics, metrics)
    assert_same(other.policy.weights(), policy.weights())
    assert trained.policy is policy


def in_another_process(things, seed):
    """What the test below compares, there and here."""
    envs, policy, run = things
    observations = envs.observations()
    return (
        play(envs, seed, 25),
        policy(observations),
        policy(observations, deterministic=False),
        run.evaluation,
        run.policy.outputs(observations),
    )


def test_a_spawned_process_goes_on_with_them(trained):
    envs = perilune.VectorEnv("CartPole-v1", 5, max_episode_steps=15)
    envs.reset(seed=1)
    play(envs, 1, 12)
    things = envs, perilune.load(trained, device="cpu"), trained
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        theirs = pool.apply(in_another_process, (things, 3))
    assert_same(in_another_process(things, 3), theirs)


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_single_environments_go_on_in_their_copy(way):
    env = gymnasium.make("perilune/LunarLander-v3", max_episode_steps=30)
    env.reset(seed=4)
    for _ in range(20):
        env.step(2)
    other = WAYS[way](env)
    assert_same([other.step(t % 4) for t in range(10)], [env.step(t % 4) for t in range(10)])
    assert_same(other.reset(), env.reset())


@pytest.mark.parametrize(
    "path", ["policy.Policy", "training.Run", "training.Best", "training.Evaluation", "vector.VectorEnv", "single.Env"]
)
def test_classes_are_where_earlier_pickles_name_them(path):
    module, name = path.split(".")
    assert pickle.loads(f"cperilune.{module}\n{name}\n.".encode()) is getattr(perilune, name)
