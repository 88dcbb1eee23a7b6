"""Single environments: gymnasium.make, Gymnasium's checker and vectorisation, and the bits of a batch."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import perilune
from common import random_actions

IDS = list(perilune.environments())


@pytest.fixture
def single():
    """gymnasium.make that closes what it made."""
    made = []

    def make(env_id="perilune/CartPole-v1", **options):
        made.append(gymnasium.make(env_id, **options))
        return made[-1]

    yield make
    for env in made:
        env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_finds_nothing(single, env_id):
    env = single(f"perilune/{env_id}", disable_env_checker=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # These two the checker says of Gymnasium's own environments of the same spaces: velocities have no bounds.
        warnings.filterwarnings("ignore", message=".*Box observation space m.*imum value is.*infinity.*")
        check_env(env.unwrapped)
    assert (
        env.spec.id == f"perilune/{env_id}"
        and env.spec.max_episode_steps == perilune.environments()[env_id]["max_episode_steps"]
    )


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_bits_are_those_of_environment_0_of_a_batch(single, make, env_id, seed):
    env = single(f"perilune/{env_id}", max_episode_steps=70)
    envs = make(f"perilune/{env_id}", num_envs=5, max_episode_steps=70, autoreset_mode=AutoresetMode.SAME_STEP)
    observation, infos = env.reset(seed=seed)
    batch, _ = envs.reset(seed=seed)
    assert infos == {} and observation.dtype == np.float32
    np.testing.assert_array_equal(observation, batch[0])
    rng = np.random.default_rng(1)
    ends = 0
    for _ in range(300):
        actions = random_actions(envs, rng)
        batch, rewards, terminations, truncations, more = envs.step(actions)
        observation, reward, terminated, truncated, infos = env.step(actions[0])
        assert (reward, terminated, truncated, infos) == (rewards[0], terminations[0], truncations[0], {})
        assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
        if terminated or truncated:
            ends += 1
            np.testing.assert_array_equal(observation, more["final_obs"][0])
            observation, _ = env.reset()
        np.testing.assert_array_equal(observation, batch[0])
    assert ends >= 2


def test_observations_that_were_handed_out_stay():
    env = perilune.Env("CartPole-v1")
    first, _ = env.reset(seed=1)
    kept = first.copy()
    seen = [env.step(1)[0] for _ in range(5)]
    np.testing.assert_array_equal(first, kept)
    assert len({x.tobytes() for x in seen}) == 5


def steps_of_an_episode(env):
    """Steps until it is cut, pushing against the pole."""
    observation, _ = env.reset(seed=3)
    for step in range(1, 2000):
        observation, _, terminated, truncated, _ = env.step(int(3 * observation[2] + observation[3] > 0))
        if terminated or truncated:
            return step, truncated
    return None, None


@pytest.mark.parametrize("limit, expected", [(None, 500), (40, 40), (900, 900)])
def test_one_time_limit_cuts_episodes(single, limit, expected):
    """gymnasium.make's, whether shorter or longer than the environment's own."""
    env = single(**({} if limit is None else {"max_episode_steps": limit}))
    assert steps_of_an_episode(env) == (expected, True)
    assert steps_of_an_episode(env) == (expected, True)


def test_its_own_time_limit_without_gymnasiums():
    assert steps_of_an_episode(perilune.Env("CartPole-v1")) == (500, True)
    assert steps_of_an_episode(perilune.Env("CartPole-v1", max_episode_steps=33)) == (33, True)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_vectorisation_by_gymnasium(make, kind):
    """SyncVectorEnv and AsyncVectorEnv of single environments step as our batch whose environments have a seed each."""
    theirs = make(
        "perilune/LunarLander-v3",
        num_envs=3,
        vectorization_mode=kind,
        enable_wind=True,
        max_episode_steps=50,
        wrappers=[lambda env: gymnasium.wrappers.TransformReward(env, lambda reward: reward / 2)],
    )
    ours = make("perilune/LunarLander-v3", num_envs=3, enable_wind=True, max_episode_steps=50)
    np.testing.assert_array_equal(theirs.reset(seed=[5, 6, 7])[0], ours.reset(seed=[5, 6, 7])[0])
    rng = np.random.default_rng(1)
    for _ in range(60):
        actions = rng.integers(4, size=3)
        a, b = theirs.step(actions), ours.step(actions)
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1] / 2)
        np.testing.assert_array_equal(a[2], b[2])
        np.testing.assert_array_equal(a[3], b[3])


def test_what_a_batch_cannot_have_is_said(make):
    with pytest.raises(gymnasium.error.Error, match="wrappers"):
        make(num_envs=2, wrappers=[lambda env: env])
    with pytest.raises(gymnasium.error.Error, match="vector_kwargs"):
        make(num_envs=2, vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("spell", [lambda mode: mode, lambda mode: mode.name, lambda mode: mode.value])
def test_autoreset_modes_by_name_and_value(make, mode, spell):
    assert make(num_envs=2, autoreset_mode=spell(mode)).metadata["autoreset_mode"] is mode


def test_autoreset_modes_that_are_none(make):
    with pytest.raises(perilune.UsageError, match=r"autoreset_mode.*unknown.*SAME_STEP"):
        make(num_envs=2, autoreset_mode="same")


def test_parameters_and_wrappers_of_make(single):
    env = gymnasium.wrappers.RecordEpisodeStatistics(single(sutton_barto_reward=True))
    env.reset(seed=1)
    terminated = truncated = False
    while not (terminated or truncated):
        *_, terminated, truncated, infos = env.step(env.action_space.sample())
    assert infos["episode"]["r"] == -1.0


def test_states_come_back():
    env = perilune.Env("LunarLander-v3")
    env.reset(seed=4)
    for action in (2, 2, 1):
        env.step(action)
    state = env.get_state()
    after = env.step(3)
    env.step(0)
    env.set_state(state)
    again = env.step(3)
    np.testing.assert_array_equal(after[0], again[0])
    assert after[1:] == again[1:]


@pytest.mark.parametrize(
    "wrong, error, text",
    [
        (lambda env: env.reset(seed=1.5), TypeError, "seed = 1.5 is not an integer"),
        (lambda env: env.reset(seed=-1), perilune.UsageError, "seed = -1 is out of range"),
        (lambda env: env.reset(options={"low": 0}), perilune.UsageError, "options"),
        (lambda env: env.step(2), perilune.UsageError, "allowed: 0 or 1|allowed: 0 .. 1|2"),
        (lambda env: env.step(np.zeros(2, int)), perilune.UsageError, "action .* of shape"),
        (lambda env: env.step(None), TypeError, "action"),
        (lambda env: env.render(), perilune.Error, "does not draw"),
    ],
)
def test_wrong_arguments(wrong, error, text):
    env = perilune.Env("CartPole-v1")
    env.reset(seed=1)
    before = env.get_state()
    with pytest.raises(error, match=text):
        wrong(env)
    np.testing.assert_array_equal(env.get_state(), before)


def test_calls_at_wrong_times():
    env = perilune.Env("CartPole-v1", max_episode_steps=1)
    with pytest.raises(perilune.UsageError, match="reset"):
        env.step(0)
    env.reset(seed=1)
    env.step(0)
    with pytest.raises(perilune.UsageError, match="reset"):
        env.step(0)
    env.close()
    env.close()
    with pytest.raises(perilune.Error, match="closed"):
        env.step(0)


def test_what_make_cannot_do_is_said():
    with pytest.raises(perilune.UsageError, match="render_mode"):
        perilune.Env("CartPole-v1", render_mode="human")
    with pytest.raises(perilune.UsageError, match="gravity"):
        gymnasium.make("perilune/LunarLander-v3", gravity=1.0)
    # Stable-Baselines3 asks for pictures first, and does without where that is a TypeError.
    with pytest.raises(TypeError, match="render_mode 'rgb_array'"):
        gymnasium.make("perilune/CartPole-v1", render_mode="rgb_array")
    with pytest.raises(perilune.UsageError, match="unknown"):
        perilune.Env("CartPole-v9")


def test_stable_baselines_by_the_id():
    pytest.importorskip(
        "stable_baselines3", reason="not in build/venv (3 GB with torch): build/venv/bin/pip install stable-baselines3"
    )
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    envs = make_vec_env("perilune/CartPole-v1", n_envs=4, seed=1)
    assert envs.reset().shape == (4, 4)
    envs.close()
    PPO("MlpPolicy", "perilune/CartPole-v1", n_steps=64, batch_size=64, device="cpu").learn(128)
