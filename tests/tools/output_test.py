"""What the program prints, to people and to programs."""

import json
import os
import pty
import re
import subprocess
import time

import pytest

ESCAPE = "\x1b"


@pytest.mark.parametrize("command", ["", "train", "eval", "export", "import", "sweep", "profile", "info", "list"])
def test_help(perilune, command):
    text = perilune.good(*command.split(), "--help").stdout
    assert "Usage:" in text and "Examples:" in text and "Exit codes:" in text
    assert max(map(len, text.splitlines())) <= 80


def test_version(perilune):
    assert re.fullmatch(r"perilune \d+\.\d+\.\d+ \(.+\)\n", perilune.good("--version").stdout)


def test_train_json(perilune, short):
    done = perilune.good("train", "--json", "--run-dir", "run", "--seed", "7", *short)
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert list(result) == [
        "env",
        "preset",
        "device",
        "seed",
        "steps",
        "seconds",
        "steps_per_second",
        "solved",
        "eval",
        "best",
        "run_dir",
    ]
    assert list(result["eval"]) == ["episodes", "mean", "std", "min", "max"]
    assert (result["env"], result["preset"], result["seed"], result["steps"]) == ("CartPole-v1", "cartpole", 7, 5120)
    assert result["device"].startswith("cpu ") and result["solved"] is False and result["run_dir"] == "run"
    assert 0 < result["seconds"] < 60 and result["steps_per_second"] > 0
    evaluation = result["eval"]
    assert evaluation["episodes"] == 100
    assert result["best"] == {"step": 5120, "mean": evaluation["mean"]}  # there is no other evaluation
    assert 1 <= evaluation["min"] <= evaluation["mean"] <= evaluation["max"] <= 500 and evaluation["std"] >= 0


def test_train_json_quiet_says_nothing_else(perilune, short):
    done = perilune.good("train", "--json", "--quiet", *short)
    assert json.loads(done.stdout) and done.stderr == ""


def test_quiet(perilune, short):
    done = perilune.good("train", "--quiet", *short)
    assert (done.stdout, done.stderr) == ("", "")


def test_eval_json(perilune, short):
    perilune.good("train", "--run-dir", "run", *short)
    result = perilune.json("eval", "run", "--episodes", "37", "--device", "cpu")
    assert list(result) == ["env", "max_episode_steps", "parameters", "episodes", "mean", "std", "min", "max"]
    assert result["env"] == "CartPole-v1" and result["episodes"] == 37
    assert result["max_episode_steps"] == 500 and result["parameters"] == {"sutton_barto_reward": False}
    for source in ("run/checkpoint.safetensors", "run/policy.safetensors"):
        assert perilune.json("eval", source, "--episodes", "37", "--threads", "1") == result
    assert perilune.json("eval", "run", "--episodes", "37", "--seed", "2") != result
    assert perilune.json("eval", "run", "--episodes", "37", "--sampled") != result


def test_eval_plays_the_task_that_was_trained(perilune, short):
    perilune.good("train", "--run-dir", "run", *short, "--set", "max_episode_steps=7")
    text = perilune.good("eval", "run").stdout
    assert "up to 7 steps" in text and "trained in" not in text
    assert perilune.json("eval", "run/policy.safetensors")["max"] == 7
    elsewhere = ["--set", "max_episode_steps=600", "--set", "env.sutton_barto_reward=true"]
    text = perilune.good("eval", "run", *elsewhere).stdout
    assert "up to 600 steps, env.sutton_barto_reward = true\n" in text and re.search(
        "trained in +CartPole-v1, up to 7 steps\n", text
    )
    result = perilune.json("eval", "run", *elsewhere)
    assert (result["max_episode_steps"], result["parameters"], result["max"]) == (
        600,
        {"sutton_barto_reward": True},
        -1,
    )


def test_eval_in_another_environment_of_the_same_spaces(perilune):
    tiny = [
        word
        for setting in (
            "num_envs=8",
            "num_steps=8",
            "total_timesteps=64",
            "eval_every=0",
            "target_return=none",
            "num_minibatches=4",
            "env.gravity=-9",
        )
        for word in ("--set", setting)
    ]
    perilune.good("train", "lander", *tiny, "--run-dir", "run", "--quiet")
    result = perilune.json("eval", "run", "--set", "env_id=LunarLander-v3", "--set", "env.enable_wind=true")
    assert (
        result["env"] == "LunarLander-v3"
        and result["parameters"]["gravity"] == -9
        and result["parameters"]["enable_wind"]
    )
    perilune.fails(
        2,
        "Lander-v0",
        "8 numbers",
        "CartPole-v1 has 4",
        "LunarLander-v3, Lander-v0",
        arguments=["eval", "run", "--set", "env_id=CartPole-v1"],
    )
    perilune.fails(
        2, "gamma", "no part", "env_id, max_episode_steps and env.*", arguments=["eval", "run", "--set", "gamma=1"]
    )


