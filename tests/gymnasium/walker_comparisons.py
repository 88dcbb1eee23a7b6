"""What is compared between Perilune's walker and Gymnasium's BipedalWalker: each comparison is a function giving rows.

Walking is chaotic: two walks that differ in a last bit have
nothing in common after some hundred steps. So single walks are compared with the recorded ones in Gymnasium's own
arithmetic, and otherwise samples of walks with noise; those of the heuristic alone begin nearly alike, so that a bit
moves the mean of them all.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics

import perilune
from episodes import GOLDEN, SEED, Plan, Recording, Row, ks_distance, play_ours, play_real, same_as_recorded
from real_environments import real_walkers
from walker_pilots import ARRIVED, FELL, heuristic_pilots, perturbed_pilots, random_pilots

WALKS = GOLDEN / "bipedal_walker_walks.npz"
SIGMA = 0.3  # of the noise on the heuristic's actions


def walk_ours(pilots, keep=0):
    """Walks in environments 0 .. n-1 of a run with SEED."""
    return play_ours("BipedalWalker-v3", pilots, keep=keep)


def compared(comparison, environment, ours, real, rule, limit):
    """A row of what is walked now."""
    return Row(comparison, environment, "exact", float(ours), None if real is None else float(real), rule, float(limit))


def heuristic_plans(walks):
    yield Plan("noise of 0.3", heuristic_pilots(np.arange(walks), SIGMA, SEED), {})


def policy_plans(policies, episodes):
    """Walker i is walked by policy i % policies, so that the head of a plan has fewer episodes of each."""
    yield Plan("walker", perturbed_pilots(np.arange(policies * episodes), policies, SEED), {})


# ---- Recorded episodes, played again with their draws and actions.


@dataclass
class Recorded:
    """An episode of Gymnasium's: draws (the ground's 200 heights, the force), actions [T, 4], observations [T+1, 24],
    bodies [T+1, 5, 6] (x, y, angle, vx, vy, w of hull, upper and lower part of the first leg, of the second one)."""

    draws: np.ndarray
    actions: np.ndarray
    observations: np.ndarray
    bodies: np.ndarray
    terminated: bool


def read_golden(path):
    """The episodes of one .npz file: terrain [n, 200], force [n], terminated [n], nsteps [n]; act [., 4] of every step
    of all episodes, and with one more for each reset obs [., 24], bodies [., 5, >= 6]."""
    with np.load(path) as file:
        data = dict(file)
    steps = np.cumsum([0, *data["nsteps"]])
    rows = np.cumsum([0, *(data["nsteps"] + 1)])
    for i in range(len(data["nsteps"])):
        step, row = slice(steps[i], steps[i + 1]), slice(rows[i], rows[i + 1])
        draws = np.append(data["terrain"][i], data["force"][i])
        bodies, terminated = data["bodies"][row, :, :6], bool(data["terminated"][i])
        yield Recorded(draws, data["act"][step], data["obs"][row], bodies, terminated)


def read_recording(folder=GOLDEN):
    """The episodes that record_bipedal_walker.py wrote."""
    steps = np.loadtxt(folder / "bipedal_walker_steps.csv", delimiter=",")
    for episode in np.loadtxt(folder / "bipedal_walker_episodes.csv", delimiter=","):
        rows = steps[steps[:, 0] == episode[0]]
        bodies, terminated = rows[:, 32:].reshape(-1, 5, 6), bool(rows[-1, 7])
        yield Recorded(
            np.append(episode[2:], episode[1]), rows[1:, 2:6].astype(np.float32), rows[:, 8:32], bodies, terminated
        )


def replays(name, episodes):
    """Recorded episodes in Gymnasium's own arithmetic (the task in float64, Box2D's world in float32), and in float32
    throughout with our sine, as everything but replays computes: there a walk is the same for its first second, and
    where it falls later it falls in another step."""
    episodes, rows = list(episodes), []
    for arithmetic, dtype in (("reference", "float64"), ("exact", "float32")):
        errors, same_end = [], 0
        for episode in episodes:
            ours = perilune.replay("BipedalWalker-v3", episode.draws, episode.actions, dtype=dtype)
            length = min(len(ours["reward"]), len(episode.actions))
            errors.append(np.abs(ours["bodies"][: length + 1] - episode.bodies[: length + 1]).max(axis=(1, 2)))
            same_end += length == len(episode.actions) and bool(ours["terminated"][-1]) == episode.terminated
        reference = arithmetic == "reference"
        for step, limit in ((10, 1e-4), (50, 1e-3)):
            median = np.median([error[: step + 1].max() for error in errors])
            comparison = f"bodies: median error in {step} steps"
            rows.append(Row(comparison, name, arithmetic, float(median), None, "at most", limit))
        rows.append(
            Row(
                "bodies: largest error",
                name,
                arithmetic,
                float(max(error.max() for error in errors)),
                None,
                "at most",
                1e-5 if reference else None,
            )
        )
        rows.append(
            Row(
                "episodes with the same last step",
                name,
                arithmetic,
                same_end,
                len(episodes),
                "at least",
                0.9 * len(episodes) if reference else None,
            )
        )
    return rows


# ---- Walked now.


def heuristic_is_gymnasiums(walkers=8, steps=300):
    """The heuristic of walker_pilots.py against Gymnasium's own, along walks with noise, for actions that differ."""
    envs = real_walkers(np.arange(walkers), SEED)
    ours, noisy = (heuristic_pilots(np.arange(walkers), sigma, SEED) for sigma in (0.0, SIGMA))
    theirs = [BipedalWalkerHeuristics() for _ in range(walkers)]
    observations, different = envs.reset(), 0
    for step in range(steps):
        actions = np.array([it.step_heuristic(seen) for it, seen in zip(theirs, observations, strict=True)])
        different += int((ours.act(observations, step) != actions).any(axis=1).sum())
        observations, *_ = envs.step(noisy.act(observations, step))
    return [Row("heuristic: actions that differ", "walker", "-", different, None, "at most", 0)]


