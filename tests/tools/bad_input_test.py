"""Every kind of bad input ends with the right exit code and a line that names the problem, value and way out."""

import json
import os
import re
import resource
import shutil
import struct
import subprocess
from functools import partial

import pytest

USAGE, FAILED, NO_DEVICE = 2, 1, 3
SANITIZED = bool(os.environ.get("PERILUNE_SANITIZE"))

# One iteration of any lander.
TINY_FLIGHT = [
    argument
    for setting in (
        "num_envs=8",
        "num_steps=8",
        "num_minibatches=4",
        "total_timesteps=64",
        "eval_every=0",
        "target_return=none",
        "eval_episodes=8",
    )
    for argument in ("--set", setting)
] + ["--quiet"]


@pytest.mark.parametrize(
    "setting, words",
    [
        ("learning_rat=1", ["unknown key", "'learning_rat'", "learning_rate", "perilune list"]),
        ("env.sutton_reward=true", ["unknown key", "env.sutton_reward", "env.sutton_barto_reward"]),
        ("num_envs=many", ["num_envs", "'many'", "not an integer", "1 .. "]),
        ("num_envs=1.5", ["num_envs", "'1.5'", "not an integer"]),
        ("num_envs=", ["num_envs", "''"]),
        ("clip_vloss=maybe", ["clip_vloss", "'maybe'", "true | false"]),
        ("activation=gelu", ["activation", "'gelu'", "tanh | relu"]),
        ("output_activation=gelu", ["output_activation", "'gelu'", "none | relu | tanh"]),
        ("init=he", ["init", "'he'", "orthogonal | torch | glorot"]),
        ("learning_rate=nan", ["learning_rate", "'nan'", "0 .. 1"]),
        ("gamma=1.5", ["gamma", "'1.5'", "out of range", "0 .. 1"]),
        ("learning_rate=1e30", ["learning_rate", "'1e30'", "out of range", "0 .. 1"]),
        ("num_envs=99999999999999999999", ["num_envs", "99999999999999999999", "out of range"]),
        ("seed=-1", ["seed", "'-1'", "0 .. 4294967295"]),
        ("num_minibatches=7", ["num_envs * num_steps", "num_minibatches = 7", "not divisible", "4 and 8"]),
        ("hidden_sizes=48,0", ["hidden_sizes", "'48,0'", "out of range", "1 to 8", "1 .. 16384"]),
        ("hidden_sizes=-1", ["hidden_sizes", "'-1'", "out of range"]),
        ("hidden_sizes=", ["hidden_sizes", "''", "not a list"]),
        ("hidden_sizes=wide", ["hidden_sizes", "'wide'", "not a list"]),
        ("hidden_sizes=1,2,3,4,5,6,7,8,9", ["hidden_sizes", "too many layers", "1 to 8"]),
        ("hidden_layers=9", ["hidden_layers", "'9'", "1 .. 8"]),
        ("log_std_init=-0.5", ["log_std_init = -0.5", "continuous actions", "CartPole-v1 are discrete"]),
        ("learn_std=false", ["learn_std = false", "continuous actions", "CartPole-v1 are discrete"]),
        ("fused=maybe", ["fused", "'maybe'", "auto | true | false"]),
        ("precision=fp64", ["precision", "'fp64'", "auto | fp32 | tf32 | bf16"]),
        ("env_id=CartPole-v9", ["unknown environment", "'CartPole-v9'", "CartPole-v1"]),
        ("max_episode_steps=200", ["target_return = 490", "more than any episode can return", "up to 200"]),
        ("learning_rate=0", ["learning_rate = 0", "changes no weight"]),
        ("name=../x", ["name", "'../x'", "allowed"]),
        ("nonsense", ["--set", "'nonsense'", "KEY=VALUE"]),
    ],
)
def test_settings(perilune, setting, words):
    perilune.fails(
        USAGE,
        *words,
        arguments=["train", "--run-dir", "run", "--set", "num_envs=8", "--set", "num_steps=8", "--set", setting],
    )
    assert not (perilune.directory / "run").exists()


