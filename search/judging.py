"""How good a predictor or a sampler is: on models it has not seen, in ranks, in regret and in trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from search.errors import SearchError
from search.history import Prior
from search.predictors import Predictor, Problem
from search.space import Space

__all__ = [
    "REGRETS",
    "WITHIN",
    "Judgement",
    "bootstrap",
    "geometric_mean",
    "kendall_at_top",
    "leave_one_out",
    "regret",
    "spearman",
    "trials_to",
]

WITHIN = (0.0, 0.1, 0.5)
"""How near to the optimum counts as there, in the score's unit."""

REGRETS = (1, 5, 10)
"""After how many trials the regret is taken."""

_ROUNDING = 1e-9


def spearman(predicted: Sequence[float], true: Sequence[float]) -> float:
    """Rank correlation over everything; NaN where one side is constant."""
    from scipy.stats import spearmanr  # type: ignore[import-untyped]

    if len(set(predicted)) < 2 or len(set(true)) < 2:
        return math.nan
    return float(spearmanr(predicted, true).statistic)


def kendall_at_top(predicted: Sequence[float], true: Sequence[float], share: float = 0.2) -> float:
    """Kendall's tau-b among the truly best share, where a search decides; NaN where one side is constant."""
    from scipy.stats import kendalltau

    count = max(2, math.ceil(share * len(true)))
    top = sorted(range(len(true)), key=lambda i: -true[i])[:count]
    if len({predicted[i] for i in top}) < 2 or len({true[i] for i in top}) < 2:
        return math.nan
    return float(kendalltau([predicted[i] for i in top], [true[i] for i in top]).statistic)


def regret(tried: Sequence[float], best: float, trials: int) -> float:
    """What the best of the first trials lacks to the optimum; larger scores are better.

    >>> regret([70.0, 71.0, 71.5], 71.5, 2)
    0.5
    """
    return best - max(tried[:trials])


def trials_to(tried: Sequence[float], best: float, within: float) -> int | None:
    """How many trials until one is that near to the optimum; ``None`` when none is.

    >>> trials_to([70.0, 71.0, 71.5], 71.5, 0.5)
    2
    """
    return next((n for n, score in enumerate(tried, 1) if score >= best - within - _ROUNDING), None)


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product, of positive numbers."""
    return math.exp(sum(math.log(v) for v in values) / len(values))


def bootstrap(
    values: Sequence[Sequence[float]],
    statistic: Callable[[Sequence[float]], float],
    seed: int = 0,
    rounds: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of a statistic of group means (Efron and Tibshirani, 1993, chapter 13).

    ``values`` are groups of repetitions, e.g. the seeds of each model.  Groups are drawn with replacement and within
    each its repetitions, so the interval holds for other models of the kind, not only for other seeds.
    """
    random = np.random.default_rng(seed)
    groups: list[NDArray[np.float64]] = [np.asarray(group, float) for group in values]
    found = []
    for _ in range(rounds):
        drawn = [groups[i] for i in random.integers(len(groups), size=len(groups))]
        found.append(statistic([float(g[random.integers(len(g), size=len(g))].mean()) for g in drawn]))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Judgement:
    """How a predictor orders the candidates of a model that it has not seen.

    Attributes:
        model: the model that was held out.
        spearman: over all its candidates.
        kendall_at_top: among the best fifth.
        regret: after 1, 5 and 10 trials in the predicted order.
        trials: to the optimum and to within 0.1 and 0.5 of it.
    """

    model: str
    spearman: float
    kendall_at_top: float
    regret: Mapping[str, float]
    trials: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """As JSON, with null for NaN."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


def leave_one_out(predictor: Predictor, space: Space, prior: Prior, sign: int = 1) -> tuple[Judgement, ...]:
    """Judge a predictor on every table by what the other tables tell it, before any trial; ties as they stand.

    Raises:
        SearchError: there are fewer than two tables.
    """
    if len(prior.tables) < 2:
        raise SearchError(f"leaving one model out needs two tables or more, found {len(prior.tables)}")
    oriented = prior.oriented(sign)
    found = []
    for table in oriented.tables:
        candidates = [c for c in table.scores if c in space]
        if not candidates:
            continue
        true = [table.scores[c] for c in candidates]
        predicted = predictor(Problem(space, candidates, oriented.without(table.name), {}))
        tried = [true[i] for i in np.argsort(-predicted, kind="stable")]
        found.append(
            Judgement(
                table.name,
                spearman(predicted.tolist(), true),
                kendall_at_top(predicted.tolist(), true),
                {str(k): regret(tried, max(true), k) for k in REGRETS},
                {str(w): float(trials_to(tried, max(true), w) or len(true)) for w in WITHIN},
            )
        )
    return tuple(found)