def starts(walks, jobs):
    """The first observations, and those of the first second with random actions."""
    pilots, rows = random_pilots(np.arange(walks), SEED), []
    real = play_real(jobs, pilots, keep=50)
    ours = walk_ours(pilots, keep=50)
    errors = np.abs(ours.observations - real.observations).max(axis=2)
    for what, error, limit in zip(
        ("first observation: largest error", "observations: median error in 10 steps", "the same in 50 steps"),
        (errors[0].max(), np.median(errors[:11].max(axis=0)), np.median(errors.max(axis=0))),
        (1e-4, 1e-4, 1e-2),
        strict=True,
    ):
        rows.append(compared(what, "random actions", error, None, "at most", limit))
    return rows


def recording_holds(walks, policies, jobs):
    plans = [("heuristic", plan.head(walks)) for plan in heuristic_plans(walks)]
    plans += [("policy set", plan.head(walks)) for plan in policy_plans(policies, 1)]
    return same_as_recorded(Recording(WALKS), jobs, plans)


def heuristic(real, walks):
    """The heuristic with noise, on the same draws in both."""
    rows = []
    for plan in heuristic_plans(walks):
        theirs = real.episodes("heuristic", plan)
        ours = walk_ours(plan.pilots)
        error = np.sqrt((ours.returns.var(ddof=1) + theirs.returns.var(ddof=1)) / walks)
        bound = 1.36 * np.sqrt(2 / walks)  # 95 of 100 pairs of samples of one distribution stay below it
        means, fell = (ours.returns, theirs.returns), (ours.share(FELL), theirs.share(FELL))
        distance = ks_distance(*means)
        rows += [
            compared("heuristic: KS distance of the returns", plan.name, distance, None, "at most", bound),
            compared("heuristic: mean return", plan.name, *map(np.mean, means), "apart", 3 * error),
            compared("heuristic: fell", plan.name, *fell, "apart", 3 * np.sqrt(0.5 / walks)),
            Row("heuristic: arrived", plan.name, "exact", ours.share(ARRIVED), theirs.share(ARRIVED)),
        ]
    return rows


def random_actions(walks):
    """Random actions; Gymnasium's mean and spread were measured over 1000 episodes. Three standard errors."""
    limit = 3 * 15.1 * np.sqrt(1 / walks + 1 / 1000)
    rows = []
    mean = walk_ours(random_pilots(np.arange(walks), SEED)).returns.mean()
    rows.append(compared("random actions: mean return", "walker", mean, -99.6, "apart", limit))
    return rows


def policy_set(real, policies, episodes):
    """Mean returns of perturbed heuristics: does the simulator rank pilots as the real environment does? Walks on the
    same draws soon have nothing in common, so that even a perfect simulator has sampling noise in the RMSE."""
    rows = []
    for plan in policy_plans(policies, episodes):
        real_returns = real.episodes("policy set", plan).returns.reshape(episodes, policies)
        returns = walk_ours(plan.pilots).returns.reshape(episodes, policies)
        ours, theirs = returns.mean(axis=0), real_returns.mean(axis=0)
        rmse, correlation = np.sqrt(np.mean((ours - theirs) ** 2)), np.corrcoef(ours, theirs)[0, 1]
        noise = np.sqrt(np.mean((returns - real_returns).var(axis=0, ddof=1)) / episodes)
        bias = 3 * noise / np.sqrt(policies)
        # Noise of this size in both, and nothing else, leaves a correlation of 1 - (noise^2 / 2) / variance.
        alike = 1 - 2.5 * noise**2 / 2 / theirs.var(ddof=1)
        means = ours.mean(), theirs.mean()
        rows += [
            compared("policy set: RMSE of mean returns", plan.name, rmse, None, "at most", 1.4 * noise),
            Row("policy set: sampling noise in the RMSE", plan.name, "exact", float(noise), None),
            compared("policy set: mean return", plan.name, *means, "apart", bias),
            compared("policy set: correlation of mean returns", plan.name, correlation, None, "at least", alike),
        ]
    return rows
