"""Perilune: batched reinforcement-learning simulators and a PPO trainer, for GPUs and CPUs.

    envs = gymnasium.make_vec("perilune/CartPole-v1", num_envs=4096)      # a gymnasium.vector.VectorEnv
    env = gymnasium.make("perilune/CartPole-v1")                          # a gymnasium.Env
    run = perilune.train("cartpole", seed=1)                              # curves, evaluation, policy, run directory
    policy = perilune.load(run.run_dir); actions = policy(observations)

Gymnasium, Stable-Baselines3 and PyTorch are not needed and never imported by `import perilune`; environments are
registered with Gymnasium whichever of the two is imported first.

An argument of the wrong kind is a TypeError and one that is not possible a UsageError (a ValueError); both name it and
say what is allowed. Integers are Python's, NumPy's and arrays of no dimensions; booleans are no integers.
"""

from perilune import registration
from perilune._native import DeviceArray, Error, NoDeviceError, OutOfMemoryError, UsageError, version
from perilune.catalog import environments, info, keys, presets
from perilune.evaluation import Evaluation
from perilune.policy import Policy, import_policy, load
from perilune.replays import replay
from perilune.training import Best, Run, evaluate, train

__version__ = version()

__all__ = [
    "Best",
    "DeviceArray",
    "Env",
    "Error",
    "Evaluation",
    "NoDeviceError",
    "OutOfMemoryError",
    "Policy",
    "Run",
    "UsageError",
    "VectorEnv",
    "environments",
    "evaluate",
    "import_policy",
    "info",
    "keys",
    "load",
    "presets",
    "replay",
    "train",
]


def __getattr__(name):
    if name == "VectorEnv":  # this and Env are the only names that need Gymnasium
        from perilune.vector import VectorEnv

        return VectorEnv
    if name == "Env":
        from perilune.single import Env

        return Env
    raise AttributeError(f"module 'perilune' has no attribute {name!r}")


registration.register_when_possible()
