"""Where a setting comes from: preset, file, --set, --seed."""

import tomllib

import pytest


def config(perilune, *arguments):
    return tomllib.loads(perilune.good("train", "--print-config", *arguments).stdout)


def test_precedence(perilune):
    (perilune.directory / "mine.toml").write_text("gamma = 0.5\nnum_steps = 16\nseed = 5\n")
    assert config(perilune, "cartpole-zoo")["gamma"] == 0.98
    assert config(perilune, "cartpole-zoo", "--config", "mine.toml")["gamma"] == 0.5
    resolved = config(
        perilune,
        "--set",
        "gamma=0.25",
        "--config",
        "mine.toml",
        "--set",
        "gamma=0.75",
        "--seed",
        "9",
        "--set",
        "seed=8",
        "cartpole-zoo",
    )
    assert (resolved["gamma"], resolved["num_steps"], resolved["seed"]) == (0.75, 16, 9)


def test_of_hidden_sizes_and_hidden_width_the_later_counts(perilune):
    (perilune.directory / "mine.toml").write_text("hidden_sizes = [2048, 1536]\n")
    wide = config(perilune, "cartpole", "--config", "mine.toml")
    assert wide["hidden_sizes"] == [2048, 1536] and "hidden_width" not in wide
    narrow = config(perilune, "--config", "mine.toml", "--set", "hidden_width=32")
    assert (narrow["hidden_width"], narrow["hidden_layers"]) == (32, 2) and "hidden_sizes" not in narrow
    assert config(perilune, "--set", "hidden_width=32", "--set", "hidden_sizes=7")["hidden_sizes"] == [7]


def test_default_preset_is_cartpole(perilune):
    assert config(perilune) == config(perilune, "cartpole")


@pytest.mark.parametrize("preset", ["cartpole", "cartpole-zoo", "cartpole-cleanrl", "cartpole-spinup", "cartpole-td"])
def test_printed_configuration_reads_back_as_itself(perilune, preset):
    printed = perilune.good(
        "train", preset, "--print-config", "--set", "learning_rate=1.23456789e-5", "--seed", "4294967295"
    ).stdout
    (perilune.directory / "mine.toml").write_text(printed)
    assert perilune.good("train", "--config", "mine.toml", "--print-config").stdout == printed


def test_print_config_needs_no_gpu_and_makes_no_run(perilune):
    perilune.good("train", "--print-config", "--device", "cuda")
    assert list(perilune.directory.iterdir()) == []


def test_print_config_refuses_what_train_would(perilune):
    perilune.fails(2, "not divisible", arguments=["train", "--print-config", "--set", "num_minibatches=7"])


def test_run_directory_keeps_the_resolved_configuration(perilune, short):
    perilune.good("train", *short, "--seed", "11", "--run-dir", "run")
    written = (perilune.directory / "run" / "config.toml").read_text()
    assert perilune.good("train", "--resume", "run", "--print-config").stdout == written
    assert tomllib.loads(written)["seed"] == 11


def test_run_directory_keeps_the_precision_that_auto_chose(perilune, short):
    assert config(perilune)["precision"] == "auto"
    done = perilune.good("train", *short, "--run-dir", "run", "--device", "cpu")
    precision = tomllib.loads((perilune.directory / "run" / "config.toml").read_text())["precision"]
    assert precision in ("fp32", "bf16") and f", {precision} - " in done.stdout
    perilune.good("train", *short, "--run-dir", "asked", "--device", "cpu", "--set", "precision=fp32")
    path = perilune.directory / "asked" / "config.toml"
    assert tomllib.loads(path.read_text())["precision"] == "fp32"
    path.write_text(path.read_text().replace('"fp32"', '"tf32"'))
    perilune.fails(2, "precision tf32", "has fp32", arguments=["train", "--resume", "asked", "--device", "cpu"])


def test_fresh_run_directories(perilune, short):
    first, second = (perilune.json("train", *short)["run_dir"] for _ in range(2))
    assert first != second and first.startswith("runs/CartPole-v1__cartpole__1__")
