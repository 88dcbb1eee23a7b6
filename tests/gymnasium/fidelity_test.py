"""Perilune's landers fly as Gymnasium's LunarLander does, and its walker walks as BipedalWalker: the quick form of
fidelity.py, stage by stage."""

import pytest

pytest.importorskip("perilune", reason="the Python module is not built (tools/setup --tests)")
import fidelity
from real_environments import philox


def test_random_numbers_are_those_of_the_paper():
    """Known answers of the authors' own implementation (Random123, kat_vectors: philox4x32 10)."""
    assert philox(0, 0, 0, 0, 0, 0).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize(
    ("family", "stage"), [(family, stage) for family in fidelity.FAMILIES for stage in fidelity.stages(family)]
)
def test_within_limits(family, stage):
    rows = fidelity.stages(family)[stage]()
    lines = [fidelity.line_of(row) for row in rows]
    print("\n".join(lines))
    failed = [line for line, row in zip(lines, rows, strict=True) if not row.passed]
    assert rows and not failed, "\n" + "\n".join(failed)
