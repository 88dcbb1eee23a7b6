"""Gymnasium's own LunarLander and BipedalWalker on Perilune's random draws, so that both have the same episodes.

Environment i of a run with seed s draws from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011) with key {s, 0} and counter {i, episode, step, purpose << 16 | block}, as in sims/rng.hpp. Here that
is written anew over NumPy arrays, and an object that hands the numbers out takes the place of Gymnasium's generator.
"""

import numpy as np
from gymnasium.envs.box2d.bipedal_walker import BipedalWalker
from gymnasium.envs.box2d.lunar_lander import LunarLander

RESET, STEP, PILOT = 0, 1, 5  # purposes in sims/rng_key.hpp; the last is the one for tests
LANDER_STEPS, WALKER_STEPS = 1000, 1600  # Gymnasium's TimeLimit of LunarLander-v3 and of BipedalWalker-v3


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


def normal(words):
    """Standard normal numbers float32 [...] of words [..., 2], as CounterRandom::normal."""
    radius, angle = 1 - uniform(words[..., 0], 0, 1), np.float32(2 * np.pi) * uniform(words[..., 1], 0, 1)
    return np.sqrt(np.float32(-2) * np.log(radius)) * np.cos(angle)


class LanderDraws:
    """Stands for a lander's generator: what environment `number` of a run with `seed` draws in episode 0."""

    def __init__(self, seed, number):
        blocks = philox(seed, number, 0, 0, RESET, np.arange(5))  # a reset takes 16 words, or 18 with wind
        steps = philox(seed, number, 0, np.arange(LANDER_STEPS), STEP, 0)
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


class WalkerDraws:
    """The same for a walker. Ours draws what its ground may need at most: first how far apart the slope's pauses are,
    then for each vertex after the flat ones how its slope changes, also where that pauses; and then the force."""

    HEIGHTS, FLAT = 200, 20
    PAUSES = (HEIGHTS - FLAT) // 5 + 1

    def __init__(self, seed, number):
        words = self.PAUSES + self.HEIGHTS - self.FLAT
        self._words = philox(seed, number, 0, 0, RESET, np.arange(-(-words // 4))).reshape(-1)[:words]

    def begin_reset(self):
        pauses = integer(self._words[: self.PAUSES], 5, 10)
        at = self.FLAT + np.cumsum([0, *pauses])  # a pause's vertex draws no slope
        changes = self._words[self.PAUSES : -1]  # of vertices FLAT + 1, FLAT + 2, ...
        vertices = np.arange(self.FLAT + 1, self.HEIGHTS)
        self._pauses, self._changes = iter(pauses), iter(changes[~np.isin(vertices, at)])

    def begin_step(self, step):
        pass

    def uniform(self, low, high):
        if low == 0:  # clouds
            return 0.0
        return float(uniform(next(self._changes) if high == 1 else self._words[-1], low, high))

    def integers(self, low, high):
        return int(next(self._pauses))


class RealEnvironments:
    """Gymnasium's `environments` with the generators `draws`, stepped together as perilune.VectorEnv steps them, for
    one episode each: what has ended stays where it is."""

    def __init__(self, environments, draws, max_steps):
        self._environments, self._draws, self._max_steps = environments, draws, max_steps
        for environment, source in zip(environments, draws, strict=True):
            environment._np_random = source
        self._running = np.ones(len(environments), bool)
        self._step = 0

    def reset(self):
        """The first observations, float32 [n, numbers]."""
        for source in self._draws:
            source.begin_reset()
        self._observations = np.array([environment.reset()[0] for environment in self._environments])
        return self._observations.copy()

    def step(self, actions):
        """actions: integers [n], or float32 [n, numbers]. Returns observations, rewards, terminated, truncated,
        infos."""
        count = len(self._environments)
        rewards, terminated = np.zeros(count), np.zeros(count, bool)
        for i in np.flatnonzero(self._running):
            self._draws[i].begin_step(self._step)
            self._observations[i], rewards[i], terminated[i], _, _ = self._environments[i].step(actions[i])
        self._running &= ~terminated
        self._step += 1
        truncated = np.full(count, self._step >= self._max_steps)
        return self._observations.copy(), rewards, terminated, truncated, {}


def real_landers(continuous, numbers, seed, **parameters):
    """Environments `numbers` of a run with `seed`. parameters: Gymnasium's, such as enable_wind=True."""
    landers = [LunarLander(continuous=continuous, **parameters) for _ in numbers]
    return RealEnvironments(landers, [LanderDraws(seed, number) for number in numbers], LANDER_STEPS)


def real_walkers(numbers, seed):
    walkers = [BipedalWalker() for _ in numbers]
    return RealEnvironments(walkers, [WalkerDraws(seed, number) for number in numbers], WALKER_STEPS)
