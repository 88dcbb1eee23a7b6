"""What an evaluation of a policy says."""

from __future__ import annotations

from typing import NamedTuple


class Evaluation(NamedTuple):
    """Whole episodes of a policy: undiscounted returns, one episode per environment."""

    episodes: int
    mean: float
    std: float
    min: float
    max: float
    mean_length: float
