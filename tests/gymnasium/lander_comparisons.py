"""What is compared between Perilune's landers and Gymnasium's LunarLander: each comparison is a function giving rows.

Solvers: "exact" and "fast" are LunarLander-v3's two, "simplified" is Lander-v0. Limits: a mean return of the heuristic
may differ by some three standard errors of two samples of 1000 episodes (with wind 200), and the Kolmogorov-Smirnov
distance of two such samples stays below its 5% bound; the simplified lander may be off by 12 points.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium.envs.box2d import lunar_lander

import perilune
from episodes import GOLDEN, SEED, Plan, Recording, Row, ks_distance, play_ours, play_real, same_as_recorded
from lander_pilots import CRASHED, LANDED, heuristic_pilots, perturbed_pilots, random_pilots

FLIGHTS = GOLDEN / "lunar_lander_flights.npz"
SOLVERS = ("exact", "fast", "simplified")
COMBINATIONS = ((False, False), (True, False), (False, True), (True, True))  # continuous, wind


def name_of(continuous, wind=False):
    return ("continuous" if continuous else "discrete") + (", wind" if wind else "")


def fly_ours(solver, pilots, keep=0, **parameters):
    """Flights in environments 0 .. n-1 of a run with SEED."""
    family = "Lander{}-v0" if solver == "simplified" else "LunarLander{}-v3"
    if solver == "fast":
        parameters["fast_solver"] = True
    return play_ours(family.format("Continuous" if pilots.continuous else ""), pilots, keep=keep, **parameters)


def heuristic_plans(flights):
    for continuous, wind in COMBINATIONS:
        pilots = heuristic_pilots(continuous, np.arange(flights))
        yield Plan(name_of(continuous, wind), pilots, {"enable_wind": wind})


def policy_plans(policies, episodes):
    """Lander i is flown by policy i % policies, so that the head of a plan has fewer episodes of each."""
    for continuous in (False, True):
        numbers = np.arange(policies * episodes)
        yield Plan(name_of(continuous), perturbed_pilots(continuous, numbers, policies, SEED), {})


# ---- Recorded episodes, played again with their draws and actions.


@dataclass
class Recorded:
    """An episode of Gymnasium's: draws in order, actions [T] or [T, 2], observations [T+1, 8], bodies [T+1, 3, 6]
    (x, y, angle, vx, vy, w of hull, right and left leg)."""

    continuous: bool
    wind: bool
    draws: np.ndarray
    actions: np.ndarray
    observations: np.ndarray
    bodies: np.ndarray
    terminated: bool


def read_golden(path):
    """The episodes of one .npz file: heights [n, 12], force [n, 2], wind [n, 2] (0: no wind), terminated [n], nsteps
    [n]; act of every step of all episodes, and with one more for each reset disp [., 2], obs [., 8], bodies
    [., 3, >= 6]. Draws are as the distributions gave them."""
    with np.load(path) as file:
        data = dict(file)
    steps = np.cumsum([0, *data["nsteps"]])
    rows = np.cumsum([0, *(data["nsteps"] + 1)])
    for i in range(len(data["nsteps"])):
        step, row = slice(steps[i], steps[i + 1]), slice(rows[i], rows[i + 1])
        wind = data["wind"][i] if data["wind"].any() else []
        draws = np.concatenate([data["heights"][i], data["force"][i], wind, data["disp"][row].reshape(-1)])
        yield Recorded(
            data["act"].ndim == 2,
            len(wind) > 0,
            draws,
            data["act"][step],
            data["obs"][row],
            data["bodies"][row, :, :6],
            bool(data["terminated"][i]),
        )


def read_recording(folder=GOLDEN):
    """The episodes that record_lunar_lander.py wrote."""
    steps = np.loadtxt(folder / "lunar_lander_steps.csv", delimiter=",")
    for episode in np.loadtxt(folder / "lunar_lander_episodes.csv", delimiter=","):
        seed, continuous, wind = episode[0], bool(episode[1]), bool(episode[2])
        rows = steps[steps[:, 0] == seed]
        draws = np.concatenate([episode[3 : 19 if wind else 17], rows[:, 4:6].reshape(-1)])
        actions = rows[1:, 2:4].astype(np.float32) if continuous else rows[1:, 2].astype(int)
        bodies, terminated = rows[:, 16:].reshape(-1, 3, 6), bool(rows[-1, 7])
        yield Recorded(continuous, wind, draws, actions, rows[:, 8:16], bodies, terminated)


def replays(name, episodes):
    """Recorded episodes in Gymnasium's own arithmetic (the task in float64, Box2D's world in float32), and in float32
    throughout with our sine, as everything but replays computes. Before the first contact that stays within 2e-3 (m,
    rad, m/s, rad/s); after it, a landing now and then falls asleep a step early or late."""
    episodes, rows = list(episodes), []
    most = 0.95 * len(episodes)  # 114 of 120
    for arithmetic, dtype in (("reference", "float64"), ("exact", "float32")):
        errors, same_end = [], 0
        for episode in episodes:
            error, same = replay_error(episode, dtype)
            errors.append(error)
            same_end += same
        close = sum(error <= 1e-5 for error in errors)
        rows += [
            Row("largest error before contact", name, arithmetic, float(max(errors)), None, "at most", 2e-3),
            Row(
                "episodes within 1e-5 before contact",
                name,
                arithmetic,
                close,
                len(episodes),
                "at least",
                most if arithmetic == "reference" else None,
            ),
            Row("episodes with the same last step", name, arithmetic, same_end, len(episodes), "at least", most),
        ]
    return rows


def replay_error(episode, dtype):
    """(largest error before the first contact, is the last step the same) of a recorded episode."""
    env_id = "LunarLanderContinuous-v3" if episode.continuous else "LunarLander-v3"
    ours = perilune.replay(env_id, episode.draws, episode.actions, dtype=dtype, enable_wind=episode.wind)
    length = min(len(ours["reward"]), len(episode.actions))
    touched = np.flatnonzero(episode.observations[:, 6:].any(axis=1))
    before = min(length, touched[0]) if len(touched) else length
    error = max(
        np.abs(ours["obs"][:before] - episode.observations[:before]).max(),
        np.abs(ours["bodies"][:before] - episode.bodies[:before]).max(),
    )
    return error, length == len(episode.actions) and ours["terminated"][-1] == episode.terminated


# ---- Flown now.


def heuristic_is_gymnasiums(samples=2000):
    """The heuristic of pilots.py against Gymnasium's own, one observation after the other, for actions that differ."""
    rng = np.random.default_rng(3)
    observations = rng.normal(0, [0.4, 0.6, 0.3, 0.3, 0.2, 0.2, 0, 0], (samples, 8)).astype(np.float32)
    observations[:, 6:] = rng.random((samples, 2)) < 0.2
    rows = []
    for continuous in (False, True):
        env = lunar_lander.LunarLander(continuous=continuous)
        ours = heuristic_pilots(continuous, np.arange(samples)).act(observations, 0)
        theirs = np.array([lunar_lander.heuristic(env, observation) for observation in observations])
        different = int(np.sum(np.any((ours != theirs).reshape(samples, -1), axis=1)))
        rows.append(Row("heuristic: actions that differ", name_of(continuous), "-", different, None, "at most", 0))
    return rows


