"""Training and evaluation, as the command line does them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perilune import _arguments, _native, _safetensors
from perilune.evaluation import Evaluation
from perilune.policy import Policy, file_of, load

# A run that is over sooner shows no progress bar.
_SHOW_AFTER_SECONDS = 0.5


class Best(NamedTuple):
    """The policy of a run with the highest mean return in an evaluation: after how many steps, and that return."""

    step: int
    mean: float


class Run:
    """A training run: what train() returns, and Run(path) opens of an earlier one.

    run_dir: its directory (checkpoints, policies, metrics, TensorBoard events). config: every setting. evaluation: of
    the last policy (Evaluation), None if the run was stopped before it. best: the policy that scored highest (Best),
    None if none was evaluated. Of the call to train() alone: device, steps (of the whole run), new_steps, seconds,
    steps_per_second, solved, solved_threshold, interrupted.
    """

    run_dir: Path
    config: dict[str, Any]
    evaluation: Evaluation | None
    best: Best | None
    device: str
    steps: int
    new_steps: int
    seconds: float
    steps_per_second: float
    solved: bool
    solved_threshold: float
    interrupted: bool

    def __init__(self, run_dir: str | os.PathLike):
        """Opens a run directory. Raises UsageError if it is none."""
        self.run_dir = Path(_arguments.path("run_dir", run_dir))
        self.config = _native.saved_config(os.fspath(self.run_dir))
        self.evaluation = self.best = None
        self.solved = self.interrupted = False
        saved = self.run_dir / "evaluation.json"
        if saved.is_file():
            data = json.loads(saved.read_text())
            self.evaluation = Evaluation(**data["eval"])
            self.best = Best(**data["best"]) if "best" in data else None
            self.solved, self.solved_threshold, self.steps = data["solved"], data["threshold"], data["steps"]

    @classmethod
    def _of(cls, result: dict[str, Any]) -> Run:
        run = cls.__new__(cls)
        run.__dict__.update(result)
        run.run_dir = Path(result["run_dir"])
        run.evaluation = result["evaluation"] and Evaluation(**result["evaluation"])
        run.best = result["best"] and Best(**result["best"])
        return run

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy take: its data and directory. What was read from there is read again."""
        return {
            name: value for name, value in self.__dict__.items() if name not in ("policy", "best_policy", "metrics")
        }

    @property
    def env_id(self) -> str:
        return self.config["env_id"]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @cached_property
    def policy(self) -> Policy:
        """The trained policy, loaded when it is first asked for."""
        return load(self.run_dir)

    @property
    def from_policy(self) -> tuple[Path, int] | None:
        """The file of the policy that the run began with, and the step of its own run; None if weights were drawn."""
        kept = self.run_dir / "initial_policy.safetensors"
        if not kept.is_file():
            return None
        metadata = _safetensors.metadata_of(kept)
        return Path(metadata["from_path"]), int(metadata["step"])

    @cached_property
    def best_policy(self) -> Policy:
        """The policy of the best evaluation, loaded when it is first asked for."""
        return load(self.run_dir, best=True)

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """Every metric of every iteration, float64 [iterations]: iteration, step, time (Unix), and TensorBoard's names
        (charts/..., losses/..., eval/...). NaN where an iteration has none; of several of a policy the last."""
        iterations: dict[int, dict[str, Any]] = {}
        for line in (self.run_dir / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)  # an evaluation has a row of its own
            iterations.setdefault(row["iteration"], {}).update(row)
        rows = list(iterations.values())
        names = dict.fromkeys(name for row in rows for name in row)
        nan = float("nan")
        return {
            name: np.array([nan if (value := row.get(name)) is None else value for row in rows], np.float64)
            for name in names
        }

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """What one plots first. step, episodic_return, episodic_length: one entry per iteration in which an episode
        ended; eval_step, eval_return: one per policy that was evaluated, the last included."""
        nothing = np.full(len(self.metrics["step"]), np.nan)
        returns = self.metrics.get("charts/episodic_return", nothing)
        evaluations = self.metrics.get("eval/mean_return", nothing)
        ended, evaluated = ~np.isnan(returns), ~np.isnan(evaluations)
        return {
            "step": self.metrics["step"][ended],
            "episodic_return": returns[ended],
            "episodic_length": self.metrics.get("charts/episodic_length", nothing)[ended],
            "eval_step": self.metrics["step"][evaluated],
            "eval_return": evaluations[evaluated],
        }

    def evaluate(self, episodes: int = 100, **options: Any) -> Evaluation:
        """See perilune.evaluate()."""
        return evaluate(self, episodes, **options)

    def __fspath__(self) -> str:
        return os.fspath(self.run_dir)

    def __repr__(self) -> str:
        state = "interrupted" if self.interrupted else "solved" if self.solved else "not solved"
        score = f", return {self.evaluation.mean:.1f} +- {self.evaluation.std:.1f}" if self.evaluation else ""
        return f"<perilune.Run of {self.env_id} in {str(self.run_dir)!r}: {state}{score}>"


