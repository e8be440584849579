"""Which candidates will score well: from ranks on other models, a residual on top, boosted trees, ridge and SVR.

All predictions are higher for better.  How they are judged is in :mod:`search.judging`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.history import Prior, Table
from search.space import Candidate, Space

__all__ = ["Predictor", "Problem", "Regressor", "best_regressor", "boosted", "mean_rank", "rank_residual"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """What is to be predicted, and from what; larger scores are better.

    Attributes:
        space: the knobs.
        candidates: what to predict, in this order.
        prior: what other models measured.
        measured: what was measured on this one.
    """

    space: Space
    candidates: Sequence[Candidate]
    prior: Prior
    measured: Mapping[Candidate, float]


Predictor = Callable[[Problem], Array]
"""One number for each candidate of a problem, higher for better; only their order matters."""

Regressor = Callable[[Array, Array], Callable[[Array], Array]]
"""Fits features to values, and returns what predicts values from features."""


def _ranks(values: Array) -> Array:
    """1 for the highest; ties share their mean rank."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    return np.asarray(rankdata(-values), float)


def mean_rank(problem: Problem, power: float = 1.0) -> Array:
    """Minus the mean over the tables of rank ** power; a table is ranked among the problem's candidates only.

    A candidate that a table lacks is averaged over the tables that have it; one that no table has comes last.
    A power below 1 weighs the top ranks: the mean of square roots punishes one bad rank less than the plain mean.
    """
    place = {c: i for i, c in enumerate(problem.candidates)}
    total, count = np.zeros(len(place)), np.zeros(len(place))
    for table in problem.prior.tables:
        here = [(place[c], s) for c, s in table.scores.items() if c in place]
        if here:
            places = np.array([p for p, _ in here])
            total[places] += _ranks(np.array([s for _, s in here], float)) ** power
            count[places] += 1
    last = (len(place) + 1.0) ** power
    return np.where(count > 0, -total / np.maximum(count, 1), -last)


def _drops(scores: Mapping[Candidate, float], reference: float | None, clip: float) -> dict[Candidate, float]:
    """Score less reference, no lower than -clip; without a reference the best score is one."""
    zero = max(scores.values(), default=0.0) if reference is None else reference
    return {c: max(s - zero, -clip) for c, s in scores.items()}


# Averaged over, not chosen: the powers of the rank, where a drop is cut (as a share of the prior's clip), how alike
# candidates are that differ in one knob of five, and the noise against the residual.
POWERS = (0.5, 1.0)
CUTS = (0.2, 0.4, 1.0)
LIKENESS = (0.3, 0.5, 0.7, 0.9)
NOISES = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Averaged:
    """The settings over which :func:`rank_residual` averages; the default is what the package uses."""

    powers: tuple[float, ...] = POWERS
    cuts: tuple[float, ...] = CUTS
    likeness: tuple[float, ...] = LIKENESS
    noises: tuple[float, ...] = NOISES


def rank_residual(problem: Problem, averaged: Averaged | None = None) -> Array:
    """The rank prior, corrected by what was measured: a Gaussian process on what the prior got wrong.

    The prior says the score by its order: the candidate of the k-th best mean rank is expected to drop as much as
    the k-th best of the other models did on average.  The process has mean zero and covariance
    likeness ** (5 * differing knobs / knobs); its posterior mean is K (K + noise² I)⁻¹ (y - prior) (Rasmussen and
    Williams, Gaussian Processes for Machine Learning, 2006, equation 2.25).  The predictions of all settings, each
    brought to unit variance, are averaged, so no setting is chosen.
    """
    settings = averaged or Averaged()
    place = {c: i for i, c in enumerate(problem.candidates)}
    done = np.array([place[c] for c in problem.measured if c in place], np.intp)
    columns, residuals = [], []
    for power, cut in itertools.product(settings.powers, settings.cuts):
        clip = cut * problem.prior.clip
        own = _drops(problem.measured, problem.prior.reference if problem.prior.comparable else None, clip)
        drops = np.array([own[c] for c in problem.measured if c in place])
        expected = _expected_drops(problem, power, clip)
        if not problem.prior.tables and len(drops):
            expected = expected + drops.mean()
        columns.append(expected)
        residuals.append(drops - expected[done] if len(done) else drops)
    means = np.stack(columns, axis=1)
    if not len(done):
        return _averaged([means])
    places = problem.space.places(list(problem.candidates))
    differing = (places[:, None, :] != places[done][None]).sum(axis=2) * (5.0 / places.shape[1])
    right = np.stack(residuals, axis=1)
    predictions = []
    for likeness, noise in itertools.product(settings.likeness, settings.noises):
        covariance = likeness**differing
        weights = np.linalg.solve(covariance[done] + noise**2 * np.eye(len(done)), right)
        predictions.append(means + covariance @ weights)
    return _averaged(predictions)


def _averaged(predictions: list[Array]) -> Array:
    """The mean over all columns, each at mean 0 and variance 1; a constant column counts nothing."""
    every = np.concatenate(predictions, axis=1)
    centred = every - every.mean(axis=0)
    spread = every.std(axis=0)
    scaled: Array = (centred / np.where(spread > 1e-12, spread, np.inf)).mean(axis=1)
    return scaled


