#!/usr/bin/env python3
"""Records episodes of Gymnasium's BipedalWalker-v3 for tests (needs gymnasium[box2d]).

Writes beside itself: bipedal_walker_episodes.csv (a row per episode: the force and the ground's heights) and
bipedal_walker_steps.csv (a row per step, t = 0 is the step inside reset). Every episode has an environment of its own:
one that had another before goes through its contacts in another order.
"""

import numpy as np
from gymnasium.envs.box2d.bipedal_walker import BipedalWalker, BipedalWalkerHeuristics
from gymnasium.utils.seeding import np_random
from recording import columns, states, write

# Seeds of random actions, and of the heuristic: short episodes, for the files to be small.
EPISODES = [(False, [7, 12]), (True, [1004])]


class Recorder:
    """Stands for the environment's generator and keeps the last number that it drew: in a reset the force."""

    def __init__(self, seed):
        self.generator = np_random(seed)[0]

    def uniform(self, *args):
        self.last = self.generator.uniform(*args)
        return self.last

    def integers(self, *args):
        return self.generator.integers(*args)


def episode(heuristic, seed):
    env, pilot, random = BipedalWalker(), BipedalWalkerHeuristics(), np.random.default_rng(seed)
    env._np_random = Recorder(seed)
    observation = env.reset()[0]
    start = [seed, env._np_random.last, *env.terrain_y]
    rows = [[seed, 0, 0, 0, 0, 0, 0, 0, *observation, *states([env.hull, *env.legs])]]
    for t in range(1, 1601):
        action = pilot.step_heuristic(observation) if heuristic else random.uniform(-1, 1, 4)
        action = np.asarray(action, np.float32)  # as an agent would hand it over
        observation, reward, terminated, _, _ = env.step(action)
        bodies = states([env.hull, *env.legs])
        rows.append([seed, t, *map(float, action), reward, int(terminated), *observation, *bodies])
        if terminated:
            break
    return start, rows


def main():
    episodes, steps = [], []
    for heuristic, seeds in EPISODES:
        for seed in seeds:
            start, rows = episode(heuristic, seed)
            episodes.append(start)
            steps += rows
    write("bipedal_walker_episodes.csv", ["seed", "force", *[f"height{i}" for i in range(200)]], episodes)
    write(
        "bipedal_walker_steps.csv",
        [
            "seed",
            "t",
            *[f"action{i}" for i in range(4)],
            "reward",
            "terminated",
            *[f"obs{i}" for i in range(24)],
            *columns(["hull", "upper1", "lower1", "upper2", "lower2"]),
        ],
        steps,
    )


main()
