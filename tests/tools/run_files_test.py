"""The files of a run directory, read with the packages that people read them with."""

import itertools
import json
import math

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

TAGS = {
    "charts/episodic_return",
    "charts/episodic_length",
    "charts/learning_rate",
    "charts/SPS",
    "losses/value_loss",
    "losses/policy_loss",
    "losses/entropy",
    "losses/old_approx_kl",
    "losses/approx_kl",
    "losses/clipfrac",
    "losses/explained_variance",
}


def rows_of(run):
    """The rows of iterations, and those of evaluations."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [[row for row in rows if ("eval/mean_return" in row) == evaluated] for evaluated in (False, True)]


@pytest.fixture
def run(perilune, short):
    perilune.good("train", *short, "--run-dir", "run", "--set", "eval_every=5")
    return perilune.directory / "run"


def test_files(run):
    names = {path.name.split(".")[0] for path in run.iterdir() if not path.name.startswith(".")}
    assert names >= {"config", "checkpoint", "policy", "metrics", "evaluation", "events"}


def test_metrics(run):
    rows, evaluations = rows_of(run)
    assert [row["iteration"] for row in rows] == list(range(1, 21))
    assert [row["step"] for row in rows] == list(range(256, 5121, 256))
    assert all(set(row) >= TAGS for row in rows)
    assert [(row["iteration"], row["step"], row["eval/episodes"]) for row in evaluations] == [
        (5, 1280, 10),
        (10, 2560, 10),
        (15, 3840, 10),
        (20, 5120, 100),
    ]
    saved = json.loads((run / "evaluation.json").read_text())["eval"]
    assert [evaluations[-1][f"eval/{name}"] for name in ("mean_return", "std_return", "mean_length", "episodes")] == [
        pytest.approx(saved[name], rel=1e-6) for name in ("mean", "std", "mean_length", "episodes")
    ]
    assert all(row["losses/entropy"] <= math.log(2) + 1e-6 for row in rows)


def test_tensorboard(run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    assert set(events.Tags()["scalars"]) >= TAGS
    for rows, tag in zip(rows_of(run), ("losses/value_loss", "eval/mean_return"), strict=True):
        scalars = events.Scalars(tag)
        assert [s.step for s in scalars] == [row["step"] for row in rows]
        np.testing.assert_allclose([s.value for s in scalars], [row[tag] for row in rows], rtol=1e-6)


@pytest.mark.parametrize("hidden", [[32], [32, 32], [32, 32, 32], [7, 33, 5], [3] * 8])
def test_policy_is_named_as_a_pytorch_sequential(perilune, short, hidden):
    perilune.good("train", *short, "--run-dir", "run", "--set", f"hidden_sizes={hidden}")
    tensors = load_file(perilune.directory / "run" / "policy.safetensors")
    sizes = [4, *hidden]
    expected = {}
    for network, outputs in (("actor", 2), ("critic", 1)):
        for layer, (inputs, out) in enumerate(itertools.pairwise([*sizes, outputs])):
            expected[f"{network}.{2 * layer}.weight"] = (out, inputs)
            expected[f"{network}.{2 * layer}.bias"] = (out,)
    assert {name: tensor.shape for name, tensor in tensors.items()} == expected
    assert all(tensor.dtype == np.float32 and np.isfinite(tensor).all() for tensor in tensors.values())


def test_checkpoint_holds_the_policy_and_more(run):
    policy, checkpoint = load_file(run / "policy.safetensors"), load_file(run / "checkpoint.safetensors")
    assert set(checkpoint) > set(policy)
    assert all(np.array_equal(checkpoint[name], policy[name]) for name in policy)
    with safe_open(run / "checkpoint.safetensors", "np") as file:
        metadata = file.metadata()
    assert metadata["config"] == (run / "config.toml").read_text()
    assert int(metadata["format_version"]) >= 1


def test_evaluation(run):
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["env"] == "CartPole-v1" and evaluation["eval"]["episodes"] == 100