@pytest.mark.parametrize(
    "setting, words",
    [
        ("env.gravity=-12", ["env.gravity", "'-12'", "out of range", "allowed: above -12 and below 0"]),
        ("env.gravity=0", ["env.gravity", "'0'", "out of range", "allowed: above -12 and below 0"]),
        ("env.gravity=nan", ["env.gravity", "'nan'", "not a number"]),
        ("env.wind_power=-1e31", ["env.wind_power", "'-1e31'", "out of range", "-1e+30 .. 1e+30"]),
        ("env.wind_power=nan", ["env.wind_power", "'nan'", "not a number"]),
        ("env.turbulence_power=inf", ["env.turbulence_power", "'inf'", "not a number"]),
        ("env.enable_wind=2", ["env.enable_wind", "'2'", "true | false"]),
        ("env.sutton_barto_reward=true", ["env.sutton_barto_reward", "no parameter of LunarLander-v3", "wind_power"]),
        ("log_std_init=-0.5", ["log_std_init = -0.5", "continuous actions", "LunarLander-v3 are discrete"]),
    ],
)
def test_lander_settings(perilune, setting, words):
    perilune.fails(USAGE, *words, arguments=["train", "lunar-lander-zoo", "--run-dir", "run", "--set", setting])
    assert not (perilune.directory / "run").exists()


def test_wind_beyond_what_is_advised(perilune):
    """Gymnasium warns of it and flies on; so do we."""
    (perilune.directory / "mine.toml").write_text("[env]\ngravity = -11.9995\nwind_power = 25\n")
    stormy = ["--config", "mine.toml", "--set", "env.enable_wind=true", "--set", "env.turbulence_power=-0.5"]
    done = perilune.good("train", "lander", *TINY_FLIGHT, *stormy, "--run-dir", "run")
    assert done.stderr.count("perilune: warning: env.") == 2 and done.stderr.count("\n") == 2
    for words in ("env.wind_power = 25", "advised: 0 .. 20", "env.turbulence_power = -0.5", "advised: 0 .. 2"):
        assert words in done.stderr
    assert perilune.good("train", "lander", *TINY_FLIGHT, "--run-dir", "calm").stderr == ""
    swept = perilune.good(
        "sweep", "lander", *TINY_FLIGHT[:-1], *stormy, "--set", "learning_rate=1e-3,1e-4", "--seeds", "1"
    )
    assert swept.stderr.count("perilune: warning: env.") == 2  # once for all combinations


def test_settings_without_effect_are_warned_of(perilune, short):
    idle = ["--set", "policy_iterations=3", "--set", "kl_estimator=k1", "--set", "num_minibatches=256"]
    done = perilune.good("train", *short, *idle, "--set", "norm_adv=minibatch", "--quiet")
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("perilune: warning: ") for line in lines)
    for words, line in zip(
        [
            "policy_iterations = 3 has no effect",
            "kl_estimator = k1 has no effect",
            "norm_adv = minibatch normalises nothing",
        ],
        lines,
        strict=True,
    ):
        assert words in line
    perilune.fails(USAGE, "not divisible", arguments=["train", *short, *idle, "--set", "num_minibatches=7"])  # alone
    swept = perilune.good("sweep", *short[4:], *idle[:2], "--set", "gamma=0.9,0.8", "--seeds", "1")
    assert swept.stderr.count("perilune: warning: policy_iterations = 3") == 1


def test_threads_far_above_the_cores_are_warned_of(perilune, short):
    cores = len(os.sched_getaffinity(0))
    many = 2 * cores + 1
    done = perilune.good("train", *short, "--threads", many, "--quiet", "--run-dir", "many")
    assert (
        f"perilune: warning: threads = {many} on {cores} core" in done.stderr and "one thread per core" in done.stderr
    )
    assert perilune.good("train", *short, "--threads", 2 * cores, "--quiet", "--run-dir", "few").stderr == ""