def _expected_drops(problem: Problem, power: float, clip: float) -> Array:
    """What the prior expects of each candidate."""
    count = len(problem.candidates)
    if not problem.prior.tables:
        return np.zeros(count)
    ranks = _ranks(mean_rank(problem, power))
    wanted = set(problem.candidates)
    comparable = problem.prior.comparable
    profiles = []
    for table in problem.prior.tables:
        drops = _drops(table.scores, table.reference if comparable else None, clip)
        here = sorted((d for c, d in drops.items() if c in wanted), reverse=True)
        if here:
            profiles.append(np.array(here + [-clip] * (count - len(here))))
    if not profiles:
        return np.zeros(count)
    profile = np.mean(profiles, axis=0)
    return np.interp(ranks, np.arange(1, count + 1), profile)


def boosted(problem: Problem, rounds: int = 60, transfer: bool = True) -> Array:
    """Quantune's regression: boosted trees on one-hot knobs and model descriptors (Lee et al., arXiv:2202.05048).

    Learns from the tables and from what was measured here; the label is the drop against the unchanged model, no
    lower than minus the prior's clip, or the plain score where a reference is missing.  Without any row, all zeros.
    """
    prior = problem.prior
    own = Table("", problem.measured, prior.reference, prior.descriptors)
    order = sorted(prior.descriptors)
    features, labels = [], []
    for table in [*(prior.tables if transfer else ()), own]:
        known = {c: s for c, s in table.scores.items() if c in problem.space}
        if known:
            labels += list((_drops(known, table.reference, prior.clip) if prior.comparable else known).values())
            features.append(_with_descriptors(problem.space.features(list(known)), table.descriptors, order))
    if not labels:
        return np.zeros(len(problem.candidates))
    predict = _trees(rounds)(np.concatenate(features), np.array(labels, float))
    return predict(_with_descriptors(problem.space.features(list(problem.candidates)), prior.descriptors, order))


def _with_descriptors(features: Array, descriptors: Mapping[str, float], order: list[str]) -> Array:
    numbers = np.array([descriptors[name] for name in order], float)
    return np.hstack([features, np.tile(numbers, (len(features), 1))])


def _trees(rounds: int) -> Regressor:
    """Quantune's trees with the brief's eta and gamma; gamma is in the labels' squared unit."""

    def fit(features: Array, values: Array) -> Callable[[Array], Array]:
        import xgboost

        settings = {"objective": "reg:squarederror", "eta": 0.3, "gamma": 1.0, "nthread": 1, "verbosity": 0}
        model = xgboost.train(settings, xgboost.DMatrix(features, values, nthread=1), num_boost_round=rounds)
        return lambda wanted: np.asarray(model.predict(xgboost.DMatrix(wanted, nthread=1)), float)

    return fit


def _scaled(fit: Regressor) -> Regressor:
    """The same on values of mean 0 and variance 1."""

    def outer(features: Array, values: Array) -> Callable[[Array], Array]:
        mean, spread = values.mean(), values.std() or 1.0
        predict = fit(features, (values - mean) / spread)
        return lambda wanted: predict(wanted) * spread + mean

    return outer


def _ridge(alpha: float) -> Regressor:
    def fit(features: Array, values: Array) -> Callable[[Array], Array]:
        centre = features.mean(axis=0)
        moved = features - centre
        weights = np.linalg.solve(moved.T @ moved + alpha * np.eye(moved.shape[1]), moved.T @ values)
        return lambda wanted: (wanted - centre) @ weights + values.mean()

    return fit


def _svr(penalty: float) -> Regressor:
    def fit(features: Array, values: Array) -> Callable[[Array], Array]:
        from sklearn.svm import SVR  # type: ignore[import-untyped]

        model = SVR(C=penalty, gamma="auto", epsilon=0.01).fit(features, values)
        return lambda wanted: np.asarray(model.predict(wanted), float)

    return fit


def _light_trees(features: Array, values: Array) -> Callable[[Array], Array]:
    import xgboost

    settings = {"max_depth": 3, "eta": 0.3, "nthread": 1, "verbosity": 0}
    model = xgboost.train(settings, xgboost.DMatrix(features, values, nthread=1), num_boost_round=60)
    return lambda wanted: np.asarray(model.predict(xgboost.DMatrix(wanted, nthread=1)), float)


REGRESSORS: dict[str, Regressor] = {
    "ridge-0.1": _scaled(_ridge(0.1)),
    "ridge-1": _scaled(_ridge(1.0)),
    "ridge-10": _scaled(_ridge(10.0)),
    "svr-1": _scaled(_svr(1.0)),
    "svr-10": _scaled(_svr(10.0)),
    "trees": _scaled(_light_trees),
}


def best_regressor(features: Array, values: Array, folds: int = 5) -> tuple[str, Callable[[Array], Array]]:
    """The regressor of the smallest cross-validated mean absolute error, fitted on everything, and its name.

    SimQ-NAS takes the better of ridge and SVR by five folds (arXiv:2312.13301; IntelLabs/DyNAS-T); trees were added.
    """
    if len(values) < folds:
        return "ridge-1", REGRESSORS["ridge-1"](features, values)
    fold = np.arange(len(values)) % folds
    errors = {}
    for name, fit in REGRESSORS.items():
        wrong = 0.0
        for held_out in range(folds):
            away = fold != held_out
            wrong += float(np.abs(fit(features[away], values[away])(features[~away]) - values[~away]).sum())
        errors[name] = wrong
    best = min(errors, key=lambda name: errors[name])
    return best, REGRESSORS[best](features, values)
