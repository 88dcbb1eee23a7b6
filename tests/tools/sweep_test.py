"""`perilune sweep`: every combination with every seed, one table, and the same runs as `train` makes."""

import json

USAGE, FAILED = 2, 1


def sweep(perilune, short, *arguments):
    return perilune.json("sweep", "cartpole", *short[4:], *arguments)


def test_grid_of_two_keys(perilune, short):
    result = sweep(
        perilune,
        short,
        "--set",
        "learning_rate=1e-3,2e-3",
        "--set",
        "hidden_sizes=16|32,32",
        "--seeds",
        "3",
        "--output",
        "table.json",
        "--keep",
        "kept",
    )
    assert result["varied"] == ["learning_rate", "hidden_sizes"]
    assert [row["settings"] for row in result["rows"]] == [
        {"learning_rate": rate, "hidden_sizes": sizes} for rate in ("1e-3", "2e-3") for sizes in ("16", "32,32")
    ]
    assert json.loads((perilune.directory / "table.json").read_text()) == result
    for row in result["rows"]:
        means = [seed["mean"] for seed in row["seeds"]]
        assert [seed["seed"] for seed in row["seeds"]] == [1, 2, 3] and row["runs"] == 3 and row["failed"] == []
        assert abs(row["mean"] - sum(means) / 3) < 1e-9 and row["worst"] == min(means)
        assert row["median_steps"] == 5120 and row["median_seconds"] > 0
        # What was kept is a run like any other, with these settings, and scores what the table says.
        seed = row["seeds"][1]
        again = perilune.json(
            "train",
            *short,
            "--seed",
            "2",
            "--set",
            f"learning_rate={row['settings']['learning_rate']}",
            "--set",
            f"hidden_sizes={row['settings']['hidden_sizes']}",
        )
        assert again["eval"]["mean"] == seed["mean"]
        assert (perilune.directory / seed["run_dir"] / "policy.safetensors").exists()


def test_table_in_words(perilune, short):
    done = perilune.good("sweep", *short[4:], "--set", "gamma=0.9,0.99", "--seeds", "4,9", "--jobs", "2")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["gamma", "solved", "mean"] and [line.split()[0] for line in lines[1:]] == [
        "0.9",
        "0.99",
    ]
    assert "[4/4]" in done.stderr and "seed 9" in done.stderr
    assert list(perilune.directory.iterdir()) == []


def test_a_run_that_fails_is_told_and_the_others_go_on(perilune, short):
    done = perilune.run(
        "sweep",
        *short[4:],
        "--set",
        "learning_rate=1e-3,1",
        "--set",
        "max_grad_norm=0",
        "--set",
        "update_epochs=40",
        "--set",
        "activation=relu",
        "--seeds",
        "1",
        "--json",
        "--set",
        "total_timesteps=50000",
        "--set",
        "adam_epsilon=1e-12",
    )
    rows = json.loads(done.stdout)["rows"]
    assert rows[0]["runs"] == 1
    assert done.returncode == (FAILED if rows[1]["failed"] else 0)


def test_bad_input(perilune, short):
    for arguments, words in [
        (["--set", "gamma=0.9,2"], ["gamma", "'2'", "0 .. 1"]),
        (["--set", "gama=0.9,0.99"], ["unknown key", "gamma"]),
        (["--set", "seed=1,2"], ["seed", "--seeds"]),
        (["--seeds", "0"], ["--seeds", "'0'"]),
        (["--seeds", "1,x"], ["--seeds", "'x'"]),
        (["--jobs", "0"], ["--jobs", "'0'"]),
        (["--set", "num_minibatches=1,7"], ["num_minibatches = 7", "not divisible"]),
    ]:
        perilune.fails(USAGE, *words, arguments=["sweep", *short[4:], *arguments])
    (perilune.directory / "full").mkdir()
    (perilune.directory / "full" / "file").write_text("mine")
    perilune.fails(USAGE, "--keep", "not empty", arguments=["sweep", *short[4:], "--keep", "full"])
    perilune.fails(
        FAILED,
        "missing",
        "No such file",
        arguments=["sweep", *short[4:], "--seeds", "1", "--jobs", "1", "--output", "missing/table.json"],
    )
