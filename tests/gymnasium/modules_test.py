"""The solver's modules give Box2D's numbers, bit for bit: the quick form of modules.py."""

import os
import platform
import zlib

import numpy as np
import pytest

pytest.importorskip("Box2D", reason="Box2D is not installed (tools/setup --tests)")
import modules
import real_modules

# Elsewhere Box2D's compiler may fuse multiplications with additions, which ours may not.
pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="Box2D's last bits are an x86's")


@pytest.fixture(scope="module")
def ours():
    return modules.Ours(os.environ["PERILUNE_BUILD_DIR"])


@pytest.mark.parametrize("stage", ["mass", *modules.MODULES])
def test_bits_are_box2ds(ours, stage):
    rows = modules.stages(ours, modules.QUICK_INPUTS)[stage]()
    print("\n".join(map(modules.line_of, rows)))
    assert rows and all(row.passed for row in rows), "\n".join(modules.line_of(row) for row in rows if not row.passed)


def test_a_bit_is_found(ours):
    """It is not the same numbers that are compared: with another sine, some differ in last places."""
    rows = modules.stages(ours, 500)["joint_velocity"]()
    other = next(row for row in rows if row.arithmetic == "float")
    assert 0.1 < other.same < 0.9 and 0 < other.ulps < 1e5


def shares(*masks):
    return [float(np.mean(mask)) for mask in masks]


def test_inputs_are_the_same_on_every_processor():
    """Otherwise a machine whose sine differs in a last bit compares other rows, which may hold one of the rare ties."""
    body = modules.real_bodies()[4]
    draws = [getattr(real_modules, name)(np.random.default_rng(3), 500, body)[0] for name in ("impact", "impacts")]
    assert [zlib.crc32(rows.tobytes()) for rows in draws] == [2937668216, 1858568513]


def test_inputs_reach_every_branch():
    """Of the random inputs, enough are of each kind that the modules tell apart."""
    rng = np.random.default_rng(2)
    bodies = modules.real_bodies()
    rows, results = real_modules.joint_velocity(rng, 400)
    limit, motor, most = results[:, 14], results[:, 15], rows[:, 17]
    assert min(shares(limit < 0, limit > 0, limit == 0, np.abs(motor) == most, np.abs(motor) < most)) > 0.05
    for body in bodies:
        rows, _ = real_modules.contact_velocity(rng, 400, body)
        points, on_polygon, impulses = rows[:, 6], rows[:, 7] != 0, rows[:, 16:20]
        assert min(shares(points == 1, points == 2, on_polygon, ~on_polygon, impulses[:, 0] > 0)) > 0.05, body.name
        _, results = real_modules.edge_manifold(rng, 400, body)
        assert min(shares(*(results[:, 0] == n for n in range(3)))) > 0.05, body.name
        _, times = real_modules.impact(rng, 400, body)
        assert min(shares(times < 1, times == 1)) > 0.2, body.name
        rows, results = real_modules.impacts(rng, 400, body)
        freely = np.abs(results[:, 3:] - rows[:, -3:]).max(axis=1) < 1e-5
        assert min(shares(freely, ~freely)) > 0.2, body.name
