#!/usr/bin/env python3
"""Records episodes of Gymnasium's LunarLander-v3 for tests/sims/lunar_lander_test.cpp (needs gymnasium[box2d]).

Writes beside itself: lunar_lander_episodes.csv (a row per episode: what reset drew), lunar_lander_steps.csv (a row per
step, t = 0 is the step inside reset) and lunar_lander_sines.csv (what the C library here makes of some angles: Box2D
calls it, so only with the same sines can its bodies be reproduced to the bit).
"""

import ctypes
import math

import numpy as np
from gymnasium.envs.box2d import lunar_lander
from gymnasium.utils.seeding import np_random
from recording import columns, states, write

# Seeds of the heuristic's episodes: 1003, 4004 and 4019 have a leg slide over a vertex of the ground.
EPISODES = [
    # continuous, wind, heuristic, seeds
    (False, False, False, [0, 1]),
    (False, False, True, [1003, 1001]),
    (True, False, False, [2000, 2001]),
    (True, False, True, [3000, 3001]),
    (False, True, True, [4004, 4019]),
    (True, True, False, [5000, 5001]),
]


class Recorder:
    """Stands for the environment's generator and keeps what it drew."""

    def __init__(self, seed):
        self.generator = np_random(seed)[0]
        self.drawn = []

    def uniform(self, *args, **kwargs):
        drawn = self.generator.uniform(*args, **kwargs)
        self.drawn.append(np.array(drawn, ndmin=1))  # a copy: reset overwrites some of the heights
        return drawn

    def integers(self, *args):
        drawn = self.generator.integers(*args)
        self.drawn.append([drawn])
        return drawn

    def take(self):
        drawn, self.drawn = [float(x) for draw in self.drawn for x in draw], []
        return drawn


def episode(continuous, wind, heuristic, seed):
    env = lunar_lander.LunarLander(continuous=continuous, enable_wind=wind)
    env._np_random = Recorder(seed)
    pilot = np.random.default_rng(seed)
    observation = env.reset()[0]
    drawn = env._np_random.take()
    start, dispersion = drawn[: 16 if wind else 14], drawn[-2:]
    rows = [[seed, 0, 0, 0, *dispersion, 0, 0, *observation, *states([env.lander, *env.legs])]]
    for t in range(1, 1001):
        if heuristic:
            action = lunar_lander.heuristic(env, observation)
        else:
            action = pilot.uniform(-1, 1, 2) if continuous else int(pilot.integers(4))
        if continuous:  # as an agent would hand it over
            action = np.asarray(action, np.float32)
        observation, reward, terminated, _, _ = env.step(action)
        pair = list(map(float, action)) if continuous else [action, 0]
        bodies = states([env.lander, *env.legs])
        rows.append([seed, t, *pair, *env._np_random.take(), reward, int(terminated), *observation, *bodies])
        if terminated:
            break
    return [seed, int(continuous), int(wind), *start, *[0.0] * (16 - len(start))], rows


def main():
    episodes, steps = [], []
    for *kind, seeds in EPISODES:
        for seed in seeds:
            start, rows = episode(*kind, seed)
            episodes.append(start)
            steps += rows
    write(
        "lunar_lander_episodes.csv",
        [
            "seed",
            "continuous",
            "wind",
            *[f"height{i}" for i in range(12)],
            "force_x",
            "force_y",
            "wind_index",
            "torque_index",
        ],
        episodes,
    )
    write(
        "lunar_lander_steps.csv",
        [
            "seed",
            "t",
            "action0",
            "action1",
            "dispersion0",
            "dispersion1",
            "reward",
            "terminated",
            *[f"obs{i}" for i in range(8)],
            *columns(["hull", "right", "left"]),
        ],
        steps,
    )
    library = ctypes.CDLL("libm.so.6")
    library.sinf.restype = library.cosf.restype = ctypes.c_float
    angles = [np.float32(0.731 * math.sin(1.7 * i) * (1 + i % 7)) for i in range(400)]
    write(
        "lunar_lander_sines.csv",
        ["angle", "sin", "cos"],
        [[a, library.sinf(ctypes.c_float(a)), library.cosf(ctypes.c_float(a))] for a in angles],
    )


main()
