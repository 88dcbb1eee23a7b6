"""`perilune profile`: the table, the JSON, predictions, and what it refuses."""

import os

import pytest

USAGE = 2
SMALL = ["--device", "cpu", "--threads", "1", "--iterations", "3"]
for setting in (
    "num_envs=64",
    "num_steps=16",
    "update_epochs=2",
    "num_minibatches=2",
    "hidden_width=32",
    "precision=fp32",
):
    SMALL += ["--set", setting]
PHASES = ["rollout", "gae", "gradient", "reduce", "apply"]
# 2 networks of 4-32-32-2 and 4-32-32-1: weights and biases.
PARAMETERS = (4 * 32 + 32) + (32 * 32 + 32) + (32 * 2 + 2) + (4 * 32 + 32) + (32 * 32 + 32) + (32 + 1)


def test_json(perilune):
    result = perilune.json("profile", *SMALL)
    assert result["measured"] is True and result["iterations"] == 3 and result["env"] == "CartPole-v1"
    assert result["device"].startswith("cpu ") and result["precision"] == "fp32"
    assert result["flop_per_step"] == PARAMETERS * (2 + 2 * 6)
    peak = result["peak"]
    assert peak["flops"]["fp32"] > 1e9 and peak["bytes_per_second"] > 1e8 and peak["processors"] == 1
    phases = {row["phase"]: row for row in result["phases"]}
    assert list(phases) == PHASES
    samples = 64 * 16
    assert phases["rollout"]["flop"] == 2 * PARAMETERS * samples
    assert phases["gradient"]["flop"] == 6 * PARAMETERS * samples * 2
    assert phases["rollout"]["tanh"] == 4 * 32 * samples
    assert [phases[name]["count"] for name in PHASES] == [1, 1, 4, 4, 4]
    for row in phases.values():
        assert 0 < row["seconds"] < 10 and row["predicted_seconds"] > 0 and row["bound"]
        assert row["share"] == pytest.approx(row["seconds"] / result["seconds_per_iteration"]["marked"])
        assert row["bytes_per_second"] == pytest.approx(row["bytes"] / row["seconds"])
    assert phases["gradient"]["flops"] == pytest.approx(phases["gradient"]["flop"] / phases["gradient"]["seconds"])
    seconds = result["seconds_per_iteration"]
    parts = phases["rollout"]["seconds"] + phases["gae"]["seconds"] + result["update_seconds"]
    assert 0.5 * seconds["marked"] < parts < seconds["marked"]
    inner = sum(phases[name]["seconds"] for name in ("gradient", "reduce", "apply"))
    assert 0.5 * result["update_seconds"] < inner < result["update_seconds"]
    assert seconds["graph"] is None and seconds["plain"] > 0
    assert result["counters"]
    assert list(perilune.directory.iterdir()) == []  # no run directory, no report


def test_commands_repeat_the_settings(perilune):
    commands = perilune.json("profile", "cartpole-zoo", "--device", "cpu", "--iterations", "1", "--set", "num_envs=8")[
        "commands"
    ]
    for line in commands.values():
        assert "profile cartpole-zoo --device cuda --set num_envs=8 --iterations 1" in line
    assert "--cuda-graph-trace=node" in commands["nsys"] and "-c cudaProfilerApi" in commands["nsys"]
    assert '--nvtx-include "perilune@update/"' in commands["ncu"] and "--set full" in commands["ncu"]
    assert "--profile-from-start off" in commands["ncu"]


def test_table(perilune):
    text = perilune.good("profile", *SMALL).stdout
    assert max(map(len, text.split("\nthe timeline")[0].splitlines())) <= 80, text
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:1] == ["phase"])
    names = [line.split()[0] for line in lines[head + 1 : head + 10]]
    assert "peak" in lines[head] and "model" in lines[head]
    assert names == ["rollout", "gae", "update", "gradient", "reduce", "apply", "rest", "rest", "iteration"]
    assert "nsys profile" in text and "ncu " in text and "steps/s" in text and "timing its phases" in text
    assert "cycle" in text  # counted, or why not


def test_separate_iterations(perilune):
    """Policy and value iterations apart: each trains one network."""
    result = perilune.json(
        "profile",
        "cartpole-spinup",
        "--device",
        "cpu",
        "--iterations",
        "1",
        "--set",
        "num_steps=200",
        "--set",
        "policy_iterations=3",
        "--set",
        "value_iterations=2",
    )
    phases = {row["phase"]: row for row in result["phases"]}
    assert phases["gradient"]["count"] == 5
    model = result["flop_per_step"]
    assert phases["rollout"]["flop"] + phases["gradient"]["flop"] == model * 200


def test_prediction(perilune):
    arguments = ["profile", "--predict", "h200", "--set", "hidden_width=64", "--set", "num_steps=128"]
    rates = {}
    for precision in ("fp32", "tf32", "bf16"):
        for envs in (4096, 65536):
            result = perilune.json(*arguments, "--set", f"num_envs={envs}", "--set", f"precision={precision}")
            assert result["measured"] is False and result["device"] == "h200" and result["precision"] == precision
            assert all(row["seconds"] is None for row in result["phases"])
            seconds = result["seconds_per_iteration"]["predicted"]
            assert seconds == pytest.approx(sum(row["predicted_seconds"] for row in result["phases"]))
            rates[precision, envs] = result["steps_per_iteration"] / seconds
            if precision == "fp32":  # 238 kFLOP a step and 67 TFLOP/s: no prediction may be beyond
                assert rates[precision, envs] * result["flop_per_step"] <= result["peak"]["flops"]["fp32"]
        assert rates[precision, 65536] > rates[precision, 4096]  # more environments fill it better
    for envs in (4096, 65536):
        assert rates["bf16", envs] >= rates["tf32", envs] > rates["fp32", envs]
    text = perilune.good(*arguments, "--set", "num_envs=4096").stdout
    assert "nothing was run" in text and "nsys" not in text


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["cartpol"], ["unknown preset", "'cartpol'", "did you mean cartpole?"]),
        (["--iterations", "0"], ["--iterations", "'0'", "1 .. "]),
        (["--iterations", "many"], ["--iterations", "'many'"]),
        (["--graph", "on"], ["--graph on", "allowed: off", "leave it out"]),
        (["--graph", "maybe"], ["--graph", "'maybe'"]),
        (["--predict", "h20"], ["--predict", "'h20'", "a100", "did you mean h200?"]),
        (["--predict", "h200", "--threads", "2"], ["--predict", "--threads"]),
        (["--set", "hidden_width=48", "--set", "fused=true"], ["48, 48", "16 or 32 or 64 or 128"]),
        (["--set", "num_env=48"], ["unknown key", "num_envs"]),
        (["--iteration", "3"], ["unknown option", "--iterations"]),
        (["--seed", "3"], ["unknown option", "'--seed'"]),
    ],
)
def test_refuses(perilune, arguments, words):
    perilune.fails(USAGE, *words, arguments=["profile", *arguments])


@pytest.mark.skipif(os.environ.get("PERILUNE_HAS_CUDA") == "1" and os.path.exists("/dev/nvidia0"), reason="has a GPU")
def test_cuda_without_a_gpu(perilune):
    perilune.fails(3, "--device cuda", arguments=["profile", "--device", "cuda"])