@pytest.mark.parametrize("flown, claimed", [("lander", "LanderContinuous-v0"), ("lander-continuous", "Lander-v0")])
def test_checkpoints_of_other_actions(perilune, flown, claimed):
    perilune.good("train", flown, *TINY_FLIGHT, "--run-dir", "run")
    checkpoint = perilune.directory / "run" / "checkpoint.safetensors"
    own = {"lander": "Lander-v0", "lander-continuous": "LanderContinuous-v0"}[flown]
    changed = replace_in_config(f'"{own}"', f'"{claimed}"')(checkpoint.read_bytes())
    (perilune.directory / "other.safetensors").write_bytes(changed)
    line = perilune.fails(
        FAILED, "other.safetensors", claimed, "discrete", "continuous", arguments=["eval", "other.safetensors"]
    )
    assert "actions" in line


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["no command", "train, eval, export, import, sweep, profile, info, list"]),
        (["trian"], ["unknown command", "'trian'", "did you mean train?"]),
        (["train", "--sead", "1"], ["unknown option", "'--sead'", "did you mean --seed?", "perilune train --help"]),
        (["train", "cartpol"], ["unknown preset", "'cartpol'", "cartpole-zoo", "did you mean cartpole?"]),
        (["train", "cartpole", "extra"], ["unexpected argument", "'extra'"]),
        (["train", "--seed", "x"], ["seed", "'x'"]),
        (["train", "--threads", "0"], ["--threads", "'0'", "1 .. "]),
        (["train", "--device", "xpu"], ["--device", "'xpu'", "auto, cpu, cuda"]),
        (["train", "--graph", "yes"], ["--graph", "'yes'", "off, on"]),
        (["train", "--config", "missing.toml"], ["missing.toml", "No such file"]),
        (["train", "--config", "."], [".", "directory"]),
        (["train", "--run-dir", ""], ["--run-dir", "empty"]),
        (["train", "--resume", "missing"], ["missing", "not a run directory"]),
        (["train", "--resume", "x", "--seed", "1"], ["--resume", "--seed"]),
        (["eval"], ["RUN_OR_FILE", "missing"]),
        (["eval", "missing"], ["missing", "does not exist"]),
        (["eval", "."], ["config.toml"]),
        (["eval", "x", "--episodes", "0"], ["--episodes", "'0'", "1 .. "]),
        (["list", "kyes"], ["'kyes'", "did you mean keys?"]),
    ],
)
def test_command_line(perilune, arguments, words):
    done = perilune.run(*arguments)
    expected = FAILED if "--config" in arguments else USAGE
    assert done.returncode == expected, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("perilune: ") and done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    "text, words",
    [
        ("num_envs = 8\nnum_step = 3\n", ["mine.toml:2", "unknown key", "num_steps"]),
        ('num_envs = "8"\n', ["mine.toml:1", "num_envs", "'8'", "text"]),
        ("gamma = 7\n", ["mine.toml:1", "gamma", "out of range"]),
        ("[env]\ngravity = -12\n", ["mine.toml:2", "env.gravity", "out of range", "above -12 and below 0"]),
        ("gamma = [\n", ["mine.toml", "not valid TOML"]),
        ("\x00\x01\x02", ["mine.toml", "not valid TOML"]),
    ],
)
def test_configuration_file(perilune, text, words):
    (perilune.directory / "mine.toml").write_text(text)
    perilune.fails(USAGE, *words, arguments=["train", "--config", "mine.toml"])


def test_hidden_sizes_beside_hidden_width(perilune):
    for other in ("hidden_width = 64", "hidden_layers = 2"):
        (perilune.directory / "mine.toml").write_text(f"hidden_sizes = [64, 32]\n{other}\n")
        perilune.fails(
            USAGE,
            "mine.toml:",
            "hidden_sizes",
            other.split()[0],
            "both given",
            arguments=["train", "--config", "mine.toml"],
        )


def test_fused_kernels_that_were_not_built(perilune):
    perilune.fails(
        USAGE,
        "48, 48",
        "16 or 32 or 64 or 128",
        "fused = auto",
        arguments=["train", "--set", "hidden_width=48", "--set", "fused=true"],
    )


def test_matrix_library_that_is_not_installed(perilune, short):
    """Only networks without fused kernels need it."""
    missing = {"PERILUNE_MATRIX_LIBRARY": "/nowhere/libopenblas.so.0"}
    perilune.good("train", *short, env=missing)
    wide = ["train", *short, "--set", "hidden_sizes=48,20", "--run-dir", "run"]
    perilune.fails(
        FAILED, "OpenBLAS", "/nowhere/libopenblas.so.0", "PERILUNE_MATRIX_LIBRARY", arguments=wide, env=missing
    )
    assert not (perilune.directory / "run").exists()
    perilune.good(*wide)
    perilune.fails(FAILED, "OpenBLAS", "/nowhere/libopenblas.so.0", arguments=["eval", "run"], env=missing)


