"""What recordings of Gymnasium's Box2D environments share: their bodies' states, and files of numbers."""

from pathlib import Path

import numpy as np

STATE = ("x", "y", "angle", "vx", "vy", "w")


def states(bodies):
    """The numbers of STATE of each body, one after the other."""
    return [
        x
        for b in bodies
        for x in (b.position.x, b.position.y, b.angle, b.linearVelocity.x, b.linearVelocity.y, b.angularVelocity)
    ]


def columns(bodies):
    """The names of those numbers."""
    return [f"{body}_{x}" for body in bodies for x in STATE]


def digits(x):
    """All that x has: as a float32 if it is one."""
    x = float(x)
    return f"{x:.9g}" if x == float(np.float32(x)) else f"{x:.17g}"


def write(name, columns, rows):
    lines = ["# " + ",".join(columns)] + [",".join(map(digits, row)) for row in rows]
    (Path(__file__).parent / name).write_text("\n".join(lines) + "\n")
