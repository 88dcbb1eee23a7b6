"""What compilers say of a simulator that is none."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(os.environ["PERILUNE_SOURCE_DIR"])
SENTENCE = "an environment may be one of several in a SIMD register: choose with select(mask, a, b), not with if"
COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name}"))
    for name in ("g++", "clang++")
]

# CartPole, with a step that also does what stands for HERE.
SIMULATOR = """#include <algorithm>
#include "sims/cartpole.hpp"
namespace perilune::inline PERILUNE_LEVEL {
struct Mine : CartPole {
  template <class Real, class Rng>
  static Outcome<Real> step(const Params& params, State<Real>& state, UInt<Real> action, Rng& rng) {
    Outcome<Real> outcome = CartPole::step(params, state, action, rng);
    HERE
    return outcome;
  }
};
static_assert(Env<Mine>);
}
"""
LINE_OF_HERE = 8


@pytest.fixture
def errors(tmp_path):
    def compile_with(compiler, here, simulator=SIMULATOR):
        source = tmp_path / "mine.cpp"
        source.write_text(simulator.replace("HERE", here))
        done = subprocess.run(
            [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", ROOT, source],
            capture_output=True,
            text=True,
        )
        return done.stderr if done.returncode else ""

    return compile_with


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "here",
    [
        "if (state.position > Real(1.0f)) outcome.reward = Real(0.0f);",
        "while (state.position < Real(1.0f)) state.position = state.position + Real(1.0f);",
        "outcome.reward = state.position > Real(0.0f) ? outcome.reward : state.angle;",
        "outcome.reward = std::max(outcome.reward, state.angle);",
        "if (action == UInt<Real>(1u)) outcome.reward = Real(0.0f);",
        "const bool far = state.position > Real(1.0f); outcome.reward = Real(far ? 1.0f : 0.0f);",
    ],
    ids=["if", "while", "conditional", "std_max", "action", "bool"],
)
def test_a_choice_for_all_lanes_is_refused_where_the_simulator_is_declared_one(errors, compiler, here):
    said = errors(compiler, here)
    assert said.count("error:") == 1 and SENTENCE in said, said
    assert "Mine::step" in said, said
    assert f"mine.cpp:{LINE_OF_HERE}:" in said or "std::max" in here, said  # clang then names a line of std::max
    assert not errors(compiler, here, SIMULATOR.replace("static_assert(Env<Mine>);", ""))


@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_a_simulator_may_do(errors, compiler):
    assert not errors(
        compiler,
        """
    outcome.reward = select(state.position > Real(1.0f), Real(0.0f), outcome.reward);
    outcome.reward = max(outcome.reward, state.angle) + 0.5f * math::sin(state.angle);
    if (any(state.angle > Real(1.0f))) outcome.reward = outcome.reward + to_real<Real>(action);
    if (params.sutton_barto_reward) outcome.reward = -outcome.reward;""",
    )


@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_a_description_lacks_is_named(errors, compiler):
    lacks = SIMULATOR.replace("Mine : CartPole {", "Mine : CartPole {\n  static constexpr int kObsDim = 5;")
    assert "kObsDim" in errors(compiler, "", lacks)
