"""What gpu-check's stages run on: the programs, the device, how much is measured there, and the time that is left."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from processes import CannotRun, run_process

ROOT = Path(__file__).resolve().parents[2]
TAIL = 4000  # characters of a failed command's output that are kept


class Failed(Exception):
    """Why a stage failed, what the command printed, and what was found nevertheless."""

    def __init__(self, problem, output="", results=None):
        super().__init__(problem)
        self.output, self.results = output[-TAIL:], results


class Skipped(Exception):
    """What this machine lacks; no failure."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    headline_envs: str = "4096,16384,65536"
    lander_envs: str = "4096,65536"
    sweep_envs: str = "1024,4096,16384,65536,262144"
    precisions: tuple = ("fp32", "tf32", "bf16")
    widths: tuple = (32, 64, 128)
    seconds: str = "0.3"  # of a row of bench_throughput
    sweep_seconds: str = "0.1"
    profile_envs: int = 16384
    profile_iterations: int = 20
    steps: int = 128  # of an iteration
    seeds: str = "1,2,3,4,5"
    confirm: int = 1000  # episodes after solving
    wide: tuple = ("2048,1536", "1024,1024,1024")
    wide_envs: int = 4096
    quiet: float = 30.0  # seconds without a word after which a shard of tests is taken to hang
    kernel_options: tuple = ("--seconds", "0.2")
    library_options: tuple = ()


# So small that a machine without a GPU takes a minute for all stages.
REHEARSAL = Sizes(
    headline_envs="64",
    lander_envs="32,48",
    sweep_envs="32",
    precisions=("fp32",),
    widths=(64,),
    seconds="0",
    sweep_seconds="0",
    profile_envs=64,
    profile_iterations=1,
    steps=16,
    seeds="1",
    confirm=100,
    wide=("96,80",),
    wide_envs=32,
    kernel_options=("--seconds", "0", "--envs", "64", "--steps", "16"),
    library_options=("--samples", "5120"),
)


@dataclass
class Machine:
    build: Path  # relative to ROOT where it is below: short paths read better in results that are committed
    folder: Path  # of the results
    scratch: Path
    device: str = "cuda"
    sizes: Sizes = Sizes()
    deadline: float = 0.0  # of the stage, by time.monotonic()

    @property
    def rehearsing(self):
        return self.device != "cuda"

    @property
    def require_gpu(self):
        """The environment in which tests that find no GPU fail instead of skipping."""
        return {} if self.rehearsing else {"PERILUNE_REQUIRE_GPU": "1"}

    @property
    def left(self):
        return self.deadline - time.monotonic()

    def program(self, name):
        path = self.build / name
        if not os.access(ROOT / path, os.X_OK):
            if self.rehearsing and name in ("gpu_tests", "bench_libraries_emulated"):
                raise Skipped(f"{name} is part of builds with GPU kernels and tests only")
            raise Failed(f"{path} does not exist or cannot be run")
        return path

    def attempt(self, *command, quiet=None, environment=None):
        """A command's end, whatever it was, before the stage's time is over."""
        return run_process(command, self.deadline, quiet=quiet, environment=environment, folder=ROOT)

    def run(self, *command, **keywords):
        """Standard output of a command that succeeds."""
        done = self.attempt(*command, **keywords)
        if done.problem:
            raise Failed(done.problem, done.out + done.err)
        return done.out

    def json(self, *command, **keywords):
        return json.loads(self.run(*command, **keywords))

    def train(self, run_dir, preset, settings, *extra, wrapper=(), environment=None):
        words = [
            *wrapper,
            self.program("perilune"),
            "train",
            preset,
            "--device",
            self.device,
            "--json",
            "--quiet",
            "--run-dir",
            self.scratch / run_dir,
            *extra,
        ]
        for setting in settings:
            words += ["--set", setting]
        return self.run(*words, environment=environment)


def each(runs, at_once=1):
    """{name: what its function returns} of runs that do not hang on each other; raises Failed at the end if one did."""

    def attempt(function):
        try:
            return function()
        except Failed as failure:
            return failure
        except CannotRun as problem:
            return Failed(str(problem))
        except ValueError as error:
            return Failed(f"unreadable output: {error}")

    with ThreadPoolExecutor(at_once) as pool:
        ended = dict(zip(runs, pool.map(attempt, runs.values()), strict=True))
    problems = {name: end for name, end in ended.items() if isinstance(end, Failed)}
    results = {name: end for name, end in ended.items() if name not in problems}
    if problems:
        names = {}  # what is wrong in several runs is said once
        for name, failure in problems.items():
            names.setdefault(str(failure), []).append(name)
        text = "; ".join(f"{' and '.join(mine)}: {problem}" for problem, mine in names.items())
        raise Failed(text, next(iter(problems.values())).output, results)
    return results
