"""What the tests of the Python package share. The package is the one of the build directory: of its environment, if
that is what runs the tests, and otherwise of its folder python (tests/support/install_python, tools/build-wheel
--test)."""

import os
import sys
from pathlib import Path

import pytest

BUILD = Path(os.environ["PERILUNE_BUILD_DIR"])
if not Path(sys.prefix).is_relative_to(BUILD):
    sys.path.insert(0, str(BUILD / "python"))
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
import perilune  # noqa: E402
import short_run  # noqa: E402

assert Path(perilune.__file__).is_relative_to(BUILD), f"{perilune.__file__} is not of this build - run tools/test"

# Arguments that make a run short.
SHORT = {**short_run.SETTINGS, "device": "cpu", "threads": 1, "quiet": True}


@pytest.fixture
def short(tmp_path):
    """Arguments of train() for a short run in a directory of its own."""
    return {**SHORT, "run_dir": tmp_path / "run"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A CartPole run that was trained until it was solved."""
    return perilune.train(
        "cartpole", seed=1, device="cpu", quiet=True, run_dir=tmp_path_factory.mktemp("trained") / "run"
    )


@pytest.fixture
def make():
    """make_vec that closes what it made."""
    import gymnasium  # tests of GPUs need none

    made = []

    def make_vec(env_id="perilune/CartPole-v1", **options):
        made.append(gymnasium.make_vec(env_id, **options))
        return made[-1]

    yield make_vec
    for envs in made:
        envs.close()
