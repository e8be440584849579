"""Quantune: boosted trees over knobs and model descriptors, always the best prediction (arXiv:2202.05048)."""

from __future__ import annotations

from search.predictors import boosted
from search.proposing import Greedy, one_objective
from search.samplers import Setting

__all__ = ["make"]

_COLD = 2


def make(setting: Setting, epsilon: float = 0.0) -> Greedy:
    """The sampler for a setting: with tables from the first trial on, without them after two random ones."""
    one_objective(setting, "quantune")
    return Greedy(setting, boosted, first=0 if setting.prior.tables else _COLD, epsilon=epsilon)
