#!/usr/bin/env python3
"""The solver module by module against the real Box2D, on random inputs: one table, and the same as JSON.

  build/venv/bin/python tests/gymnasium/modules.py [--inputs N] [--build FOLDER] [--output FILE]

FOLDER: where the target solver_modules was built. Differences are in units in the last place of the number, or of 1
where it is smaller. In the arithmetic that has Box2D's sine numbers must be Box2D's, bit for bit; in ours a sine
may be off by a unit, and what comes of that is shown. Needs gymnasium[box2d]. Exit code 1 where a bit differs that must
not.
"""

import argparse
import ctypes
import dataclasses
import importlib.metadata
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium.envs.box2d.bipedal_walker import BipedalWalker
from gymnasium.envs.box2d.lunar_lander import LunarLander

sys.path.insert(0, str(Path(__file__).resolve().parent))
import real_modules

INPUTS, QUICK_INPUTS = 100_000, 2_000
ARITHMETICS = ("reference", "float")  # with Box2D's sine, and with ours
BODY = ["x", "y", "angle", "vx", "vy", "w"]
TWO_BODIES = [f"{body}_{column}" for body in "ab" for column in BODY]


@dataclass
class Module:
    """words: what it is; real: where it is in Box2D; columns: those of a result."""

    words: str
    real: str
    columns: list[str]


# By their names in modules.cpp and real_modules.py.
MODULES = {
    "joint_velocity": Module(
        "revolute joint, velocities",
        "b2RevoluteJoint::SolveVelocityConstraints",
        [*TWO_BODIES, "point_x", "point_y", "limit", "motor"],
    ),
    "joint_position": Module("revolute joint, positions", "b2RevoluteJoint::SolvePositionConstraints", TWO_BODIES),
    "contact_velocity": Module(
        "contact of one or two points, velocities",
        "b2ContactSolver::SolveVelocityConstraints",
        [*BODY, "normal0", "tangent0", "normal1", "tangent1"],
    ),
    "contact_position": Module(
        "contact of one or two points, positions", "b2ContactSolver::SolvePositionConstraints", BODY
    ),
    "edge_manifold": Module(
        "manifold of a polygon and an edge",
        "b2CollideEdgeAndPolygon",
        ["points", "on_polygon", "nx", "ny", "px", "py", "x0", "y0", "x1", "y1", "id0", "id1"],
    ),
    "impact": Module("time of impact", "b2TimeOfImpact", ["time"]),
    "impacts": Module("a step of a body that meets an edge on its way", "b2World::SolveTOI", BODY),
}
MASS = Module("shapes, masses and inertias", "b2PolygonShape, b2Body", [])  # constants
# Any distance within a quarter of the linear slop is an impact. Where several pairs of features are nearly as near (a
# vertex next to a side's end, parallel sides), Box2D's step-by-step search may go by another one than ours, which tries
# all, and stop at another such distance. Elsewhere all rows are the same.
LEAST_SAME = {"impact": 0.9999, "impacts": 0.9999}
BODILESS = {"joint_velocity", "joint_position"}  # random masses, no shape


@dataclass
class Row:
    """One line of the table: of `inputs` rows, the largest difference (ulps) and in which column it was, and the share
    of rows without any."""

    module: str
    words: str
    real: str
    body: str
    arithmetic: str
    inputs: int
    ulps: float
    column: str
    same: float

    @property
    def passed(self):
        return self.arithmetic == "float" or self.same >= LEAST_SAME.get(self.module, 1)


class Ours:
    """The functions of modules.cpp."""

    def __init__(self, build):
        path = Path(build) / "tests" / "libsolver_modules.so"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing - build the target solver_modules there, or name another --build"
            )
        self.library = ctypes.CDLL(str(path))

    def __call__(self, name, body, arithmetic, rows):
        rows = np.ascontiguousarray(rows, np.float32)
        results = np.zeros((len(rows), len(MODULES[name].columns)), np.float32)
        pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (rows, results))
        getattr(self.library, name)(body, ARITHMETICS.index(arithmetic), len(rows), *pointers)
        return results

    def constants(self, body):
        """Vertices [n, 2], normals [n, 2], centroid, and mass as real_modules.Shape has it."""
        values = np.zeros(64, np.float32)
        vertices = self.library.body_constants(body, values.ctypes.data_as(ctypes.c_void_p))
        return np.split(values[: 4 * vertices + 6], [2 * vertices, 4 * vertices, 4 * vertices + 2])


