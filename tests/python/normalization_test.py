"""Observations and rewards that are normalised: the statistics of a run are those of other packages' wrappers after the
same samples; nothing but training changes them; and a policy acts by them."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import perilune
from conftest import SHORT

NORMALIZED = {"norm_obs": True, "norm_reward": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return perilune.train("cartpole", **{**SHORT, **NORMALIZED, "run_dir": tmp_path_factory.mktemp("run") / "run"})


def expect_actor(policy, tensors, observations, clip):
    """The policy's outputs and actions, from its file's tensors."""
    x = (observations - tensors["obs_mean"]) / np.sqrt(tensors["obs_var"] + np.float32(1e-8))
    x, layer = np.clip(x, -clip, clip), 0
    while f"actor.{layer}.weight" in tensors:
        x = (np.tanh(x) if layer else x) @ tensors[f"actor.{layer}.weight"].T + tensors[f"actor.{layer}.bias"]
        layer += 2
    np.testing.assert_allclose(policy.outputs(observations), x, rtol=1e-5, atol=1e-5)
    certain = np.abs(x[:, 0] - x[:, 1]) > 1e-4
    assert certain.mean() > 0.9
    np.testing.assert_array_equal(policy(observations)[certain], x.argmax(axis=1)[certain])


@pytest.mark.parametrize("package", ["gymnasium.wrappers.utils", "stable_baselines3.common.running_mean_std"])
def test_statistics_are_those_of_wrappers(package, tmp_path):
    """CartPole's states are its observations and every reward is 1, so that a checkpoint after each step of 37
    environments has what wrappers of them would see."""
    running_mean_std = pytest.importorskip(package, reason=f"{package} is not in build/venv").RunningMeanStd
    envs, gamma, folder = 37, 0.97, tmp_path / "run"
    settings = {
        **SHORT,
        **NORMALIZED,
        "num_envs": envs,
        "num_steps": 1,
        "gamma": gamma,
        "max_episode_steps": 19,
        "norm_adv": "none",
    }
    observations, returns = running_mean_std(shape=(4,)), running_mean_std(shape=())
    discounted, ended, states = np.zeros(envs), 0, None
    for step in range(1, 61):
        settings["total_timesteps"] = step * envs
        if step == 1:
            perilune.train("cartpole", **{**settings, "run_dir": folder})
        else:
            perilune.train(resume=folder, total_timesteps=step * envs, device="cpu", quiet=True)
        tensors = load_file(folder / "checkpoint.safetensors")
        if step == 1:  # the first observations are in no file
            observations.update_from_moments(tensors["obs_mean"], tensors["obs_var"], envs)
            observations.mean, observations.var = tensors["obs_mean"].astype(float), tensors["obs_var"].astype(float)
        else:
            observations.update(states)
        states = tensors["environments.fields"].T.astype(float)
        discounted = discounted * gamma + 1.0
        returns.update(discounted)
        over = tensors["environments.elapsed"] == 0
        discounted[over], ended = 0.0, ended + over.sum()
        np.testing.assert_allclose(tensors["obs_mean"], observations.mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(tensors["obs_var"], observations.var, rtol=1e-5)
        np.testing.assert_allclose(tensors["obs_count"][0], observations.count, rtol=1e-7)
        np.testing.assert_allclose(tensors["return_mean"][0], returns.mean, rtol=1e-5)
        np.testing.assert_allclose(tensors["return_var"][0], returns.var, rtol=1e-5)
        np.testing.assert_allclose(tensors["environments.discounted_return"], discounted, rtol=1e-5)
    assert ended > 2 * envs


@pytest.mark.parametrize("settings", [{}, {"clip_obs": 0.8}, {"clip_obs": 0}, {"hidden_sizes": [9, 5], "clip_obs": 2}])
def test_a_policy_acts_by_its_statistics(settings, tmp_path):
    sizes = {**SHORT, **NORMALIZED, **settings, "run_dir": tmp_path / "run"}
    if "hidden_sizes" in settings:
        del sizes["hidden_width"]
    result = perilune.train("cartpole", **sizes)
    file = result.run_dir / "policy.safetensors"
    observations = np.random.default_rng(1).normal(size=(301, 4)).astype(np.float32)
    clip = settings.get("clip_obs", 10) or np.inf
    expect_actor(perilune.load(file, device="cpu"), load_file(file), observations, clip)
    best = perilune.load(result, best=True, device="cpu")
    expect_actor(best, load_file(result.run_dir / "best.safetensors"), observations, clip)


def test_nothing_but_training_changes_statistics(run):
    file = run.run_dir / "policy.safetensors"
    before, policy = file.read_bytes(), perilune.load(file, device="cpu")
    weights = policy.weights()
    first = policy.evaluate(20)
    policy(np.full((50, 4), 3.0, np.float32))
    assert policy.evaluate(20) == first == perilune.evaluate(file, 20, device="cpu")
    assert file.read_bytes() == before
    for name, tensor in policy.weights().items():
        np.testing.assert_array_equal(tensor, weights[name])


def test_training_goes_on_with_the_statistics_of_a_policy(run, tmp_path):
    source = load_file(run.run_dir / "policy.safetensors")
    settings = {**SHORT, "total_timesteps": 256, "learning_rate": 1e-12, "critic_learning_rate": 1e-12}
    result = perilune.train("cartpole", from_policy=run, **{**settings, "run_dir": tmp_path / "run"})
    assert result.config["norm_obs"] and not result.config["norm_reward"]
    tensors = load_file(result.run_dir / "policy.safetensors")
    assert tensors["obs_count"][0] == pytest.approx(source["obs_count"][0] + 256)
    assert "return_count" not in tensors
    initial = load_file(result.run_dir / "initial_policy.safetensors")
    for name, tensor in source.items():
        np.testing.assert_array_equal(initial[name], tensor)
    # The new observations begin near the middle, where few of the old ones were: both means count by their samples.
    moved = (tensors["obs_mean"] - source["obs_mean"]) * tensors["obs_count"] / 256 + source["obs_mean"]
    assert np.abs(moved).max() < 1 and not np.array_equal(tensors["obs_mean"], source["obs_mean"])
    both = perilune.train("cartpole", from_policy=run, **{**settings, **NORMALIZED, "run_dir": tmp_path / "both"})
    count = load_file(both.run_dir / "policy.safetensors")["return_count"][0]
    assert count == pytest.approx(source["return_count"][0] + 256)
    for key, value in (("norm_obs", False), ("clip_obs", 3)):
        with pytest.raises(perilune.UsageError, match=f"{key} = .* has .* - leave {key} out"):
            perilune.train("cartpole", from_policy=run, **{**settings, key: value, "run_dir": tmp_path / key})


@pytest.mark.parametrize(
    "name, damage, message",
    [
        ("obs_var", lambda x: x * 0, r'"obs_var" \[0\] is 0 - allowed: any positive number'),
        ("obs_mean", lambda x: x * np.nan, r'"obs_mean" \[0\] is nan'),
        ("obs_mean", lambda x: x[:3], "obs_mean' is F32 .* expected"),
        ("return_var", lambda x: -x, r'"return_var" \[0\] is -'),
        ("obs_var", None, "obs_var"),
        ("obs_mean", None, "norm_obs = true"),
    ],
)
def test_damaged_statistics_are_refused_by_name(name, damage, message, run, tmp_path):
    source = run.run_dir / "policy.safetensors"
    tensors = load_file(source)
    with safe_open(source, "np") as opened:
        metadata = opened.metadata()
    tensor = tensors.pop(name)
    if damage is not None:
        tensors[name] = damage(tensor)
    save_file(tensors, tmp_path / "policy.safetensors", metadata)
    with pytest.raises(perilune.Error, match=message):
        perilune.load(tmp_path / "policy.safetensors", device="cpu")
