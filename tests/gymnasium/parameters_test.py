"""The landers' parameters are Gymnasium's: what it takes and refuses, what it warns of, and how it flies with them."""

import warnings
from functools import partial

import numpy as np
import pytest
from gymnasium.envs.box2d.lunar_lander import LunarLander

perilune = pytest.importorskip("perilune", reason="the Python module is not built (tools/setup --tests)")
from real_environments import real_landers  # noqa: E402

LANDERS = ["LunarLander-v3", "LunarLanderContinuous-v3", "Lander-v0", "LanderContinuous-v0"]
VALUES = {
    "gravity": [-12.5, -12.0, np.nextafter(-12.0, 0), -11.9995, -10, -1e-4, -1e-300, -0.0, 0.0, 1.0],
    "wind_power": [-1e30, -1000.0, -5, -1e-9, 0.0, 20, np.nextafter(20.0, 21), 25.0, 1001.0, 1e30],
    "turbulence_power": [-1e30, -1.0, -1e-9, 0, 2.0, np.nextafter(2.0, 3), 101.0, 1e30],
}


def verdict(make, warned):
    """Whether it is "refused", taken with a "warning" or "taken"; and the text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            make()
        except (AssertionError, perilune.UsageError) as error:
            return "refused", str(error)
    texts = [str(warning.message) for warning in caught if warned in str(warning.message)]
    return ("warning", texts[0]) if texts else ("taken", "")


@pytest.mark.parametrize("env_id", LANDERS)
def test_gymnasium_takes_refuses_and_warns_of_the_same(env_id):
    for name, values in VALUES.items():
        seen = set()
        for value in values:
            options = {"enable_wind": True, name: value}
            theirs, _ = verdict(partial(LunarLander, **options), f"{name} value is recommended")
            ours, text = verdict(partial(perilune.VectorEnv, env_id, 1, **options), f"env.{name} = ")
            assert ours == theirs, (name, value, text)
            if ours == "refused":
                assert f"env.{name} = " in text and "allowed: above -12 and below 0" in text
            if ours == "warning":
                assert "more than Gymnasium advises" in text if value > 0 else "less than Gymnasium advises" in text
            seen.add(ours)
        assert seen == ({"refused", "taken"} if name == "gravity" else {"warning", "taken"})


def test_what_float32_has_no_numbers_for_is_refused():
    """Box2D's bodies turn into NaN there."""
    for name in ("wind_power", "turbulence_power"):
        for value in (1e31, -1e39, float("inf"), float("nan")):
            with pytest.raises(perilune.UsageError, match=rf"env.{name} = .* - allowed: -1e\+30 .. 1e\+30"):
                perilune.VectorEnv("LunarLander-v3", 1, **{name: value})


# The simplified lander, whose legs do not swing, is within 5e-3 (units of the screen) on average in ordinary weather.
STORM = {"enable_wind": True, "wind_power": 101.0, "turbulence_power": -11.0}
FLIGHTS = [
    {"gravity": -11.9995},
    {"gravity": float(np.nextafter(-12.0, 0))},
    {"gravity": -1e-4},
    {"gravity": -1e-300},
    {"enable_wind": True, "wind_power": -15.0, "turbulence_power": -1.5},
    {"enable_wind": True, "wind_power": -5.0, "turbulence_power": 2.5, "gravity": -11.9995},
    STORM,
]
STEPS = 30  # less than anything needs to the ground


@pytest.mark.filterwarnings("ignore:.*than Gymnasium advises", "ignore:.*value is recommended")
@pytest.mark.parametrize("parameters", FLIGHTS, ids=str)
@pytest.mark.parametrize("env_id", LANDERS)
def test_flies_as_gymnasium_does(env_id, parameters):
    """The first steps of the same episodes: the same draws, terrain and actions."""
    count, seed = 7, 12
    continuous = "Continuous" in env_id
    real = real_landers(continuous, range(count), seed, **parameters)
    envs = perilune.VectorEnv(env_id, count, autoreset_mode="Disabled", **parameters)
    rng = np.random.default_rng(5)
    theirs, (ours, _) = real.reset(), envs.reset(seed=seed)
    rewards = np.zeros((2, count))
    worst, alive = np.zeros(8), np.ones(count, bool)
    exact = env_id.startswith("Lunar")
    # Thirty steps of float32, in the order of operations of Box2D.
    limit = 1e-5 if exact else 5e-3 if parameters is not STORM else 5e-2
    for _ in range(STEPS):
        difference = np.abs(ours[alive] - theirs[alive])
        worst = np.maximum(worst, difference.max(axis=0) if exact else difference.mean(axis=0))
        actions = rng.uniform(-1, 1, (count, 2)).astype(np.float32) if continuous else rng.integers(0, 4, count)
        theirs, rewards[0], ended, _, _ = real.step(actions)
        ours, rewards[1], ended_here, _, _ = envs.step(actions)
        np.testing.assert_array_equal(ended_here[alive], ended[alive])
        if exact:  # differences of potentials of some hundreds, in float32
            np.testing.assert_allclose(rewards[1][alive], rewards[0][alive], atol=1e-3)
        alive &= ~ended
    assert alive.any()
    envs.close()
    assert (worst <= limit).all(), worst
