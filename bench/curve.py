#!/usr/bin/env python3
"""The learning curve of a finished run, as one small JSON object: means over equal parts of it, and every evaluation.

  bench/curve.py RUN [--parts 40] [--note TEXT]

A part's mean_return is that of the episodes that ended in it, null where none did. Needs only Python's own library.
"""

import json
from pathlib import Path

from harness import parser_of


def mean(values):
    return round(sum(values) / len(values), 3) if values else None


def main():
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--parts", type=int, default=40)
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    rows = [json.loads(line) for line in (options.run / "metrics.jsonl").read_text().splitlines()]
    evaluations = [[row["step"], round(row["eval/mean_return"], 1)] for row in rows if "eval/mean_return" in row]
    rows = [row for row in rows if "losses/value_loss" in row]  # evaluations may have rows of their own
    last = json.loads((options.run / "evaluation.json").read_text())
    size = -(-len(rows) // options.parts)
    parts = []
    for at in range(0, len(rows), size):
        part = rows[at : at + size]
        ended = [row for row in part if row["charts/episodes"]]
        episodes = sum(row["charts/episodes"] for row in ended)
        total = sum(row["charts/episodes"] * row["charts/episodic_return"] for row in ended)
        parts.append(
            {
                "step": part[-1]["step"],
                "episodes": episodes,
                "mean_return": round(total / episodes, 2) if episodes else None,
                "value_loss": mean([row["losses/value_loss"] for row in part]),
                "entropy": mean([row["losses/entropy"] for row in part]),
            }
        )
    seconds = rows[-1]["time"] - rows[0]["time"]
    print(
        json.dumps(
            {
                "benchmark": "curve",
                "environment": last["env"],
                "steps": last["steps"],
                "solved": last["solved"],
                "final_evaluation": last["eval"],
                "seconds": round(seconds),
                "note": options.note,
                "evaluations": evaluations,
                "rows": parts,
            }
        )
    )


if __name__ == "__main__":
    main()
