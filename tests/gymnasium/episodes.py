"""Episodes of many pilots at once, here and in Gymnasium's own environments on the same draws, and what is said of
them: the rows of fidelity.py's table."""

import concurrent.futures
import itertools
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import perilune

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SEED = 11  # of every run compared
MOST_AT_ONCE = 250  # real environments in one process


@dataclass
class Row:
    """One line of the table: a number of ours, the real environment's (None: `ours` is itself a comparison), and how
    far apart they may be: rule "apart", or what `ours` must be: rule "at most" or "at least" limit. limit None: for
    information, always passed."""

    comparison: str
    environment: str
    solver: str
    ours: float
    real: float | None
    rule: str = "apart"
    limit: float | None = None

    @property
    def passed(self):
        if self.limit is None:
            return True
        if self.rule == "at least":
            return bool(self.ours >= self.limit)
        return bool((abs(self.ours - self.real) if self.rule == "apart" else self.ours) <= self.limit)


def ks_distance(a, b):
    """The largest distance of the two samples' distribution functions (Kolmogorov and Smirnov)."""
    a, b = np.sort(a), np.sort(b)
    at = np.concatenate([a, b])
    return float(np.max(np.abs(np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b))))


@dataclass
class Episodes:
    """How n episodes went: returns, lengths (steps) and ends (what they are called is up to the pilots), each [n]; the
    first observations [keep + 1, n, numbers]."""

    returns: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray
    observations: np.ndarray

    def head(self, count):
        return Episodes(self.returns[:count], self.lengths[:count], self.ends[:count], self.observations[:, :count])

    def share(self, end):
        return float(np.mean(self.ends == end))

    @staticmethod
    def joined(parts):
        axes = {"observations": 1}
        return Episodes(
            *(
                np.concatenate([getattr(part, name) for part in parts], axes.get(name, 0))
                for name in Episodes.__dataclass_fields__
            )
        )


def play(envs, observations, pilots, keep=0):
    """Plays the first episode of each environment, from its first observations, and keeps `keep` more of these. Pilots
    have numbers (of the environments that they are for), act(observations, step), MAX_STEPS, ON_THE_WAY (what an
    episode is called that the time limit ends) and ends(observations, rewards) (the same where it ended by itself)."""
    count = len(observations)
    returns, lengths = np.zeros(count), np.zeros(count, int)
    ends, running = np.full(count, pilots.ON_THE_WAY), np.ones(count, bool)
    kept = [observations]
    for step in range(pilots.MAX_STEPS):
        observations, rewards, terminated, truncated, _ = envs.step(pilots.act(observations, step))
        if step < keep:
            kept.append(observations)
        returns += np.where(running, rewards, 0)
        lengths += running
        ended = running & terminated
        ends[ended] = pilots.ends(observations, rewards)[ended]
        running &= ~(terminated | truncated)
        if not running.any() and step >= keep:
            break
    return Episodes(returns, lengths, ends, np.array(kept))


class OurEnvironments:
    """Environments 0 .. count-1 of a run, for one episode each: what has ended stays where it is. Once half of them
    have ended, the others go on in a batch of their own, so that no time goes into what is not looked at."""

    def __init__(self, env_id, count, **parameters):
        self._make = lambda number: perilune.VectorEnv(env_id, number, **parameters)
        self._envs, self._where, self._running = self._make(count), np.arange(count), np.ones(count, bool)

    def reset(self, seed):
        self._observations, _ = self._envs.reset(seed=seed)
        return self._observations.copy()

    def step(self, actions):
        count = len(self._observations)
        rewards, terminated, truncated = np.zeros(count), np.zeros(count, bool), np.zeros(count, bool)
        observations, *results, infos = self._envs.step(actions[self._where])
        running = self._where[self._running]
        self._observations[running] = observations[self._running]
        for values, result in zip((rewards, terminated, truncated), results, strict=True):
            values[running] = result[self._running]
        self._running &= ~(results[1] | results[2])
        if 0 < self._running.sum() <= len(self._running) // 2:
            self._go_on(self._envs.get_state(self._running))
        return self._observations.copy(), rewards, terminated, truncated, infos

    def close(self):
        self._envs.close()

    def _go_on(self, state):
        self._envs.close()
        self._envs, self._where = self._make(len(state)), self._where[self._running]
        self._envs.reset(seed=0)
        self._envs.set_state(state)  # which also says of which run and environment it is
        self._running = np.ones(len(state), bool)


