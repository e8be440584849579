"""What the replays of measured tables share: samplers run against a table, and how many trials each one needed."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from statistics import mean
from typing import Any

import numpy as np
import optuna

from search import samplers
from search.history import Prior, Table
from search.judging import REGRETS, WITHIN, bootstrap, geometric_mean, regret, trials_to
from search.predictors import boosted
from search.proposing import Greedy
from search.samplers import Setting
from search.space import Space

PACKAGES = ("optuna", "xgboost-cpu", "scikit-learn", "scipy")


@dataclass(frozen=True)
class Target:
    """A model to search, and what the others tell."""

    name: str
    """As the tables in the docs say it."""
    table: Table
    space: Space
    prior: Prior
    points: float = 1.0
    """What one of the score's unit counts as where models are averaged."""

    @property
    def best(self) -> float:
        """The optimum of the table."""
        return max(self.table.scores.values())


Make = Callable[[Target, int], optuna.samplers.BaseSampler]


def replay(target: Target, make: Make, seed: int) -> list[float]:
    """The scores in the order of the trials, until the optimum was met and ten trials are done."""
    study = optuna.create_study(direction="maximize", sampler=make(target, seed))
    distributions, tried = target.space.distributions(), []
    while len(tried) < len(target.table.scores) and (len(tried) < max(REGRETS) or max(tried) < target.best):
        trial = study.ask(distributions)
        candidate = target.space.of_params(trial.params)
        assert candidate is not None
        score = target.table.scores[candidate]
        study.tell(trial, score)
        tried.append(score)
    return tried


def named(name: str, transfer: bool = True) -> Make:
    """A sampler of the package, with the other models' tables or without."""

    def make(target: Target, seed: int) -> optuna.samplers.BaseSampler:
        prior = target.prior if transfer else replace(target.prior, tables=())
        return samplers.make(name, Setting(target.space, (1,), prior, seed))

    return make


def raw_accuracy(target: Target, seed: int) -> optuna.samplers.BaseSampler:
    """Quantune as published: the label is the accuracy itself."""
    plain = replace(target.prior, reference=None)
    return Greedy(Setting(target.space, (1,), plain, seed), boosted)


def measures(tried: Sequence[float], target: Target) -> list[float]:
    points, best = [score * target.points for score in tried], target.best * target.points
    reached = [float(trials_to(points, best, w) or len(target.table.scores)) for w in WITHIN]
    return reached + [regret(points, best, k) for k in REGRETS]


COLUMNS = [*(f"trials to within {w:g}" for w in WITHIN), *(f"regret@{k}" for k in REGRETS)]


def arm(make: Make, seeds: int, targets: Sequence[Target]) -> dict[str, Any]:
    """All numbers of one sampler: the mean over models of the mean over seeds."""
    start = time.monotonic()
    runs = [[measures(replay(t, make, seed), t) for seed in range(seeds)] for t in targets]
    values = np.array(runs)  # model, seed, measure
    found: dict[str, Any] = {"seeds": seeds, "seconds": round(time.monotonic() - start, 1)}
    for place, column in enumerate(COLUMNS):
        per_model = values[:, :, place].mean(axis=1)
        groups = values[:, :, place].tolist()
        entry: dict[str, Any] = {
            "mean": round(float(per_model.mean()), 3),
            "interval": [round(v, 2) for v in bootstrap(groups, mean)],
            "models": {t.name: round(float(v), 3) for t, v in zip(targets, per_model, strict=True)},
        }
        if place < len(WITHIN):
            entry["geometric"] = round(geometric_mean(per_model.tolist()), 3)
            entry["geometric interval"] = [round(v, 2) for v in bootstrap(groups, geometric_mean)]
        found[column] = entry
    return found


def ratios(arms: Mapping[str, Any], ours: str, column: str) -> dict[str, Any]:
    """Other sampler over ours, in trials: model by model, and of the means."""
    base = arms[ours][column]
    return {
        name: {
            "arithmetic": round(numbers[column]["mean"] / base["mean"], 2),
            "geometric": round(numbers[column]["geometric"] / base["geometric"], 2),
            "models": {m: round(v / base["models"][m], 1) for m, v in numbers[column]["models"].items()},
        }
        for name, numbers in arms.items()
        if name != ours
    }


def compare(plan: Mapping[str, tuple[Make, int]], targets: Sequence[Target]) -> dict[str, Any]:
    """:func:`arm` of every sampler and its number of seeds."""
    arms = {}
    for name, (make, repeats) in plan.items():
        arms[name] = arm(make, repeats, targets)
        print(f"{name:36}", *(f"{arms[name][c]['mean']:7.2f}" for c in COLUMNS), arms[name]["seconds"], "s", flush=True)
    return arms


def without_history(seeds: int) -> dict[str, tuple[Make, int]]:
    """The samplers that know nothing of other models."""
    return {
        "grid": (named("grid"), 1),
        "random": (named("random"), seeds),
        "nsga2": (named("nsga2"), seeds),
        "tpe": (named("tpe"), seeds),
        "simq": (named("simq"), min(seeds, 20)),
        "quantune, cold": (named("quantune", transfer=False), seeds),
        "rank_residual, cold": (named("rank_residual", transfer=False), seeds),
    }


def with_history(seeds: int) -> dict[str, tuple[Make, int]]:
    """Those that start from the other models' tables."""
    return {
        "quantune, raw accuracy": (raw_accuracy, seeds),
        "quantune": (named("quantune"), seeds),
        "rank_prior": (named("rank_prior"), seeds),
        "rank_residual": (named("rank_residual"), seeds),
    }


def versions() -> dict[str, str]:
    """Of the packages that the samplers are made with."""
    return {p: metadata.version(p) for p in PACKAGES}


def quietly() -> None:
    """Leave out what Optuna says about every trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
