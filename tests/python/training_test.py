"""Training, evaluation and policies from Python: the same bits, files and errors as the command line's."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import gymnasium
import numpy as np
import pytest
from safetensors.numpy import load_file

import perilune
from common import NEEDS_PROGRAM, PACKAGE, PROGRAM

SANITIZED = bool(os.environ.get("PERILUNE_SANITIZE"))


def program(*arguments, fails=False):
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "NO_COLOR": "1", "LD_PRELOAD": ""},
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr.removeprefix("perilune: ").rstrip("\n") if fails else json.loads(done.stdout)


def settings_of(short):
    """The same settings for the command line."""
    words = ["--device", "cpu", "--threads", "1", "--quiet", "--json"]
    for key, value in short.items():
        if key not in ("device", "threads", "quiet", "run_dir"):
            words += ["--set", f"{key}={'none' if value is None else value}"]
    return words


@NEEDS_PROGRAM
def test_same_bits_as_the_command_line(short, tmp_path):
    run = perilune.train("cartpole", seed=7, **short)
    result = program("train", "cartpole", "--run-dir", tmp_path / "program", *settings_of(short), "--seed", 7)
    for name in ("checkpoint.safetensors", "policy.safetensors", "config.toml", "evaluation.json"):
        assert (run.run_dir / name).read_bytes() == (tmp_path / "program" / name).read_bytes(), name
    assert run.steps == result["steps"] == 5120 and run.solved == result["solved"]
    assert run.evaluation._asdict().items() >= result["eval"].items()


def test_trains_until_solved(trained):
    assert trained.solved and not trained.interrupted and trained.env_id == "CartPole-v1" and trained.seed == 1
    assert trained.evaluation.episodes == 100 and trained.evaluation.mean >= 475
    assert trained.steps_per_second > 0 and "solved" in repr(trained)
    assert trained.config["num_envs"] == 8 and trained.config["target_return"] == 490.0
    assert trained.config["env.sutton_barto_reward"] is False and trained.config["anneal_clip_coef"] is None


def test_curves_and_metrics(trained):
    metrics, curves = trained.metrics, trained.curves
    length = len(metrics["step"])
    assert all(values.dtype == np.float64 and values.shape == (length,) for values in metrics.values())
    assert metrics["step"][-1] == trained.steps and (np.diff(metrics["step"]) == 256).all()
    assert {"charts/episodic_return", "losses/approx_kl", "eval/mean_return"} <= set(metrics)
    assert len(curves["eval_step"]) == len(curves["eval_return"]) > 0
    assert not any(np.isnan(values).any() for values in curves.values())
    assert len(curves["step"]) == len(curves["episodic_return"]) == len(curves["episodic_length"]) > 10


def test_the_best_policy_and_when_evaluations_were_made(short, tmp_path):
    run = perilune.train("cartpole", seed=3, **{**short, "eval_every": 4, "learning_rate": 0.01})
    curves = run.curves
    assert curves["eval_step"].tolist() == [1024, 2048, 3072, 4096, 5120]
    assert curves["eval_return"][-1] == pytest.approx(run.evaluation.mean, rel=1e-6)
    assert len(run.metrics["step"]) == 20 and not np.isnan(run.metrics["losses/entropy"]).any()
    best = int(np.argmax(curves["eval_return"]))
    assert run.best.step == curves["eval_step"][best] and run.best.mean == pytest.approx(curves["eval_return"][best])
    assert perilune.Run(run.run_dir).best == run.best
    wanted = load_file(run.run_dir / "best.safetensors")
    for policy in (run.best_policy, perilune.load(run, best=True, device="cpu")):
        assert all(np.array_equal(tensor, wanted[name]) for name, tensor in policy.weights().items())
    assert perilune.evaluate(run, best=True) == run.best_policy.evaluate()
    stopped = perilune.train("cartpole", lambda progress: False, **{**short, "run_dir": tmp_path / "stopped"})
    with pytest.raises(perilune.Error, match="has no best policy"):
        _ = stopped.best_policy


def test_runs_are_opened_again(trained):
    run = perilune.Run(trained.run_dir)
    assert run.evaluation == trained.evaluation and run.solved and run.config == trained.config
    np.testing.assert_array_equal(run.metrics["step"], trained.metrics["step"])
    assert perilune.load(run).env_id == "CartPole-v1"


def test_settings_in_every_form(short, tmp_path):
    (tmp_path / "mine.toml").write_text('gamma = 0.5\nname = "mine"\n[env]\nsutton_barto_reward = true\n')
    run = perilune.train(
        "cartpole-zoo",
        config_file=tmp_path / "mine.toml",
        env={"sutton_barto_reward": False},
        hidden_sizes=[16, 16],
        clip_vloss=True,
        learning_rate=np.float32(0.25),
        ent_coef=0.01,
        **{**short, "hidden_width": 16, "num_envs": np.int64(16)},
    )
    assert run.config["gamma"] == 0.5 and run.config["name"] == "mine" and run.config["clip_vloss"] is True
    assert run.config["learning_rate"] == 0.25 and run.config["env.sutton_barto_reward"] is False
    other = perilune.train(**{**short, "run_dir": tmp_path / "other"}, **{"env.sutton_barto_reward": True})
    assert other.config["env.sutton_barto_reward"] is True and other.config["name"] == "cartpole"


BAD = [
    ("unknown preset", ["cartpoll"], {}, ["train", "cartpoll"]),
    ("unknown key", [], {"learning_rat": 1}, ["train", "--set", "learning_rat=1"]),
    ("out of range", [], {"gamma": 1.5}, ["train", "--set", "gamma=1.5"]),
    ("no number", [], {"gamma": "high"}, ["train", "--set", "gamma=high"]),
    ("environment parameter", [], {"env": {"gravity": 1}}, ["train", "--set", "env.gravity=1"]),
    ("combination", [], {"num_minibatches": 7}, ["train", "--set", "num_minibatches=7"]),
    ("too few steps", [], {"total_timesteps": 3}, ["train", "--set", "total_timesteps=3"]),
    ("no such file", [], {"config_file": "/nowhere.toml"}, ["train", "--config", "/nowhere.toml"]),
    ("no such run", [], {"resume": "/nowhere"}, ["train", "--resume", "/nowhere"]),
]


@NEEDS_PROGRAM
@pytest.mark.parametrize("arguments, options, words", [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_errors_are_the_command_lines(tmp_path, monkeypatch, arguments, options, words):
    monkeypatch.chdir(tmp_path)
    text = program(*words, fails=True)
    with pytest.raises((perilune.UsageError, perilune.Error)) as caught:
        perilune.train(*arguments, quiet=True, **options)
    assert str(caught.value) == text
    assert isinstance(caught.value, (ValueError, RuntimeError))
    assert not list(tmp_path.iterdir())


def test_errors_of_python_alone(short, tmp_path):
    with pytest.raises(perilune.UsageError, match="resume goes on with the settings of the run itself"):
        perilune.train("cartpole", resume=tmp_path)
    with pytest.raises(TypeError, match="mapping"):
        perilune.train(env="CartPole-v1", **short)
    with pytest.raises(TypeError, match="callback = 3 is no function"):
        perilune.train(callback=3, **short)
    with pytest.raises(perilune.UsageError, match="device 'tpu' is unknown - allowed: auto, cpu, cuda"):
        perilune.train(**{**short, "device": "tpu"})
    with pytest.raises(
        perilune.UsageError, match=r"threads = 0 is out of range - allowed: None or a whole number, 1 \.\. 1024"
    ):
        perilune.train(**{**short, "threads": 0})
    assert issubclass(perilune.UsageError, ValueError) and issubclass(perilune.Error, RuntimeError)
    assert issubclass(perilune.NoDeviceError, perilune.Error)
    perilune.train(**short)
    with pytest.raises(perilune.Error, match="run"):  # the directory is taken
        perilune.train(**short)


def test_callback_sees_plain_numbers(short):
    seen = []
    perilune.train("cartpole", seen.append, **short)
    assert [entry["iteration"] for entry in seen] == list(range(1, 21))
    assert seen[-1]["step"] == seen[-1]["total_steps"] == 5120
    assert all(type(value) in (int, float) for entry in seen for value in entry.values())


def test_callback_stops_after_saving_and_the_run_goes_on(short, tmp_path):
    run = perilune.train("cartpole", lambda progress: progress["iteration"] < 5, seed=3, **short)
    assert run.interrupted and run.evaluation is None and run.steps == 5 * 256
    resumed = perilune.train(resume=run, device="cpu", quiet=True)
    whole = perilune.train("cartpole", seed=3, **{**short, "run_dir": tmp_path / "whole"})
    assert not resumed.interrupted and resumed.steps == 5120 and resumed.new_steps == 15 * 256
    assert (run.run_dir / "checkpoint.safetensors").read_bytes() == (
        whole.run_dir / "checkpoint.safetensors"
    ).read_bytes()


def test_a_run_goes_on_with_other_settings(short, capsys):
    run = perilune.train("cartpole", **short)
    longer = perilune.train(resume=run, total_timesteps=10240, ent_coef=0.02, device="cpu")
    assert longer.steps == 10240 and longer.new_steps == 5120
    assert longer.config["ent_coef"] == perilune.Run(run.run_dir).config["ent_coef"] == 0.02
    notes = capsys.readouterr().err
    assert "perilune: total_timesteps = 10240 from here on, 5120 before\n" in notes
    assert "learning_rate: 0.000375 in the last iteration, 0.00375 in the next" in notes
    for changes, words in (
        ({"activation": "relu"}, "activation = relu, but .* has activation = tanh, which is fixed"),
        ({"env": {"sutton_barto_reward": True}}, "env.sutton_barto_reward = true"),
        ({"total_timesteps": 256}, "total_timesteps = 256 are over"),
    ):
        with pytest.raises(perilune.UsageError, match=words):
            perilune.train(resume=run, quiet=True, **changes)
    with pytest.warns(UserWarning, match="policy_iterations = 3 has no effect"):
        perilune.train(resume=run, quiet=True, policy_iterations=3)


def test_a_run_begins_with_another_policys_weights(short, tmp_path):
    source = perilune.train("cartpole", **short)
    weights = source.policy.weights()
    fresh = {key: value for key, value in short.items() if key != "hidden_width"}
    runs = [
        perilune.train("cartpole-zoo", seed=3, from_policy=policy, **{**fresh, "run_dir": tmp_path / str(number)})
        for number, policy in enumerate((source, source.policy, source.run_dir / "checkpoint.safetensors"))
    ]
    assert runs[0].config["hidden_width"] == 16
    files = [(run.run_dir / "policy.safetensors").read_bytes() for run in runs]
    assert files[0] == files[1] == files[2]
    for run in runs:
        kept = perilune.load(run.run_dir / "initial_policy.safetensors", device="cpu").weights()
        assert all((kept[name] == weights[name]).all() for name in weights) and kept.keys() == weights.keys()
        assert run.from_policy[0].parent == source.run_dir and run.from_policy[1] == 5120
    assert source.from_policy is None
    with pytest.raises(perilune.UsageError, match=r"hidden_width = 32, but the policy .* has 16, 16"):
        perilune.train(from_policy=source, **{**short, "hidden_width": 32, "run_dir": tmp_path / "other"})
    with pytest.raises(perilune.UsageError, match="leave one of them out"):
        perilune.train(resume=source, from_policy=source)


def test_exception_of_a_callback_is_raised_after_saving(short):
    def callback(progress):
        if progress["iteration"] == 4:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        perilune.train("cartpole", callback, **short)
    assert perilune.load(short["run_dir"], device="cpu").config["num_envs"] == 16
    assert perilune.train(resume=short["run_dir"], quiet=True).steps == 5120


ENDLESS = """
import sys
sys.path.insert(0, sys.argv[1])
import perilune

