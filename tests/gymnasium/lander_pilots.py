"""Pilots that fly many landers at once: Gymnasium's heuristic, with other gains and with noise."""

from dataclasses import dataclass

import numpy as np

from real_environments import LANDER_STEPS, PILOT, integer, philox, real_landers, uniform

# The constants of gymnasium.envs.box2d.lunar_lander.heuristic, in its order; of observations, so angles are in rad and
# the rest is in units of the screen.
GAINS = np.array(
    [
        0.5,
        1.0,
        0.4,  # lean towards the pad: per x, per vx, at most
        0.55,  # height that is aimed for, per |x|
        0.5,
        1.0,  # how much to turn: per error of the angle, per spin
        0.5,
        0.5,  # how much to rise: per error of the height, per vy
        0.5,  # the same per vy on the ground
    ],
    np.float32,
)


# How a flight ends: asleep on the ground, with the hull on it, out at the side, or with the time limit.
LANDED, CRASHED, LOST, FLYING = range(4)


@dataclass
class Pilots:
    """One pilot for each of n landers. gains: float32 [n, 9] as GAINS; noise: the probability [n] of a random action;
    seed and numbers: which random numbers decide on those, as in real_environments.py."""

    continuous: bool
    gains: np.ndarray
    noise: np.ndarray
    seed: int
    numbers: np.ndarray

    MAX_STEPS, ON_THE_WAY = LANDER_STEPS, FLYING

    def part(self, begin, end):
        return Pilots(self.continuous, self.gains[begin:end], self.noise[begin:end], self.seed, self.numbers[begin:end])

    def real_environments(self, seed, **parameters):
        return real_landers(self.continuous, self.numbers, seed, **parameters)

    def ends(self, observations, rewards):
        """Asleep gives exactly 100, else it is -100."""
        lost = np.where(np.abs(observations[:, 0]) >= 1, LOST, CRASHED)
        return np.where(rewards == 100, LANDED, lost)

    def act(self, observations, step):
        """Actions for observations float32 [n, 8]: integers [n], or float32 [n, 2]."""
        turn, rise = self._intent(observations)
        if self.continuous:
            actions = np.clip(np.stack([rise * 20 - 1, -turn * 20], axis=1), -1, 1)
        else:
            actions = np.where(turn < -0.05, 3, np.where(turn > 0.05, 1, 0))
            actions = np.where((rise > np.abs(turn)) & (rise > 0.05), 2, actions)
        if not self.noise.any():
            return actions
        words = philox(self.seed, self.numbers, 0, step, PILOT, 0)
        if self.continuous:
            random = uniform(words[:, 1:3], -1, 1)
        else:
            random = integer(words[:, 1], 0, 4)
        at_random = uniform(words[:, 0], 0, 1) < self.noise
        return np.where(at_random[:, None] if self.continuous else at_random, random, actions)

    def _intent(self, observations):
        x, y, vx, vy, angle, spin, right_leg, left_leg = observations.T
        lean_x, lean_vx, lean_most, hover_x, turn_angle, turn_spin, rise_y, rise_vy, brake_vy = self.gains.T
        lean = np.clip(x * lean_x + vx * lean_vx, -lean_most, lean_most)
        turn = (lean - angle) * turn_angle - spin * turn_spin
        rise = (hover_x * np.abs(x) - y) * rise_y - vy * rise_vy
        on_ground = (right_leg != 0) | (left_leg != 0)
        return np.where(on_ground, np.float32(0), turn), np.where(on_ground, -vy * brake_vy, rise)


def heuristic_pilots(continuous, numbers):
    """Gymnasium's heuristic for the landers with these numbers."""
    return Pilots(continuous, np.tile(GAINS, (len(numbers), 1)), np.zeros(len(numbers)), 0, numbers)


def random_pilots(continuous, numbers, seed):
    """Actions drawn from the whole action space, independently."""
    return Pilots(continuous, np.tile(GAINS, (len(numbers), 1)), np.ones(len(numbers)), seed, numbers)


def perturbed_pilots(continuous, numbers, policies, seed):
    """`policies` heuristics of all qualities for len(numbers) landers, one after the other: lander i is flown by policy
    numbers[i] % policies. Each gain is multiplied by exp(0.35 N(0, 1)), and up to a fifth of the actions are random."""
    rng = np.random.default_rng(seed)
    gains = (GAINS * np.exp(0.35 * rng.standard_normal((policies, len(GAINS))))).astype(np.float32)
    noise = rng.uniform(0, 0.2, policies)
    which = numbers % policies
    return Pilots(continuous, gains[which], noise[which], seed, numbers)
