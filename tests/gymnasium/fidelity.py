#!/usr/bin/env python3
"""How close Perilune's landers and walker are to Gymnasium's: one table, and the same as JSON.

  build/venv/bin/python tests/gymnasium/fidelity.py [--only landers|walkers] [--quick] [--jobs N] [--output FILE]
                                                    [--record] [GOLDEN.npz ...]

GOLDEN.npz: more recorded episodes to play again, in the format that read_golden of lander_comparisons.py or
walker_comparisons.py describes. The quick form needs the real environments' episodes in tests/golden, where --record of
the full form puts them. With --only, what FILE says of the others stays. Needs the package (tools/test or pip installs
it) and gymnasium[box2d]. Exit code 1 where a comparison is out of its limit.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
if "PERILUNE_BUILD_DIR" in os.environ:
    sys.path.insert(0, os.environ["PERILUNE_BUILD_DIR"] + "/python")
import lander_comparisons
import walker_comparisons
from episodes import Live, Recording


@dataclass
class Family:
    """What is compared with one environment of Gymnasium's. recording: its episodes on our draws; golden: an array that
    files of recorded episodes hold in this family alone; counts: how many episodes, and of each of how many pilots
    `policies`. In the quick form `quick_counts`, and `check` of the real environment's episodes are played again."""

    comparisons: ModuleType
    recording: Path
    golden: str
    counts: dict
    quick_counts: dict

    def stages(self, real, jobs, golden):
        """The comparisons by name: functions that return rows. real: Live, or None for the quick form."""
        quick = real is None
        counts = self.counts | self.quick_counts if quick else self.counts
        comparisons, real = self.comparisons, Recording(self.recording) if quick else real
        stages = {"replays": lambda: comparisons.replays("recorded", comparisons.read_recording())}
        for path in golden:
            if self.golden in np.load(path).files:
                episodes = comparisons.read_golden(path)
                stages[path] = lambda path=path, it=episodes: comparisons.replays(Path(path).stem, it)
        stages["pilots"] = comparisons.heuristic_is_gymnasiums
        if quick:
            stages["recording"] = lambda: comparisons.recording_holds(counts["check"], counts["policies"], jobs)
        return {**stages, **self.flown(real, jobs, counts)}


class Landers(Family):
    def flown(self, real, jobs, counts):
        it = self.comparisons
        return {
            "free flight": lambda: it.free_flight(counts["free_flights"], jobs),
            "heuristic": lambda: it.heuristic(real, counts["same"], counts["flights"]),
            "random actions": lambda: it.random_actions(counts["random"]),
            "policy set": lambda: it.policy_set(real, counts["policies"], counts["episodes"]),
        }


class Walkers(Family):
    def flown(self, real, jobs, counts):
        it = self.comparisons
        return {
            "starts": lambda: it.starts(counts["starts"], jobs),
            "heuristic": lambda: it.heuristic(real, counts["walks"]),
            "random actions": lambda: it.random_actions(counts["random"]),
            "policy set": lambda: it.policy_set(real, counts["policies"], counts["episodes"]),
        }


FAMILIES = {
    # Random flights before contact, flights of the heuristic on the same draws in both and here against recorded
    # statistics, flights with random actions, and of each of the policy set's pilots.
    "landers": Landers(
        lander_comparisons,
        lander_comparisons.FLIGHTS,
        "heights",
        {"free_flights": 200, "same": 1000, "flights": 3000, "random": 1000, "policies": 60, "episodes": 60},
        {"free_flights": 20, "check": 20},
    ),
    # First seconds with random actions, walks of the heuristic with noise, walks with random actions, and of each of
    # the policy set's pilots.
    "walkers": Walkers(
        walker_comparisons,
        walker_comparisons.WALKS,
        "terrain",
        {"starts": 200, "walks": 600, "random": 1000, "policies": 30, "episodes": 30},
        {"starts": 20, "random": 300, "episodes": 10, "check": 10},
    ),
}


def stages(family, real=None, jobs=1, golden=()):
    return FAMILIES[family].stages(real, jobs, golden)


def line_of(row):
    def number(value):
        return "" if value is None else f"{value:.4g}"

    rule = {"apart": "+-", "at most": "<=", "at least": ">="}[row.rule]
    limit = "" if row.limit is None else f"{rule} {row.limit:.4g}"
    verdict = "" if row.limit is None else "ok" if row.passed else "FAILED"
    return (
        f"{row.comparison:48} {row.environment:18} {row.solver:10} {number(row.ours):>9} {number(row.real):>9} "
        f"{limit:>10} {verdict}"
    )


def as_json(rows, counts):
    return {
        "gymnasium": importlib.metadata.version("gymnasium"),
        "box2d": importlib.metadata.version("box2d"),
        "counts": counts,
        "rows": [{**dataclasses.asdict(row), "passed": row.passed} for row in rows],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", nargs="*", metavar="GOLDEN.npz")
    parser.add_argument("--only", choices=FAMILIES, help="compare these alone")
    parser.add_argument("--quick", action="store_true", help="the real environment's episodes from a recording")
    parser.add_argument("--jobs", type=int, default=1, help="processes that play the real environment")
    parser.add_argument("--output", type=Path, help="also write JSON there")
    parser.add_argument("--record", action="store_true", help="keep the real environment's episodes for the quick form")
    options = parser.parse_args()
    begin, failed, count = time.perf_counter(), 0, 0
    results = json.loads(options.output.read_text()) if options.output and options.output.exists() else {}
    print(f"{'comparison':48} {'environment':18} {'solver':10} {'ours':>9} {'real':>9} {'limit':>10}")
    for name in [options.only] if options.only else FAMILIES:
        family, rows = FAMILIES[name], []
        real = None if options.quick else Live(options.jobs)
        for stage in family.stages(real, options.jobs, options.golden).values():
            new = stage()
            print("\n".join(map(line_of, new)), flush=True)
            rows += new
        failed += sum(not row.passed for row in rows)
        count += len(rows)
        results[name] = as_json(rows, family.counts | (family.quick_counts if options.quick else {}))
        if options.record and real is not None:
            real.save(family.recording)
    print(f"{count - failed} of {count} within their limits, {time.perf_counter() - begin:.0f} s")
    if options.output:
        options.output.write_text(json.dumps(results, indent=1, default=float) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
