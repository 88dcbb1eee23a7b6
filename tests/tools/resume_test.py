"""Determinism and interrupted runs: same seed, same bytes, whatever the threads and however a run ended."""

import json
import os
import random
import resource
import signal
import subprocess
import time

import pytest

RUNS_KILLED = 50


def policy(perilune, run):
    return (perilune.directory / run / "policy.safetensors").read_bytes()


def steps_in(perilune, run):
    """Of the rows of iterations; evaluations have rows of their own."""
    rows = [json.loads(line) for line in (perilune.directory / run / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if "eval/mean_return" not in row]


def long_run(short):
    """Settings of a run that lasts until it is interrupted, with a checkpoint after every iteration."""
    return [*short, "--set", "total_timesteps=100000000", "--set", "checkpoint_every=1"]


def test_same_seed_same_bytes(perilune, short):
    for run in ("a", "b"):
        perilune.good("train", *short, "--run-dir", run)
    perilune.good("train", *short, "--run-dir", "other", "--seed", "2")
    assert policy(perilune, "a") == policy(perilune, "b") != policy(perilune, "other")


@pytest.mark.parametrize("networks", [[], ["--set", "hidden_sizes=300,260"]])
def test_threads_do_not_change_a_bit(perilune, short, networks):
    for threads in (1, 2, 3, 8):
        perilune.good("train", *short, *networks, "--run-dir", threads, "--threads", threads)
        assert policy(perilune, str(threads)) == policy(perilune, "1")


def after_a_moment():
    time.sleep(0.3)
    return True


def interrupt(perilune, arguments, when, signal_number=signal.SIGINT):
    """Starts a run, sends a signal once when() holds, and returns the completed process."""
    process = subprocess.Popen(
        perilune.command(*arguments),
        cwd=perilune.directory,
        env=perilune.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


WIDE = ["--set", "hidden_sizes=150,70"]


@pytest.mark.parametrize("networks, signal_number", [([], signal.SIGINT), ([], signal.SIGTERM), (WIDE, signal.SIGINT)])
def test_interrupted_run_goes_on_bit_for_bit(perilune, short, networks, signal_number):
    """N iterations = k + resume + N - k, with another number of threads, and the metrics of both are the same rows."""
    steps = 25600 if networks else 128000  # layer by layer is slower
    settings = [*short, *networks, "--set", f"total_timesteps={steps}", "--set", "checkpoint_every=20"]
    perilune.good("train", *settings, "--run-dir", "whole", "--threads", "1")
    checkpoint = perilune.directory / "parts" / "checkpoint.safetensors"
    done = interrupt(
        perilune, ["train", *settings, "--run-dir", "parts", "--threads", "2"], checkpoint.exists, signal_number
    )
    if done.returncode == 0:
        pytest.skip("the run ended before the signal came")
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("perilune: interrupted at step ") and "train --resume parts\n" in done.stderr
    assert done.stderr.count("\n") == 1
    interrupted_at = steps_in(perilune, "parts")[-1]
    assert 0 < interrupted_at < steps
    perilune.good("train", "--resume", "parts", "--threads", "3", "--device", "cpu")
    assert policy(perilune, "parts") == policy(perilune, "whole")
    assert steps_in(perilune, "parts") == steps_in(perilune, "whole") == list(range(256, steps + 1, 256))


def test_interrupted_with_json_prints_no_half_object(perilune, short):
    checkpoint = perilune.directory / "run" / "checkpoint.safetensors"
    done = interrupt(perilune, ["train", "--json", "--quiet", *long_run(short), "--run-dir", "run"], checkpoint.exists)
    assert (done.returncode, done.stdout) == (130, "")


def processor_seconds(process):
    """Of all its threads so far."""
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_second_interrupt_stops_at_once(perilune, short):
    """In the middle of an iteration that takes minutes."""
    process = subprocess.Popen(
        perilune.command(
            "train",
            *long_run(short),
            "--run-dir",
            "run",
            "--set",
            "num_envs=4096",
            "--set",
            "num_steps=64",
            "--set",
            "update_epochs=10000",
        ),
        cwd=perilune.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (perilune.directory / "run" / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    began = processor_seconds(process)
    while processor_seconds(process) < began + 1:  # in the first iteration, which takes hours
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - begin < 2
    assert "stopped at once" in err


def test_ignored_interrupt_stays_ignored(perilune, short):
    done = subprocess.run(
        [
            "sh",
            "-c",
            'trap "" INT; "$@" & child=$!; sleep 0.05; kill -INT $child; wait $child',
            "sh",
            *perilune.command("train", *short, "--run-dir", "run", "--set", "total_timesteps=200000"),
        ],
        cwd=perilune.directory,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_killed_at_any_moment_the_run_resumes(perilune, short):
    """One run, killed again and again: each time it goes on from a good checkpoint, and never loses one."""
    generator = random.Random(1)
    arguments = ["train", *long_run(short), "--run-dir", "run", "--quiet"]
    last = 0
    for _ in range(RUNS_KILLED):
        process = subprocess.Popen(
            perilune.command(*arguments),
            cwd=perilune.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(generator.uniform(0.0, 0.25))
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        if (perilune.directory / "run").exists():  # it appears complete or not at all
            arguments = ["train", "--resume", "run", "--quiet"]
        if (perilune.directory / "run" / "checkpoint.safetensors").exists():
            perilune.good("eval", "run", "--episodes", "1", "--device", "cpu")
    done = interrupt(perilune, arguments, after_a_moment)
    assert done.returncode == 130, done.stderr
    steps = steps_in(perilune, "run")
    assert steps == list(range(256, steps[-1] + 1, 256)) and steps[-1] > last
    assert not [p.name for p in (perilune.directory / "run").iterdir() if ".tmp" in p.name]


def test_resuming_a_finished_run_trains_nothing(perilune, short):
    perilune.good("train", *short, "--run-dir", "run")
    before = policy(perilune, "run")
    result = perilune.json("train", "--resume", "run")
    assert result["steps"] == 5120 and policy(perilune, "run") == before


def test_more_steps_for_a_run_that_had_ended(perilune, short):
    perilune.good("train", *short, "--run-dir", "run")
    done = perilune.good("train", "--resume", "run", "--set", "total_timesteps=10240", "--set", "ent_coef=0.02")
    for words in (
        "at step 5,120 of 10,240",
        "total_timesteps = 10240 from here on, 5120 before",
        "ent_coef = 0.02 from here on",
        "learning_rate: 0.000375 in the last iteration, 0.00375 in the next, then linearly to 0 at step 10240",
    ):
        assert words in done.stdout, done.stdout
    assert steps_in(perilune, "run") == list(range(256, 10241, 256))
    written = (perilune.directory / "run" / "config.toml").read_text()
    assert "total_timesteps = 10240\n" in written and "ent_coef = 0.02\n" in written
    done = perilune.good("train", "--resume", "run")
    assert "note" not in done.stdout and "at step 10,240 of 10,240" in done.stdout
    assert perilune.good("train", "--resume", "run", "--set", "seed=1").stderr == ""  # as it is


def test_interrupted_again_the_new_settings_stay(perilune, short):
    perilune.good("train", *short, "--run-dir", "parts")
    done = interrupt(perilune, ["train", "--resume", "parts", "--set", "total_timesteps=12800000"], after_a_moment)
    assert done.returncode == 130 and steps_in(perilune, "parts")[-1] > 5120, done.stderr
    done = interrupt(perilune, ["train", "--resume", "parts"], after_a_moment)
    assert done.returncode == 130 and "note" not in done.stdout and " of 12,800,000" in done.stdout


@pytest.mark.parametrize(
    "change, words",
    [
        ("seed=2", ["seed = 2", "seed = 1"]),
        ("num_envs=8", ["num_envs = 8", "num_envs = 16"]),
        ("hidden_sizes=32,16", ["hidden_sizes = 32, 16", "hidden_sizes = none"]),
        ("precision=tf32", ["precision = tf32"]),
        ("env.sutton_barto_reward=true", ["env.sutton_barto_reward = true", "env.sutton_barto_reward = false"]),
    ],
)
def test_what_is_fixed_for_a_run_is_refused(perilune, short, change, words):
    perilune.good("train", *short, "--run-dir", "run")
    before = (perilune.directory / "run" / "config.toml").read_bytes()
    perilune.fails(
        2,
        *words,
        "run/config.toml has",
        "fixed for a run",
        "--from",
        arguments=["train", "--resume", "run", "--set", change],
    )
    assert (perilune.directory / "run" / "config.toml").read_bytes() == before


def test_a_changed_config_is_held_against_the_checkpoint(perilune, short):
    perilune.good("train", *short, "--run-dir", "run")
    path = perilune.directory / "run" / "config.toml"
    path.write_text(path.read_text().replace('"tanh"', '"relu"').replace("hidden_width = 16", "hidden_width = 32"))
    perilune.fails(
        2,
        "hidden_width = 32, activation = relu",
        "run/checkpoint.safetensors has hidden_width = 16, activation = tanh",
        arguments=["train", "--resume", "run"],
    )
    assert not list(path.parent.glob("*.damaged"))


def test_from_another_policy(perilune, short):
    perilune.good("train", *short, "--run-dir", "source")
    width = short.index("hidden_width=16")
    others = short[: width - 1] + short[width + 1 :]
    for run in ("a", "b"):
        done = perilune.good("train", "cartpole-zoo", *others, "--from", "source", "--run-dir", run, "--seed", "3")
        assert "begins with the weights of source, of step 5120 in CartPole-v1" in done.stdout
        assert "hidden layers of 16, 16 units, tanh, as that policy has" in done.stdout
    perilune.good("train", "cartpole-zoo", *short, "--run-dir", "afresh", "--seed", "3")
    assert policy(perilune, "a") == policy(perilune, "b") != policy(perilune, "afresh")
    perilune.fails(
        2,
        "hidden_width = 32",
        "source has 16, 16",
        arguments=["train", *short, "--set", "hidden_width=32", "--from", "source"],
    )
    perilune.fails(
        2,
        "is for CartPole-v1",
        "Lander-v0 has 8",
        "allowed: CartPole-v1",
        arguments=["train", "lander", "--from", "source/policy.safetensors"],
    )
    perilune.fails(
        2, "--resume", "--from", "leave one of them out", arguments=["train", "--resume", "a", "--from", "source"]
    )
    perilune.fails(2, "nowhere", "does not exist", arguments=["train", "--from", "nowhere"])


def test_a_run_from_a_policy_resumes_bit_for_bit(perilune, short):
    perilune.good("train", *short, "--run-dir", "source")
    settings = [*short, "--set", "total_timesteps=128000", "--set", "checkpoint_every=20", "--from", "source"]
    perilune.good("train", *settings, "--run-dir", "whole")
    checkpoint = perilune.directory / "parts" / "checkpoint.safetensors"
    done = interrupt(perilune, ["train", *settings, "--run-dir", "parts"], checkpoint.exists)
    if done.returncode == 0:
        pytest.skip("the run ended before the signal came")
    perilune.good("train", "--resume", "parts")
    assert policy(perilune, "parts") == policy(perilune, "whole")


def test_damaged_checkpoint_falls_back_to_the_one_before(perilune, short):
    settings = [*short, "--set", "checkpoint_every=7"]
    perilune.good("train", *settings, "--run-dir", "run")
    before = policy(perilune, "run")
    checkpoint = perilune.directory / "run" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert perilune.json("train", "--resume", "run")["steps"] == 5120
    assert policy(perilune, "run") == before


def full_disk_command(perilune, arguments, disk):
    if disk is not None:
        return {"args": perilune.command(*arguments)}
    # A limit on the size of any one file stands in for a full disk.
    return {
        "args": perilune.command(*arguments),
        "preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)),
    }


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, or None where it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    yield folder if mounted.returncode == 0 else None
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk(perilune, short, small_disk):
    """The checkpoint outgrows the disk at some point, or the metrics do: a clear error, and the last good one stays."""
    run = perilune.directory / "disk" / "run"
    arguments = ["train", *long_run(short), "--run-dir", str(run), "--quiet"]
    if small_disk is None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # inherited: the write fails instead
    command = full_disk_command(perilune, arguments, small_disk)
    done = subprocess.run(**command, cwd=perilune.directory, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("perilune: cannot write "), done.stderr
    assert "No space left on device" in done.stderr or "File too large" in done.stderr
    assert "free some space" in done.stderr and str(run) in done.stderr
    if (run / "checkpoint.safetensors").exists():
        perilune.good("eval", run, "--episodes", "1")
    assert not list(run.glob("*.tmp.*"))
    if small_disk is None:
        return
    assert (run / "checkpoint.safetensors").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    done = interrupt(perilune, ["train", "--resume", str(run), "--quiet"], lambda: not time.sleep(0.2))
    assert done.returncode == 130, done.stderr
