"""The rank prior, corrected by a Gaussian process on what it got wrong here; without tables the process alone."""

from __future__ import annotations

from search.predictors import rank_residual
from search.proposing import Greedy, one_objective
from search.samplers import Setting

__all__ = ["make"]

_COLD = 2


def make(setting: Setting) -> Greedy:
    """The sampler for a setting."""
    one_objective(setting, "rank_residual")
    return Greedy(setting, rank_residual, first=0 if setting.prior.tables else _COLD)
