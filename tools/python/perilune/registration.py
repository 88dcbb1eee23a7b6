"""Tells Gymnasium of the environments, as perilune/<id>, without importing Gymnasium.

Gymnasium 1.x asks no installed package for environments: they are registered when both packages have been imported,
whichever comes first. Gymnasium before 1.0 calls register_plugin, the package's entry point.
"""

import sys

from perilune import _native

NAMESPACE = "perilune"


def _register(prefix):
    from gymnasium.envs.registration import register, registry

    for environment in _native.environments():
        if f"{NAMESPACE}/{environment['id']}" in registry:
            continue
        register(
            id=prefix + environment["id"],
            entry_point="perilune.single:without_limit",
            vector_entry_point="perilune.vector:VectorEnv",
            reward_threshold=environment["solved_return"],
            max_episode_steps=environment["max_episode_steps"],
            kwargs={"env_id": environment["id"]},
        )


def register_plugin():
    """The entry point `gymnasium.envs`: Gymnasium calls it inside the namespace."""
    _register("")


class _AfterGymnasium:
    """Finds nothing itself: registers the environments once the import of Gymnasium that it sees has ended."""

    def find_spec(self, name, path=None, target=None):
        if name != "gymnasium":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                _register(NAMESPACE + "/")

            spec.loader.exec_module = execute_and_register
        return spec


def register_when_possible():
    """Registers now if Gymnasium has been imported, else as soon as it is."""
    if "gymnasium" in sys.modules:
        _register(NAMESPACE + "/")
    else:
        sys.meta_path.insert(0, _AfterGymnasium())