def test_unknown_cpu_level(perilune):
    perilune.fails(
        USAGE,
        "PERILUNE_CPU_LEVEL",
        "v9",
        "portable",
        arguments=["train", "--device", "cpu"],
        env={"PERILUNE_CPU_LEVEL": "v9"},
    )


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine may have a GPU")
@pytest.mark.parametrize("command", [["train"], ["eval", "run"]])
def test_cuda_without_a_gpu(perilune, short, command):
    if command[0] == "eval":
        perilune.good("train", "--run-dir", "run", *short)
    perilune.fails(NO_DEVICE, "--device cuda", "--device cpu", arguments=[*command, "--device", "cuda"])
    assert not (perilune.directory / "runs").exists()


LARGE = ["--set", "num_envs=4194304", "--set", "num_steps=128", "--set", "total_timesteps=1e13", "--run-dir", "run"]


def test_more_memory_than_there_is(perilune, short):
    with open("/proc/meminfo") as file:
        kilobytes = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    if kilobytes * 1024 > 18e9:
        pytest.skip(f"this machine has {kilobytes >> 20} GiB free, more than the largest configuration may take")
    line = perilune.fails(FAILED, "memory", "free", "num_envs", arguments=["train", *short, *LARGE])
    assert "GiB" in line


def limit_memory(size):
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def test_more_memory_than_the_process_may_have(perilune, short):
    if SANITIZED:
        pytest.skip("the address sanitizer reserves more than any limit")
    perilune.fails(
        FAILED,
        "memory",
        "lower num_envs",
        arguments=["train", *short, *LARGE, "--quiet"],
        preexec_fn=partial(limit_memory, 1 << 30),
    )


def test_hidden_layers_larger_than_the_memory(perilune, short):
    """Fits an index, but neither the machine's memory nor, on a large machine, the process's."""
    if SANITIZED:
        pytest.skip("the address sanitizer reserves more than any limit")
    line = perilune.fails(
        FAILED,
        "memory",
        "hidden layers",
        preexec_fn=partial(limit_memory, 4 << 30),
        arguments=["train", *short, "--set", "hidden_sizes=16384,16384,16384", "--quiet"],
    )
    assert "GiB" in line
    perilune.fails(
        USAGE,
        "parameters",
        "fewer or smaller",
        arguments=["train", *short, "--set", "hidden_width=16384", "--set", "hidden_layers=8"],
    )


def test_run_directory_that_holds_a_run(perilune, short):
    perilune.good("train", "--run-dir", "run", *short)
    perilune.fails(FAILED, "run", "already holds a run", "--resume", arguments=["train", "--run-dir", "run", *short])


def test_run_directory_that_holds_something_else(perilune, short):
    (perilune.directory / "run").mkdir()
    (perilune.directory / "run" / "thesis.txt").write_text("important")
    perilune.fails(FAILED, "run", "not empty", arguments=["train", "--run-dir", "run", *short])
    assert [p.name for p in (perilune.directory / "run").iterdir()] == ["thesis.txt"]


def test_run_directory_below_a_file(perilune, short):
    (perilune.directory / "file").write_text("")
    perilune.fails(FAILED, "file/run", "Not a directory", arguments=["train", "--run-dir", "file/run", *short])


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_run_directory_not_writable(perilune, short):
    (perilune.directory / "closed").mkdir(mode=0o500)
    perilune.fails(
        FAILED, "closed/run", "Permission denied", "--run-dir", arguments=["train", "--run-dir", "closed/run", *short]
    )


def test_run_directory_in_use(perilune, short):
    perilune.good("train", "--run-dir", "run", *short)
    with open(perilune.directory / "run" / ".lock", "r+") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        perilune.fails(FAILED, "run", "in use", "wait", arguments=["train", "--resume", "run"])


# Damaged and foreign checkpoints: what is done to a good file, and what the message must say.


def edit_header(change):
    """Changes the JSON header of a safetensors file."""

    def edit(data):
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return edit


def set_metadata(key, value):
    return edit_header(lambda header: header["__metadata__"].update({key: value}))


def replace_in_config(old, new):
    def change(header):
        assert old in header["__metadata__"]["config"]
        header["__metadata__"]["config"] = header["__metadata__"]["config"].replace(old, new)

    return edit_header(change)