def free_flight(flights, jobs):
    """Random pilots before either touches the ground: the exact solver in every step. The fast one lets a leg reach its
    stop a step early or late now and then, which turns the hull for that step by 0.02 rad/s; it and the simplified
    lander are compared by the mean error of x, y (m) and the angle (rad) after a second."""
    rows = []
    for continuous, wind in COMBINATIONS:
        pilots = random_pilots(continuous, np.arange(flights), SEED)
        real = play_real(jobs, pilots, keep=50, enable_wind=wind)
        for solver in SOLVERS:
            ours = fly_ours(solver, pilots, keep=50, enable_wind=wind)
            rows += free_flight_rows(ours, real, name_of(continuous, wind), solver)
    return rows


def free_flight_rows(ours, real, name, solver):
    legs = ours.observations[..., 6:].any(axis=2) | real.observations[..., 6:].any(axis=2)
    over = legs | (np.arange(len(legs))[:, None] >= np.minimum(ours.lengths, real.lengths))
    flying = ~np.maximum.accumulate(over, axis=0)
    errors = np.abs(ours.observations - real.observations)
    poses = errors[-1][flying[-1]][:, [0, 1, 4]] * [10, 20 / 3, 1]
    simplified, exact = solver == "simplified", solver == "exact"
    return [
        Row(
            "first observation: largest error",
            name,
            solver,
            float(errors[0].max()),
            None,
            "at most",
            None if simplified else 1e-4,
        ),
        Row(
            "free flight: largest error",
            name,
            solver,
            float(errors[flying].max()),
            None,
            "at most",
            2e-3 if exact else None,
        ),
        Row(
            "free flight: mean error after 50 steps",
            name,
            solver,
            float(poses.mean(axis=0).max()),
            None,
            "at most",
            1e-2 if simplified else 2e-3,
        ),
    ]


def recording_holds(flights, policies, jobs):
    plans = [("heuristic", plan) for plan in heuristic_plans(flights)]
    plans += [("policy set", plan.head(flights)) for plan in policy_plans(policies, 1)]
    return same_as_recorded(Recording(FLIGHTS), jobs, plans)


def heuristic(real, same, flights):
    """The heuristic calm and in wind: `same` episodes on the same draws in both, and `flights` here against those that
    were recorded from Gymnasium with its own random numbers. Crashes in wind tell of legs that are too stiff or joints
    that are not solved well: two in five end with one."""
    rows = []
    for plan in heuristic_plans(flights):
        theirs = real.episodes("heuristic", plan.head(same))
        for solver in SOLVERS:
            ours = fly_ours(solver, plan.pilots, **plan.parameters)
            rows += same_draws(ours.head(same), theirs, plan, solver)
            rows += statistics(ours, plan, solver)
    return rows


