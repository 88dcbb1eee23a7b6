#!/usr/bin/env python3
"""How close Perilune's landers are to Gymnasium's LunarLander: one table, and the same as JSON.

  build/venv/bin/python tests/gymnasium/fidelity.py [--quick] [--jobs N] [--output FILE] [GOLDEN.npz ...]

GOLDEN.npz: more recorded episodes to play again, in the format that comparisons.read_golden describes. The quick form
needs the real environment's flights in tests/golden/lunar_lander_flights.npz, where --record of the full form put
them. Needs the package (tools/test or pip installs it) and gymnasium[box2d]. Exit code 1 where a comparison is out of
its limit.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
if "PERILUNE_BUILD_DIR" in os.environ:
    sys.path.insert(0, os.environ["PERILUNE_BUILD_DIR"] + "/python")
import comparisons

# How many episodes: random flights before contact, of the heuristic on the same draws in both, of the heuristic here
# against recorded statistics, of random actions, and of each of the policy set's pilots. In the quick form the real
# environment's flights on the same draws are those that the full form recorded, and `check` of each are flown again.
COUNTS = {"free_flights": 200, "same": 1000, "flights": 3000, "random": 1000, "policies": 60, "episodes": 60}
QUICK_COUNTS = {**COUNTS, "free_flights": 20, "check": 20}


def stages(real=None, jobs=1, golden=()):
    """The comparisons by name: functions that return rows. real: comparisons.Live, or None for the quick form."""
    quick = real is None
    counts, real = (QUICK_COUNTS, comparisons.Recording()) if quick else (COUNTS, real)
    stages = {"replays": lambda: comparisons.replays("recorded", comparisons.read_recording())}
    for path in golden:
        stages[path] = lambda path=path: comparisons.replays(Path(path).stem, comparisons.read_golden(path))
    stages["pilots"] = comparisons.heuristic_is_gymnasiums
    if quick:
        stages["recording"] = lambda: comparisons.recording_holds(counts["check"], counts["policies"], jobs)
    return {
        **stages,
        "free flight": lambda: comparisons.free_flight(counts["free_flights"], jobs),
        "heuristic": lambda: comparisons.heuristic(real, counts["same"], counts["flights"]),
        "random actions": lambda: comparisons.random_actions(counts["random"]),
        "policy set": lambda: comparisons.policy_set(real, counts["policies"], counts["episodes"]),
    }


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
    parser.add_argument("--quick", action="store_true", help="the real environment's flights from a recording")
    parser.add_argument("--jobs", type=int, default=1, help="processes that fly the real environment")
    parser.add_argument("--output", type=Path, help="also write JSON there")
    parser.add_argument("--record", type=Path, help="keep the real environment's flights there, for the quick form")
    options = parser.parse_args()
    real, begin = None if options.quick else comparisons.Live(options.jobs), time.perf_counter()
    print(f"{'comparison':48} {'environment':18} {'solver':10} {'ours':>9} {'real':>9} {'limit':>10}")
    rows = []
    for stage in stages(real, options.jobs, options.golden).values():
        new = stage()
        print("\n".join(map(line_of, new)), flush=True)
        rows += new
    failed = sum(not row.passed for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} within their limits, {time.perf_counter() - begin:.0f} s")
    if options.output:
        counts = QUICK_COUNTS if options.quick else COUNTS
        options.output.write_text(json.dumps(as_json(rows, counts), indent=1, default=float) + "\n")
    if options.record and real is not None:
        real.save(options.record)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