def callback(progress):
    if progress["iteration"] == 1:
        print("started", flush=True)

try:
    perilune.train("cartpole", callback, device="cpu", run_dir=sys.argv[2], total_timesteps=10**12, target_return=None,
                   eval_every=0, quiet=True)
except KeyboardInterrupt as error:
    print(error)
"""


def test_ctrl_c_saves_and_raises(tmp_path):
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(PACKAGE), str(run)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert rest == f"interrupted and saved - go on with perilune.train(resume={str(run)!r})\n"
    assert perilune.load(run).env_id == "CartPole-v1"


def test_other_threads_run_meanwhile(short):
    counted = 0
    done = threading.Event()

    def train():
        perilune.train("cartpole", **{**short, "total_timesteps": 256 * 2000})
        done.set()

    thread = threading.Thread(target=train)
    thread.start()
    while not done.wait(0.001):
        counted += 1
    thread.join()
    assert counted > 10


def test_progress_bar_of_long_runs_alone(short, capsys, tmp_path):
    perilune.train("cartpole", **{**short, "quiet": False})
    assert capsys.readouterr().err == ""
    perilune.train(
        "cartpole",
        lambda progress: progress["seconds"] < 1.2,
        **{**short, "quiet": False, "total_timesteps": 10**10, "run_dir": tmp_path / "long"},
    )
    bar = capsys.readouterr().err
    assert "long" in bar and "return=" in bar and "step" in bar


@NEEDS_PROGRAM
def test_evaluations_are_the_command_lines(trained):
    wanted = program("eval", trained.run_dir, "--json", "--device", "cpu", "--episodes", 333, "--seed", 5)
    for target in (
        trained,
        trained.run_dir,
        str(trained.run_dir),
        trained.run_dir / "policy.safetensors",
        perilune.load(trained, device="cpu"),
    ):
        got = perilune.evaluate(target, 333, seed=5, device="cpu")
        task = ("env", "max_episode_steps", "parameters")
        assert got._asdict().items() >= {key: value for key, value in wanted.items() if key not in task}.items()
    sampled = program("eval", trained.run_dir, "--json", "--device", "cpu", "--sampled")
    assert trained.evaluate(deterministic=False, device="cpu").mean == sampled["mean"]


def test_evaluations_play_the_task_that_was_trained(short):
    run = perilune.train("cartpole", max_episode_steps=7, **short)
    targets = (run, run.run_dir / "policy.safetensors", run.policy)
    for target in targets:
        assert perilune.evaluate(target, 20).max == run.evaluation.max == 7
        elsewhere = perilune.evaluate(target, 20, max_episode_steps=0, env={"sutton_barto_reward": True})
        assert elsewhere.mean_length > 7 and elsewhere.max == -1
        with pytest.raises(perilune.UsageError, match="LunarLander-v3 has 8 numbers"):
            perilune.evaluate(target, env_id="LunarLander-v3")
        with pytest.raises(TypeError, match="to choose an environment use env_id"):
            perilune.evaluate(target, env="LunarLander-v3")


def test_minibatches_of_one_sample_teach_and_are_warned_of(short):
    settings = {**short, "num_envs": 4, "num_steps": 4, "num_minibatches": 16, "total_timesteps": 320}
    with pytest.warns(UserWarning, match="norm_adv = minibatch normalises nothing: a minibatch is one sample"):
        run = perilune.train("cartpole", norm_adv="minibatch", **settings)
    assert run.metrics["losses/policy_loss"].all()


@NEEDS_PROGRAM
@pytest.mark.parametrize("path", ["/nowhere", "empty", "text"])
def test_what_cannot_be_loaded_has_the_command_lines_error(tmp_path, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no policy")
    text = program("eval", tmp_path / path, fails=True)
    for use in (perilune.evaluate, perilune.load):
        with pytest.raises((perilune.UsageError, perilune.Error)) as caught:
            use(tmp_path / path)
        assert str(caught.value) == text


def test_evaluation_options_out_of_range(trained):
    for options in ({"episodes": 0}, {"episodes": 10**7}, {"seed": -1}, {"seed": 2**32}):
        for target in (trained, trained.policy):
            with pytest.raises(perilune.UsageError, match="is out of range - allowed"):
                perilune.evaluate(target, **options)


def network(tensors, observations, activation):
    x, layer = observations.astype(np.float64), 0
    while f"actor.{layer}.weight" in tensors:
        if layer > 0:
            x = activation(x)
        x = x @ tensors[f"actor.{layer}.weight"].T.astype(np.float64) + tensors[f"actor.{layer}.bias"]
        layer += 2
    return x


@pytest.mark.parametrize("count", [1, 7, 31, 33, 65, 257])
def test_policies_compute_their_networks(trained, count):
    observations = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
    wanted = network(load_file(trained.run_dir / "policy.safetensors"), observations, np.tanh)
    policy = trained.policy
    outputs = policy.outputs(observations)
    assert outputs.dtype == np.float32
    # Some 40 fp32 operations on numbers up to 50, and a tanh that is within 3e-7.
    np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-4)
    actions = policy(observations)
    assert actions.dtype == np.int64 and actions.shape == (count,)
    np.testing.assert_array_equal(actions, outputs.argmax(axis=1))


def test_policies_take_observations_in_every_form(trained):
    policy = perilune.load(trained.run_dir, device="cpu", threads=1)
    observations = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    actions = policy(observations)
    for given in (
        observations.astype(np.float64),
        observations.tolist(),
        np.asfortranarray(observations),
        np.repeat(observations, 2, axis=0)[::2],
    ):
        np.testing.assert_array_equal(policy(given), actions)
    single = policy(observations[2])
    assert single == actions[2] and single.shape == ()
    assert gymnasium.spaces.Discrete(2).contains(single)
    assert policy.outputs(observations[2]).shape == (2,)
    assert policy(np.zeros((0, 4), np.float32)).shape == (0,)
    for wrong in (np.zeros((3, 5)), np.zeros(3), np.zeros((1, 2, 4)), np.full((2, 4), np.nan)):
        with pytest.raises(perilune.UsageError):
            policy(wrong)
    with pytest.raises(TypeError):
        policy(np.array([["a", "b", "c", "d"]]))
    envs = perilune.VectorEnv("CartPole-v1", 6, arrays="dlpack")
    np.testing.assert_array_equal(policy(envs.reset(seed=1)[0]), policy(envs.observations().numpy()))
    assert "CartPole-v1" in repr(policy)


def test_policies_draw_with_their_probabilities(trained):
    policy = perilune.load(trained, device="cpu")
    observation = np.array([0.02, 0.0, 0.0, 0.0], np.float32)
    logits = policy.outputs(observation).astype(np.float64)
    probability = 1 / (1 + np.exp(logits[0] - logits[1]))
    count = 200_000
    drawn = policy(np.tile(observation, (count, 1)), deterministic=False, seed=3)
    # Five standard errors of a frequency.
    assert abs(drawn.mean() - probability) <= 5 * np.sqrt(probability * (1 - probability) / count) + 1e-9
    again = perilune.load(trained, device="cpu")
    np.testing.assert_array_equal(drawn[:1000], again(np.tile(observation, (1000, 1)), deterministic=False, seed=3))
    if 0.01 < probability < 0.99:
        assert (drawn != policy(np.tile(observation, (count, 1)), deterministic=False, seed=3)).any()


def test_policies_balance_gymnasiums_cartpole(trained):
    envs = gymnasium.make_vec("CartPole-v1", num_envs=50, vectorization_mode="vector_entry_point")
    observations, _ = envs.reset(seed=5)
    total, running = np.zeros(50), np.ones(50, bool)
    while running.any():
        observations, rewards, terminated, truncated, _ = envs.step(trained.policy(observations))
        total += np.where(running, rewards, 0)
        running &= ~(terminated | truncated)
    envs.close()
    assert total.mean() >= 475


@NEEDS_PROGRAM
def test_catalog_is_the_programs():
    listed = {topic: program("list", topic, "--json")[topic] for topic in ("environments", "presets", "keys")}
    assert list(perilune.environments()) == [entry["id"] for entry in listed["environments"]]
    assert list(perilune.presets()) == [entry["name"] for entry in listed["presets"]]
    assert list(perilune.keys()) == [entry["name"] for entry in listed["keys"]]


def test_catalog_says_what_there_is():
    assert perilune.keys()["gamma"]["default"] == 0.99 and "1" in perilune.keys()["gamma"]["allowed"]
    assert perilune.presets()["cartpole-zoo"]["env_id"] == "CartPole-v1"
    assert perilune.environments()["CartPole-v1"]["parameters"]["sutton_barto_reward"]["default"] is False
    assert perilune.environments()["Lander-v0"]["observation"]["left_leg_contact"] == (0.0, 1.0)
    info = perilune.info()
    assert info["version"] == perilune.__version__ and info["threads"] >= 1 and info["cpu_level"]


def test_wind_beyond_what_is_advised_is_warned_of(short):
    """As the program does; it is flown nevertheless."""
    stormy = {"enable_wind": True, "wind_power": 25.0}
    with pytest.warns(UserWarning, match=r"env.wind_power = 25 is more than Gymnasium advises .* advised: 0 .. 20"):
        perilune.train("lander", **{**short, "hidden_width": 64}, env=stormy)
    with pytest.warns(UserWarning, match="env.wind_power = 25"):
        perilune.VectorEnv("Lander-v0", 2, **stormy)
