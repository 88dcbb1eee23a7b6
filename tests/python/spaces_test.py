"""Registration and spaces: Gymnasium knows the environments, and they look like its own."""

import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import namespace, registry
from gymnasium.vector import AutoresetMode

import perilune
from common import NEEDS_PROGRAM, PACKAGE, PROGRAM

IDS = list(perilune.environments())
# Whose spaces Gymnasium says, of environments that it lacks.
SPACES_OF = {
    "Lander-v0": ("LunarLander-v3", {}),
    "LanderContinuous-v0": ("LunarLander-v3", {"continuous": True}),
    "LunarLanderContinuous-v3": ("LunarLander-v3", {"continuous": True}),
}


def python(code, **environment):
    """Runs a Python of its own; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(PACKAGE), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("env_id", IDS)
def test_spaces_are_gymnasiums(make, env_id):
    reference_id, options = SPACES_OF.get(env_id, (env_id, {}))
    if reference_id not in registry:
        pytest.skip(f"Gymnasium has no {reference_id}")
    reference = gymnasium.make(reference_id, **options)
    envs = make(f"perilune/{env_id}", num_envs=3)
    assert envs.single_observation_space == reference.observation_space
    assert envs.single_action_space == reference.action_space
    assert envs.observation_space == gymnasium.vector.utils.batch_space(reference.observation_space, 3)
    assert envs.action_space == gymnasium.vector.utils.batch_space(reference.action_space, 3)
    assert envs.spec.id == f"perilune/{env_id}" and envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    if env_id in registry:
        assert envs.spec.max_episode_steps == registry[env_id].max_episode_steps
        assert envs.spec.reward_threshold == registry[env_id].reward_threshold
    observations, infos = envs.reset(seed=1)
    assert observations in envs.observation_space and infos == {}
    reference.close()


@pytest.mark.parametrize(
    "order",
    [
        "import gymnasium, perilune",
        "import perilune, gymnasium",
        "import perilune; from gymnasium.envs.registration import registry; import gymnasium",
    ],
)
def test_registered_in_any_order_of_imports(order):
    print(python(f"{order}\nenvs = gymnasium.make_vec('perilune/CartPole-v1', num_envs=2)\nenvs.reset(seed=1)"))


def test_an_import_by_the_id_registers():
    python("import gymnasium; gymnasium.make_vec('perilune:perilune/CartPole-v1', num_envs=2).reset(seed=1)")


def test_entry_point_registers_in_its_namespace():
    from importlib.metadata import distribution

    entries = distribution("perilune").entry_points.select(group="gymnasium.envs")
    assert [entry.name for entry in entries] == ["perilune"]
    saved = {name: registry.pop(name) for name in list(registry) if name.startswith("perilune/")}
    try:
        with namespace("perilune"):
            next(iter(entries)).load()()
        assert {name for name in registry if name.startswith("perilune/")} == {f"perilune/{env_id}" for env_id in IDS}
    finally:
        registry.update(saved)


def test_import_is_light():
    """Neither Gymnasium nor what training and wrappers need is imported until it is used."""
    heavy = python(
        "import perilune, sys; print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'gymnasium', 'torch', 'tqdm', 'stable_baselines3', 'matplotlib', 'tensorboard', 'onnx'}))"
    )
    assert heavy == "[]"


@NEEDS_PROGRAM
def test_version_is_the_programs():
    program = subprocess.run([PROGRAM, "info", "--json"], capture_output=True, text=True, check=True)
    assert f'"version": "{perilune.__version__}"' in program.stdout
    from importlib.metadata import version

    assert version("perilune") == perilune.__version__


def test_environment_parameters_are_keywords(make):
    envs = make(num_envs=3, sutton_barto_reward=True, max_episode_steps=7)
    envs.reset(seed=1)
    *_, rewards, terminated, truncated, _ = envs.step(np.ones(3, int))
    assert not rewards.any() and not terminated.any() and not truncated.any()
    for _ in range(6):
        _, rewards, terminated, truncated, _ = envs.step(np.array([0, 1, 0]))
    assert truncated[1]
    with pytest.raises(perilune.UsageError, match="sutton_barto_rewards"):
        make(num_envs=3, sutton_barto_rewards=True)
    with pytest.raises(TypeError, match="sutton_barto_reward = 'yes' is not a boolean - allowed: True, False"):
        make(num_envs=3, sutton_barto_reward="yes")


def test_render_modes_are_refused(make):
    with pytest.raises(perilune.UsageError, match="render_mode 'rgb_array' is not possible - allowed: None"):
        make(num_envs=1, render_mode="rgb_array")
    with pytest.raises(perilune.Error, match="does not draw"):
        make(num_envs=1).render()