class _Display:
    """Remembers the plan, and shows a progress bar in terminals and notebooks unless it is to be quiet."""

    def __init__(self, quiet: bool):
        self.run_dir: str | None = None
        self._quiet = quiet
        self._bar: Any = None
        self._plan: dict[str, Any] = {}

    def plan(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self.run_dir = plan["run_dir"]
        for note in () if self._quiet else plan["notes"]:
            print(f"perilune: {note}", file=sys.stderr)

    def progress(self, progress: dict[str, Any]) -> None:
        if self._quiet or (self._bar is None and progress["seconds"] < _SHOW_AFTER_SECONDS):
            return
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(
                total=self._plan["total_steps"],
                initial=self._plan["first_step"],
                unit="step",
                unit_scale=True,
                desc=Path(self._plan["run_dir"]).name,
                dynamic_ncols=True,
            )
        if progress["episodic_return"] == progress["episodic_return"]:
            self._bar.set_postfix({"return": f"{progress['episodic_return']:.1f}"}, refresh=False)
        self._bar.update(progress["step"] - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def train(
    preset: str | None = None,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    *,
    run_dir: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    from_policy: str | os.PathLike | Policy | None = None,
    config_file: str | os.PathLike | None = None,
    device: str = "auto",
    threads: int | None = None,
    quiet: bool = False,
    env: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Run:
    """Trains a policy with PPO.

    preset: settings to start from (default "cartpole"; see presets()); then config_file (TOML), then env (parameters of
    the environment) and overrides (any key of keys(), such as seed=1, total_timesteps=500_000, hidden_sizes=[256, 128];
    also **{"env.sutton_barto_reward": True}); the later wins.
    callback: called with a dict after every batch of iterations (iteration, iterations, step, total_steps, seconds,
    steps_per_second, episodic_return, approx_kl, seconds_left); if it returns False the run is saved and train()
    returns.
    run_dir: a directory for the run (default: a fresh one in runs/). resume: a run directory or Run to go on with, with
    its own settings; overrides change those of keys() that may_change. from_policy: a policy file, checkpoint, run
    directory, Run or Policy whose weights to begin with, also of another environment with the same spaces; hidden
    layers, activation, norm_obs and clip_obs that are not given are the policy's, and training goes on with its
    statistics. device: "auto" (where the run is expected to end sooner),
    "cpu" or "cuda". threads: of the CPU, None for one per core; results do not depend on it. quiet: no progress bar,
    and no notes on what changes.

    Other Python threads run meanwhile. Ctrl-C saves the run and raises KeyboardInterrupt; an exception of the callback
    is raised after saving, too.
    Raises UsageError (a ValueError) for settings that are not possible and Error (a RuntimeError) for all that fails
    later, with the command line's text.
    """
    if resume is not None and from_policy is not None:
        raise _native.UsageError(
            "resume goes on with a run, from_policy begins another with a policy's weights - leave one of them out"
        )
    if resume is not None and (preset is not None or config_file is not None or run_dir is not None):
        raise _native.UsageError(
            "resume goes on with the settings of the run itself, in its directory - leave out preset, "
            "config_file and run_dir (keywords change what may change)"
        )
    if callback is not None and not callable(callback):
        _arguments.wrong_kind("callback", callback, "no function", "None or what can be called")
    settings = _arguments.settings(env, overrides)
    display = _Display(_arguments.boolean("quiet", quiet))
    try:
        result = _native.train(
            "cartpole" if preset is None else _arguments.text("preset", preset),
            _arguments.path("config_file", config_file, optional=True),
            settings,
            _arguments.path("run_dir", run_dir, optional=True),
            _arguments.path("resume", resume, optional=True),
            _arguments.path("from_policy", from_policy, optional=True),
            *_arguments.device(device, threads),
            callback,
            display,
        )
    except KeyboardInterrupt:
        if display.run_dir is None:
            raise
        raise KeyboardInterrupt(
            f"interrupted and saved - go on with perilune.train(resume={display.run_dir!r})"
        ) from None
    finally:
        display.close()
    return Run._of(result)


def evaluate(
    policy: str | os.PathLike,
    episodes: int = 100,
    *,
    deterministic: bool = True,
    seed: int = 1,
    env: Mapping[str, Any] | None = None,
    max_episode_steps: int | None = None,
    env_id: str | None = None,
    best: bool = False,
    device: str = "auto",
    threads: int | None = None,
) -> Evaluation:
    """Plays whole episodes of a trained policy, as `perilune eval` does: in the task that it was trained for (its
    environment, with the run's parameters and time limit).

    policy: a run directory, a checkpoint or policy file, a Run, or a Policy (which stays on its device). episodes: 1 to
    1,000,000. deterministic: the most probable action, else actions are drawn. seed: which episodes. env (parameters),
    max_episode_steps (0: the environment's own) and env_id (with the same observations and actions) change the task.
    best: of a run, its best policy instead of the last.
    Raises UsageError for what cannot be evaluated or options out of range, Error for files that cannot be read.
    """
    options = _arguments.evaluation(episodes, deterministic, seed, env, max_episode_steps, env_id)
    where = _arguments.device(device, threads)
    if isinstance(policy, Policy) and not _arguments.boolean("best", best):
        return Evaluation(**policy._native.evaluate(*options))
    return Evaluation(**_native.evaluate(file_of("policy", policy, best), *options, *where))
