"""Landers under pilots, weather and states that nobody would wish them: nothing turns into NaN or infinity, nothing
falls through the ground, no episode outlives its limit.

PERILUNE_ADVERSARIAL_STEPS: environment steps in all (100 million take some minutes); some hundred thousand if unset.
"""

import os

import numpy as np
import pytest

import perilune

STEPS = int(float(os.environ.get("PERILUNE_ADVERSARIAL_STEPS", "6e5")))
ENVIRONMENTS = 512

STORM = {"enable_wind": True, "wind_power": 1000.0, "turbulence_power": -100.0}
CHAOS = {"enable_wind": True, "wind_power": -1e30, "turbulence_power": 1e30}
WEATHER = [
    {},
    {"gravity": -11.9999999999, "enable_wind": True, "wind_power": 20.0, "turbulence_power": 2.0},  # -12 in float32
    {"gravity": -1e-300, "enable_wind": True, "wind_power": -20.0, "turbulence_power": -2.0},
    {"gravity": -11.9995, **STORM},
    {"gravity": -0.0001, **STORM},
    {**CHAOS},
]
LANDERS = [
    ("LunarLander-v3", {"fast_solver": False}),
    ("LunarLander-v3", {"fast_solver": True}),
    ("LunarLanderContinuous-v3", {"fast_solver": False}),
    ("Lander-v0", {}),
    ("LanderContinuous-v0", {}),
]
CASES = [(env_id, {**solver, **weather}) for env_id, solver in LANDERS for weather in WEATHER]


def pilots(envs, rng):
    """An endless row of actions [N]: a quarter of the environments each is flown at random, with one action that
    changes now and then, with full thrust, and with none."""
    n = envs.num_envs
    continuous = hasattr(envs.single_action_space, "shape") and envs.single_action_space.shape == (2,)
    stubborn = None
    for t in range(10**9):
        some = rng.uniform(-1.5, 1.5, (n, 2)).astype(np.float32) if continuous else rng.integers(0, 4, n)
        if t % 50 == 0:
            stubborn = some.copy()
        actions = some.copy()
        actions[n // 4 : n // 2] = stubborn[n // 4 : n // 2]
        actions[n // 2 : 3 * n // 4] = [1.0, 1.0] if continuous else 2
        actions[3 * n // 4 :] = [-1.0, 0.0] if continuous else 0
        yield actions


def ground(state, x):
    """The ground's height [N] at x [N], flat beyond its ends."""
    heights = np.stack([state[f"height{i}"] for i in range(11)], axis=1)
    place = np.clip(x / 2, 0, 9.999)
    i, rows = place.astype(int), np.arange(len(state))
    return heights[rows, i] + (place - i) * (heights[rows, i + 1] - heights[rows, i])


def damaged(state, rng):
    """The state with fields scaled, shifted and swapped for each other's values."""
    state = state.copy()
    names = [name for name in state.dtype.names if state.dtype[name] == np.float32 and name != "episode_return"]
    for name in rng.choice(names, 6, replace=False):
        kind = rng.integers(3)
        if kind == 0:
            state[name] *= rng.normal(1, 2, len(state)).astype(np.float32)
        elif kind == 1:
            state[name] += rng.normal(0, 3, len(state)).astype(np.float32)
        else:
            state[name] = rng.permutation(state[names[rng.integers(len(names))]])
    return state


@pytest.mark.filterwarnings("ignore:.*than Gymnasium advises")
@pytest.mark.parametrize("env_id, parameters", CASES)
def test_nothing_breaks(env_id, parameters):
    rng = np.random.default_rng([len(env_id), *(int(1000 * abs(value)) % 2**32 for value in parameters.values())])
    envs = perilune.VectorEnv(env_id, ENVIRONMENTS, autoreset_mode="SameStep", **parameters)
    envs.reset(seed=int(rng.integers(2**31)))
    hull = ("hull_x", "hull_y") if "hull_x" in envs.get_state().dtype.names else ("x", "y")
    flown, tampered = np.zeros(ENVIRONMENTS, int), np.zeros(ENVIRONMENTS, bool)
    some_ended = False
    actions = pilots(envs, rng)
    for t in range(max(STEPS // len(CASES) // ENVIRONMENTS, 10)):
        observations, rewards, terminated, truncated, _ = envs.step(next(actions))
        assert np.isfinite(observations).all() and np.isfinite(rewards).all(), t
        ended = terminated | truncated
        flown = np.where(ended, 0, flown + 1)
        tampered &= ~ended
        some_ended |= bool(ended.any())
        assert flown.max() < 1000
        if t % 20 == 19:
            state = envs.get_state()
            assert all(
                np.isfinite(state[name]).all() for name in state.dtype.names if state.dtype[name] == np.float32
            ), t
            x, y = state[hull[0]], state[hull[1]]
            inside = ~tampered & (x > 0.5) & (x < 19.5)
            assert (y[inside] > ground(state, x)[inside] - 0.1).all(), t
        if t % 100 == 99:
            chosen = rng.choice(ENVIRONMENTS, 16, replace=False)
            tampered[chosen] = True
            observations = envs.set_state(damaged(envs.get_state(chosen), rng), chosen)
            assert np.isfinite(observations).all()
    assert some_ended or t < 200
    envs.close()
