"""The order of the mean rank on other models, whatever is measured here."""

from __future__ import annotations

from search.errors import SearchError
from search.predictors import mean_rank
from search.proposing import Greedy, one_objective
from search.samplers import Setting

__all__ = ["make"]


def make(setting: Setting) -> Greedy:
    """The sampler for a setting.

    Raises:
        SearchError: no table has a candidate of the space.
    """
    one_objective(setting, "rank_prior")
    if not any(candidate in setting.space for table in setting.prior.tables for candidate in table.scores):
        raise SearchError("sampler 'rank_prior' needs tables of other models over this space: use auto, tpe or random")
    return Greedy(setting, mean_rank)