def play_ours(env_id, pilots, seed=SEED, keep=0, **parameters):
    """Episodes in environments 0 .. n-1 of a run with `seed`."""
    envs = OurEnvironments(env_id, len(pilots.numbers), **parameters)
    try:
        return play(envs, envs.reset(seed), pilots, keep)
    finally:
        envs.close()


def _play_part(pilots, seed, keep, parameters):
    envs = pilots.real_environments(seed, **parameters)
    return play(envs, envs.reset(), pilots, keep)


def play_real(jobs, pilots, seed=SEED, keep=0, **parameters):
    """The same episodes in Gymnasium's environment, in `jobs` processes."""
    parts = max(1, min(len(pilots.numbers), jobs * -(-len(pilots.numbers) // (jobs * MOST_AT_ONCE))))
    edges = np.linspace(0, len(pilots.numbers), parts + 1).astype(int)
    tasks = [(pilots.part(*edge), seed, keep, parameters) for edge in itertools.pairwise(edges)]
    if jobs == 1:
        return Episodes.joined([_play_part(*task) for task in tasks])
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        return Episodes.joined(list(pool.map(_play_part, *zip(*tasks, strict=True))))


@dataclass
class Plan:
    """Episodes that both play: pilots for environments 0, 1, ... of a run with SEED, and the environment's
    parameters."""

    name: str
    pilots: Any
    parameters: dict

    def head(self, episodes):
        return Plan(self.name, self.pilots.part(0, episodes), self.parameters)


class Live:
    """The real environment's episodes, played now in `jobs` processes."""

    def __init__(self, jobs=1):
        self.jobs, self.played = jobs, {}

    def episodes(self, kind, plan):
        played = play_real(self.jobs, plan.pilots, **plan.parameters)
        self.played[f"{kind}, {plan.name}"] = played
        return played

    def save(self, path):
        parts = {
            f"{key}: {name}": getattr(played, name).astype(kind)
            for key, played in self.played.items()
            for name, kind in (("returns", np.float32), ("lengths", np.int16), ("ends", np.int8))
        }
        np.savez_compressed(path, **parts)


class Recording:
    """The real environment's episodes as Live.save wrote them."""

    def __init__(self, path):
        with np.load(path) as file:
            self.parts = dict(file)

    def episodes(self, kind, plan):
        count = len(plan.pilots.numbers)
        parts = {name: self.parts[f"{kind}, {plan.name}: {name}"][:count] for name in ("returns", "lengths", "ends")}
        if len(parts["returns"]) < count:
            raise ValueError(f"{count} episodes of {kind}, {plan.name} - only {len(parts['returns'])} are recorded")
        return Episodes(**parts, observations=np.zeros((0, count, 0)))


def same_as_recorded(recording, jobs, plans):
    """The recorded episodes are those that the real environment makes here and now: of `plans`, pairs (kind, plan).
    Where the C library's sines differ in a bit, a few end otherwise after the first contact."""
    live, rows = Live(jobs), []
    for kind, plan in plans:
        now, then = live.episodes(kind, plan), recording.episodes(kind, plan)
        same = (np.abs(now.returns - then.returns) < 0.01) & (now.lengths == then.lengths) & (now.ends == then.ends)
        share = float(same.mean())
        rows.append(
            Row(f"recording: {kind}, episodes that are the same", plan.name, "-", share, None, "at least", 0.95)
        )
    return rows