DAMAGE = {
    "empty": (lambda data: b"", []),
    "truncated header": (lambda data: data[:100], []),
    "truncated data": (lambda data: data[:-5], []),
    "foreign": (lambda data: b"GIF89a" + data[6:], []),
    "text": (lambda data: b"Dear diary, today I trained a policy. " * 20, []),
    "huge header": (lambda data: b"\xff" * 8 + data[8:], []),
    "another format": (set_metadata("format", "pt"), ["format"]),
    "version of tomorrow": (set_metadata("format_version", "99"), ["version", "99"]),
    "no metadata": (edit_header(lambda header: header.pop("__metadata__")), []),
    "another environment": (replace_in_config("CartPole-v1", "Pendulum-v1"), ["Pendulum-v1"]),
    "another shape": (replace_in_config("hidden_width = 16", "hidden_width = 32"), []),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_checkpoints(perilune, short, kind):
    damage, words = DAMAGE[kind]
    perilune.good("train", "--run-dir", "run", *short)
    run = perilune.directory / "run"
    data = (run / "checkpoint.safetensors").read_bytes()
    (run / "bad.safetensors").write_bytes(damage(data))
    for arguments in (["eval", "run/bad.safetensors"], ["train", "--resume", "run"]):
        if arguments[0] == "train":  # no good one beside it
            (run / "checkpoint.previous.safetensors").unlink(missing_ok=True)
            shutil.copy(run / "bad.safetensors", run / "checkpoint.safetensors")
        done = perilune.run(*arguments)
        assert done.returncode in (FAILED, USAGE), (arguments, done.stderr, done.stdout)
        assert done.stderr.startswith("perilune: ") and done.stderr.count("\n") == 1, done.stderr
        for word in [".safetensors", *words]:
            assert word in done.stderr, done.stderr


def test_checkpoint_of_another_shape_in_a_run(perilune, short):
    perilune.good("train", "--run-dir", "wide", *short)
    perilune.good("train", "--run-dir", "narrow", *short, "--set", "hidden_width=32")
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        if (perilune.directory / "narrow" / name).exists():
            shutil.copy(perilune.directory / "wide" / name, perilune.directory / "narrow" / name)
    perilune.fails(
        USAGE,
        "checkpoint.safetensors has hidden_width = 16",
        "hidden_width = 32",
        arguments=["train", "--resume", "narrow"],
    )


def test_a_policy_file_cannot_be_resumed_from(perilune, short):
    perilune.good("train", "--run-dir", "run", *short)
    run = perilune.directory / "run"
    shutil.copy(run / "policy.safetensors", run / "checkpoint.safetensors")
    (run / "checkpoint.previous.safetensors").unlink(missing_ok=True)
    perilune.fails(FAILED, "policy", "checkpoint", arguments=["train", "--resume", "run"])


def test_nonfinite_loss_stops_at_once(perilune, short):
    """Adam without a second moment divides by zero where a unit is dead, and the weights overflow."""
    perilune.good("train", *short, "--set", "activation=relu", "--run-dir", "run")
    run = perilune.directory / "run"
    explosive = {
        "adam_beta2": "0.0",
        "adam_epsilon": "1e-20",
        "learning_rate": "0.03",
        "max_grad_norm": "0.0",
        "total_timesteps": "51200",
        "anneal_lr": '"none"',
        "checkpoint_every": "100",
    }
    config = (run / "config.toml").read_text()
    data = (run / "checkpoint.safetensors").read_bytes()
    for key, value in explosive.items():
        config, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", config)
        assert count == 1, key
    (run / "config.toml").write_text(config)
    data = set_metadata("config", config)(data)
    (run / "checkpoint.safetensors").write_bytes(data)
    line = perilune.fails(
        FAILED,
        "NaN or Inf in",
        "at iteration",
        "learning_rate",
        "run/checkpoint.safetensors",
        arguments=["train", "--resume", "run", "--quiet"],
    )
    assert 20 < int(re.search(r"iteration (\d+)", line).group(1)) <= 200
    assert re.search(r"(actor|critic)\.\d\.(weight|bias)", line), line
    assert "every environment is finite, so the networks diverged" in line
    assert (run / "checkpoint.safetensors").read_bytes() == data
    perilune.good("eval", "run")


def test_full_standard_output(perilune):
    with open("/dev/full", "w") as full:
        done = subprocess.run(perilune.command("list"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == FAILED
    assert "cannot write to standard output: No space left on device" in done.stderr


def test_closed_pipe_does_not_end_training(perilune, short):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        perilune.command("train", *short, "--run-dir", "run"),
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        cwd=perilune.directory,
    )
    os.close(write_end)
    assert done.returncode == FAILED
    assert "standard output" in done.stderr and "Broken pipe" in done.stderr
    perilune.good("eval", "run")