def test_info(perilune):
    text = perilune.good("info").stdout
    assert "CUDA" in text and re.search(r"CartPole-v1 +16, 32, 64, 128 +1 to 3 +fp32", text)
    info = perilune.json("info")
    assert set(info) == {"version", "build", "devices", "matrix_library", "precision", "instances"}
    assert info["matrix_library"]["usable"] and info["matrix_library"]["status"].startswith("OpenBLAS (")
    assert f"layer by layer with {info['matrix_library']['status']}" in text
    assert info["precision"]["auto"] in ("fp32", "tf32", "bf16") and info["precision"]["reason"] in text
    assert info["devices"]["cpu"]["threads"] == len(os.sched_getaffinity(0))
    assert info["devices"]["cuda"]["status"]
    assert [(i["env"], i["hidden_widths"]) for i in info["instances"]] == [
        ("CartPole-v1", [16, 32, 64, 128]),
        ("LunarLander-v3", [64, 128]),
        ("LunarLanderContinuous-v3", [64]),
        ("Lander-v0", [64]),
        ("LanderContinuous-v0", [64]),
        ("BipedalWalker-v3", [64]),
    ]
    assert info["instances"][0]["precisions"][0] == "fp32"


def test_info_says_what_was_left_out(perilune):
    text, build = perilune.good("info").stdout, perilune.json("info")["build"]
    assert build["cpu_levels"] and ", ".join(build["cpu_levels"]) in text
    left_out = [level for level in ("v4", "v3", "portable") if level not in build["cpu_levels"]]
    assert f"left out: {', '.join(left_out)} (cmake --preset every-cpu" in text if left_out else "left out" not in text
    if build["cuda"] is None:
        assert build["gpu_architectures"] == [] and "built without CUDA (" in text and "PERILUNE_CUDA=ON" in text
    else:
        assert all(re.fullmatch(r"sm_\d+(-virtual)?", name) and name in text for name in build["gpu_architectures"])


def test_info_without_a_matrix_library(perilune):
    missing = {"PERILUNE_MATRIX_LIBRARY": "missing.so"}
    assert "missing.so" in perilune.good("info", env=missing).stdout
    assert not perilune.json("info", env=missing)["matrix_library"]["usable"]


def test_info_names_the_cpu_level(perilune):
    level = perilune.json("info")["build"]["cpu_levels"][-1]
    assert f"cpu {level}" in perilune.good("info", env={"PERILUNE_CPU_LEVEL": level}).stdout


def test_list(perilune):
    text = perilune.good("list").stdout
    assert "CartPole-v1" in text and "cartpole-spinup" in text and "learning_rate" in text
    assert max(map(len, text.splitlines())) <= 100
    everything = perilune.json("list")
    assert list(everything) == ["environments", "presets", "keys"]
    keys = {key["name"]: key for key in perilune.json("list", "keys")["keys"]}
    assert keys["num_envs"] == {
        "name": "num_envs",
        "type": "integer",
        "default": "4",
        "allowed": "1 .. 4194304",
        "may_change": False,
        "help": keys["num_envs"]["help"],
    }
    assert keys["total_timesteps"]["may_change"] and not keys["env.gravity"]["may_change"]
    assert all(
        set(key) == {"name", "type", "default", "allowed", "may_change", "help"} and key["help"]
        for key in keys.values()
    )
    assert {preset["name"] for preset in everything["presets"]} >= {
        "bipedal-walker",
        "bipedal-walker-rtg",
        "bipedal-walker-zoo",
        "cartpole",
        "cartpole-zoo",
        "cartpole-cleanrl",
        "cartpole-spinup",
        "lander",
        "lander-continuous",
        "lunar-lander",
        "lunar-lander-1m",
        "lunar-lander-continuous",
        "lunar-lander-continuous-best",
        "lunar-lander-zoo",
        "lunar-lander-continuous-zoo",
        "lunar-lander-cleanrl",
        "lunar-lander-best",
        "lunar-lander-td",
    }
    assert len(keys) == len(everything["keys"]) and "and 3 others: " in keys["env.gravity"]["help"]


def test_train_in_words(perilune, short):
    done = perilune.good("train", "--run-dir", "my run", "--verbose", *short)
    assert done.stderr == ""
    for word in [
        "CartPole-v1",
        "device",
        "hidden layers of 16, 16, fused",
        "memory",
        "records",
        "evaluation",
        "over 100 episodes",
        "5,120",
        "steps/s",
        "eval 'my run'",
        "list keys",
    ]:
        assert word in done.stdout, done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "device" not in line) <= 80