def same_draws(ours, real, plan, solver):
    difference = ours.returns - real.returns
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    mean, share = limits(plan, solver)
    alike = float(np.mean((ours.lengths == real.lengths) & (ours.ends == real.ends)))
    name = plan.name
    return [
        Row(
            "same draws: mean return",
            name,
            solver,
            float(ours.returns.mean()),
            float(real.returns.mean()),
            "apart",
            min(mean, 12),
        ),
        Row("same draws: standard error of the difference", name, solver, error, None),
        Row("same draws: landed", name, solver, ours.share(LANDED), real.share(LANDED), "apart", share),
        Row("same draws: crashed", name, solver, ours.share(CRASHED), real.share(CRASHED), "apart", share),
        Row("same draws: same end in the same step", name, solver, alike, None),
    ]


def limits(plan, solver):
    """How far the heuristic's mean return and its shares of landings and crashes may be off from those of Gymnasium's
    own draws. On the same draws, 12 points must do in wind, too."""
    if plan.parameters["enable_wind"]:
        return 35, 0.10
    return 3 if plan.pilots.continuous and solver != "simplified" else 12, 0.03


def statistics(ours, plan, solver):
    returns, landed, crashed = recorded_returns(plan.pilots.continuous, plan.parameters["enable_wind"])
    mean, share = limits(plan, solver)
    # 0.061 is 1.36 sqrt(2 / 1000), which 95 of 100 pairs of samples of one distribution stay below.
    bound = 1.36 * np.sqrt(1 / min(1000, len(ours.returns)) + 1 / len(returns))
    name = plan.name
    return [
        Row("recorded: mean return", name, solver, float(ours.returns.mean()), float(returns.mean()), "apart", mean),
        Row("recorded: landed", name, solver, ours.share(LANDED), float(landed.mean()), "apart", share),
        Row("recorded: crashed", name, solver, ours.share(CRASHED), float(crashed.mean()), "apart", share),
        Row(
            "recorded: KS distance of the returns",
            name,
            solver,
            ks_distance(ours.returns, returns),
            None,
            "at most",
            None if solver == "simplified" else float(bound),
        ),
    ]


def recorded_returns(continuous, wind):
    """returns, landed (asleep), crashed of Gymnasium's heuristic in its LunarLander-v3, one episode from each of
    reset(seed=0), reset(seed=1), ...: 1000 of them, with wind 200."""
    name = f"lunar_lander_stats_{'cont' if continuous else 'disc'}{'_wind' if wind else ''}.csv"
    _, returns, _, landed, game_over = np.loadtxt(GOLDEN / name, delimiter=",").T
    return returns, landed == 1, (landed == 0) & (game_over == 1)


def random_actions(flights):
    """Random actions; Gymnasium's means and spreads were measured over 1000 episodes. Three standard errors."""
    rows = []
    for continuous, mean, spread in ((False, -181.7, 109.5), (True, -209.8, 125.6)):
        limit = 3 * spread * np.sqrt(1 / flights + 1 / 1000)
        for solver in SOLVERS:
            ours = fly_ours(solver, random_pilots(continuous, np.arange(flights), SEED))
            rows.append(
                Row(
                    "random actions: mean return",
                    name_of(continuous),
                    solver,
                    float(ours.returns.mean()),
                    mean,
                    "apart",
                    float(limit),
                )
            )
    return rows


def policy_set(real, policies, episodes):
    """Mean returns of perturbed and noisy heuristics, on the same draws in both: does a simulator rank pilots as the
    real environment does? Finitely many episodes leave noise in the RMSE, less where both fly alike for longer."""
    rows = []
    for plan in policy_plans(policies, episodes):
        real_returns = real.episodes("policy set", plan).returns.reshape(episodes, policies)
        for solver in SOLVERS:
            returns = fly_ours(solver, plan.pilots).returns.reshape(episodes, policies)
            ours, theirs = returns.mean(axis=0), real_returns.mean(axis=0)
            rmse, correlation = np.sqrt(np.mean((ours - theirs) ** 2)), np.corrcoef(ours, theirs)[0, 1]
            noise = np.sqrt(np.mean((returns - real_returns).var(axis=0, ddof=1)) / episodes)
            simplified = solver == "simplified"
            rows += [
                Row(
                    "policy set: RMSE of mean returns",
                    plan.name,
                    solver,
                    float(rmse),
                    None,
                    "at most",
                    15 if simplified else 12,
                ),
                Row("policy set: sampling noise in the RMSE", plan.name, solver, float(noise), None),
                Row(
                    "policy set: mean return",
                    plan.name,
                    solver,
                    float(ours.mean()),
                    float(theirs.mean()),
                    "apart",
                    None if simplified else 4,
                ),
                Row(
                    "policy set: correlation of mean returns",
                    plan.name,
                    solver,
                    float(correlation),
                    None,
                    "at least",
                    0.99 if simplified else 0.995,
                ),
            ]
    return rows