def real_bodies():
    """Gymnasium's, in the order of modules.cpp."""
    lander, walker = LunarLander(), BipedalWalker()
    lander.reset(seed=0), walker.reset(seed=0)
    return [
        real_modules.Shape.of("lander hull", lander, lander.lander),
        real_modules.Shape.of("lander leg", lander, lander.legs[0]),
        real_modules.Shape.of("walker hull", walker, walker.hull),
        real_modules.Shape.of("upper leg", walker, walker.legs[0]),
        real_modules.Shape.of("lower leg", walker, walker.legs[1]),
    ]


def row_of(name, module, body, arithmetic, ours, theirs):
    """The comparison of rows; where the first two columns of a manifold (how many points, on which shape's face)
    differ, the others are about something else."""
    alike = (ours[:, :2] == theirs[:, :2]).all(axis=1) if name == "edge_manifold" else np.full(len(ours), True)
    unit = np.spacing(np.maximum(np.abs(theirs), 1).astype(np.float32)).astype(np.float64)
    ulps = np.abs(ours.astype(np.float64) - theirs)[alike] / unit[alike]
    most = int(ulps.max(axis=0).argmax())
    return Row(
        name,
        module.words,
        module.real,
        body,
        arithmetic,
        len(ours),
        float(ulps.max()),
        module.columns[most] if ulps.max() > 0 else "",
        float((ours == theirs).all(axis=1).mean()),
    )


def mass_rows(ours, bodies):
    """What is compiled in: shapes and masses."""
    for i, body in enumerate(bodies):
        mine = np.concatenate(ours.constants(i))
        theirs = np.array([*body.vertices.ravel(), *body.normals.ravel(), *body.shape.centroid, *body.mass])
        columns = [f"{kind}{j}" for kind in ("vertex", "normal") for j in range(body.vertices.size)]
        columns += ["centroid_x", "centroid_y", "inverse_mass", "inverse_inertia", "center_x", "center_y"]
        module = dataclasses.replace(MASS, columns=columns)
        yield row_of("mass", module, body.name, "reference", mine[None], theirs[None])


def same_features(ours, theirs):
    """Whether the same pairs of features are told apart, of any points of all rows."""
    pairs = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def module_rows(ours, name, bodies, inputs):
    for i, body in enumerate([None] if name in BODILESS else bodies):
        rng = np.random.default_rng(len(name) + 100 * i)
        rows, theirs = getattr(real_modules, name)(rng, inputs, *([] if body is None else [body]))
        for arithmetic in ARITHMETICS:
            mine = ours(name, i, arithmetic, rows)
            if name == "edge_manifold":  # features have other numbers here
                if arithmetic == "reference" and not same_features(mine[:, -2:], theirs[:, -2:]):
                    raise ValueError(f"{body.name}: other points are taken for the same ones than in Box2D")
                mine[:, -2:] = theirs[:, -2:]
            yield row_of(name, MODULES[name], "random" if body is None else body.name, arithmetic, mine, theirs)


def stages(ours, inputs):
    """The comparisons by name: functions that return rows."""
    bodies = real_bodies()
    stages = {"mass": lambda: list(mass_rows(ours, bodies))}
    for name in MODULES:
        stages[name] = lambda name=name: list(module_rows(ours, name, bodies, inputs))
    return stages


def line_of(row):
    verdict = "" if row.arithmetic == "float" else "ok" if row.passed else "FAILED"
    return (
        f"{row.module:18} {row.body:12} {row.arithmetic:10} {row.inputs:7} {row.ulps:9.4g} {row.column:12} "
        f"{row.same:9.6f} {verdict}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="random inputs of each module and body")
    parser.add_argument("--build", default=os.environ.get("PERILUNE_BUILD_DIR", "build/release"))
    parser.add_argument("--output", type=Path, help="also write JSON there")
    options = parser.parse_args()
    begin, rows = time.perf_counter(), []
    print(f"{'module':18} {'body':12} {'arithmetic':10} {'inputs':>7} {'ulps':>9} {'in':12} {'same':>9}")
    for stage in stages(Ours(options.build), options.inputs).values():
        new = stage()
        print("\n".join(map(line_of, new)), flush=True)
        rows += new
    failed = sum(not row.passed for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} within their limits, {time.perf_counter() - begin:.0f} s")
    if options.output:
        result = {
            "box2d": importlib.metadata.version("box2d"),
            "rows": [{**dataclasses.asdict(row), "passed": row.passed} for row in rows],
        }
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