@pytest.mark.parametrize("env", [{}, {"LC_ALL": "C"}, {"NO_COLOR": "1"}])
def test_no_escape_codes_where_nobody_looks(perilune, short, env):
    for arguments in (["train", *short], ["list"], ["info"], ["train", "--sede"]):
        done = perilune.run(*arguments, env=env)
        assert ESCAPE not in done.stdout + done.stderr and "\r" not in done.stdout + done.stderr
    if env.get("LC_ALL") == "C":
        assert perilune.good("train", *short).stdout.isascii() is False  # C.UTF-8, as in conftest
        assert perilune.good("train", *short, env=env).stdout.isascii()


def on_a_terminal(perilune, *arguments, columns=80, **env):
    """Exit code and output of the program on a pseudo-terminal."""
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        perilune.command(*arguments),
        cwd=perilune.directory,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=perilune.environment(**env),
        close_fds=True,
    )
    os.close(slave)
    output = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the other end is closed
            break
        if not data:
            break
        output += data
    os.close(master)
    return process.wait(timeout=60), output.decode()


def plain_lines(output):
    return re.sub(r"\x1b\[[0-9;]*m", "", output).replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("columns", [40, 57, 80, 100, 160])
def test_tables_follow_the_terminal(perilune, columns):
    """No line is wider, and below each key stand its own values and help."""
    code, output = on_a_terminal(perilune, "list", columns=columns)
    lines = plain_lines(output)
    assert code == 0 and max(map(len, lines)) <= columns
    assert columns < 80 or len(max(lines, key=len)) > 70
    keys = perilune.json("list", "keys")["keys"]
    lines = lines[
        next(i for i, line in enumerate(lines) if line.split() in (["key", "default", "type", "allowed"], ["name"])) :
    ]
    starts = [
        next(i for i, line in enumerate(lines) if re.match(rf"  {re.escape(key['name'])}( |$)", line)) for key in keys
    ]
    assert starts == sorted(starts)
    for key, begin, end in zip(keys, starts, [*starts[1:], len(lines)], strict=True):
        text = "".join(lines[begin:end]).replace(" ", "")
        assert text.endswith(key["help"].replace(" ", "")), key["name"]
        assert all(word in text for word in [key["default"], key["type"], *key["allowed"].split()][:2]), key["name"]


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_other_tables_follow_the_terminal(perilune, short, columns):
    assert "lunar-lander-continuous" in perilune.good("list", "environments").stdout  # in one piece
    for arguments in (
        ["info"],
        ["profile", "cartpole", *short[:2], "--iterations", "1"],
        ["sweep", *short[4:], "--set", "gamma=0.9,0.99", "--seeds", "2"],
    ):
        code, output = on_a_terminal(perilune, *arguments, columns=columns)
        lines = plain_lines(output.split("the timeline")[0])
        too_wide = [
            line for line in lines if len(line) > columns and not line.startswith("[") and " " in line[14:].strip()
        ]
        assert code == 0 and not too_wide, too_wide


def drawings_of(output):
    """The states of the live line, without escape codes."""
    return [re.sub(r"\x1b\[[0-9;]*[mK]", "", part) for part in output.replace("\r\n", "\n").split("\r")[1:]]


@pytest.mark.parametrize("columns", [80, 40, 200])
def test_live_line(perilune, short, columns):
    code, output = on_a_terminal(perilune, "train", *short, "--set", "total_timesteps=100000", columns=columns)
    assert code == 0
    drawings = [d.split("\n")[0] for d in drawings_of(output)]
    assert drawings
    assert all(len(d) < columns for d in drawings), drawings
    assert all("/s" in d for d in drawings)
    if columns >= 80:
        assert all("return" in d and "KL" in d and "left" in d for d in drawings)
        assert "━" in drawings[0]
    assert "\x1b[K" in output and "\x1b[2m" in output


def test_no_color_on_a_terminal(perilune, short):
    code, output = on_a_terminal(perilune, "train", *short, NO_COLOR="1")
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*m", output) and "\r  " in output  # no colours, but a live line


def test_dumb_terminal(perilune, short):
    code, output = on_a_terminal(perilune, "train", *short, TERM="dumb")
    assert code == 0 and ESCAPE not in output


def test_live_line_is_drawn_at_most_ten_times_a_second(perilune, short):
    begin = time.monotonic()
    _, output = on_a_terminal(perilune, "train", *short, "--set", "total_timesteps=200000")
    assert len(drawings_of(output)) <= (time.monotonic() - begin) * 10 + 3
