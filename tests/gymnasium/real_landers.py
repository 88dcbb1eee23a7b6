"""Gymnasium's own LunarLander flown on Perilune's random draws, so that both fly the same episodes.

Environment i of a run with seed s draws from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011) with key {s, 0} and counter {i, episode, step, purpose << 16 | block}, as in sims/rng.hpp. Here that
is written anew over NumPy arrays, and an object that hands the numbers out takes the place of Gymnasium's generator.
"""

import numpy as np
from gymnasium.envs.box2d.lunar_lander import LunarLander

RESET, STEP, PILOT = 0, 1, 5  # purposes in sims/rng_key.hpp; the last is the one for tests
MAX_STEPS = 1000  # Gymnasium's TimeLimit of LunarLander-v3


def philox(seed, environment, episode, step, purpose, block):
    """Words [..., 4], uint32, of one block; all arguments but `seed` may be arrays, which broadcast."""
    key = [np.uint64(seed), np.uint64(0)]
    counter = np.broadcast_arrays(environment, episode, step, purpose << 16 | np.asarray(block))
    a, b, c, d = (word.astype(np.uint64) for word in counter)
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        first, second = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = second >> shift ^ b ^ key[0], second & low, first >> shift ^ d ^ key[1], first & low
        key = [key[0] + np.uint64(0x9E3779B9) & low, key[1] + np.uint64(0xBB67AE85) & low]
    return np.stack([a, b, c, d], axis=-1).astype(np.uint32)


def uniform(bits, low, high):
    """float32 within low and high, as CounterRandom<float>::uniform."""
    unit = (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return np.float32(low) + (np.float32(high) - np.float32(low)) * unit


def integer(bits, low, high):
    """Integers from low to high - 1, as CounterRandom::integer."""
    return low + (bits.astype(np.uint64) * np.uint64(high - low) >> np.uint64(32)).astype(np.int64)


class CounterDraws:
    """Stands for the environment's generator: what environment `number` of a run with `seed` draws in episode 0."""

    def __init__(self, seed, number):
        blocks = philox(seed, number, 0, 0, RESET, np.arange(5))  # a reset takes 16 words, or 18 with wind
        steps = philox(seed, number, 0, np.arange(MAX_STEPS), STEP, 0)
        self._reset, self._steps, self._words = blocks.reshape(-1), steps, iter(())

    def begin_reset(self):
        self._words = iter(self._reset)

    def begin_step(self, step):
        self._words = iter(self._steps[step])

    def uniform(self, low, high, size=None):
        if size is None:
            return float(uniform(next(self._words), low, high))
        words = np.array([next(self._words) for _ in range(np.prod(size))])
        return uniform(words, low, high).astype(float).reshape(size)

    def integers(self, low, high):
        return int(integer(next(self._words), low, high))


class RealLanders:
    """Environments `numbers` of a run with `seed`, stepped together as perilune.VectorEnv steps them, for one episode
    each: what has ended stays where it is. parameters: Gymnasium's, such as enable_wind=True."""

    def __init__(self, continuous, numbers, seed, **parameters):
        self._landers = [LunarLander(continuous=continuous, **parameters) for _ in numbers]
        self._draws = [CounterDraws(seed, number) for number in numbers]
        for lander, draws in zip(self._landers, self._draws, strict=True):
            lander._np_random = draws
        self._running = np.ones(len(self._landers), bool)
        self._observations = np.zeros((len(self._landers), 8), np.float32)
        self._step = 0

    def reset(self):
        """The first observations, float32 [n, 8]."""
        for i, (lander, draws) in enumerate(zip(self._landers, self._draws, strict=True)):
            draws.begin_reset()
            self._observations[i], _ = lander.reset()
        return self._observations.copy()

    def step(self, actions):
        """actions: integers [n], or float32 [n, 2]. Returns observations, rewards, terminated, truncated, infos."""
        rewards, terminated = np.zeros(len(self._landers)), np.zeros(len(self._landers), bool)
        for i in np.flatnonzero(self._running):
            self._draws[i].begin_step(self._step)
            self._observations[i], rewards[i], terminated[i], _, _ = self._landers[i].step(actions[i])
        self._running &= ~terminated
        self._step += 1
        truncated = np.full(len(self._landers), self._step >= MAX_STEPS)
        return self._observations.copy(), rewards, terminated, truncated, {}
