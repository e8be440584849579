"""Replay of Quantune's published measurements: how many trials each sampler needs, leaving one model out.

The table (six networks, 48 or 96 quantizations each, top-1 in %) is that of leejaymin/qaunt_xgboost; nothing is
measured anew.  Writes results/quantune_replay.json.  One core, 13 minutes; `--seeds 5` for a look.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from statistics import mean
from typing import Any

import numpy as np
import optuna
import record

from search import samplers
from search.history import Prior, Table
from search.judging import REGRETS, WITHIN, bootstrap, geometric_mean, leave_one_out, regret, trials_to
from search.pareto import hypervolume
from search.predictors import CUTS, LIKENESS, NOISES, POWERS, Averaged, Problem, boosted, mean_rank, rank_residual
from search.proposing import Greedy
from search.samplers import Setting
from search.space import Candidate, Knob, Space

KNOBS = (
    Knob("precision", ("int8", "mixed")),
    Knob("profile", (1, 1000, 10000), ordinal=True),
    Knob("granularity", ("tensor", "channel")),
    Knob("clipping", ("max", "KL")),
    Knob("schema", ("asymmetric", "symmetric", "symmetric_uint8", "symmetric_pow2")),
)
DESCRIPTORS = ("nodes", "conv", "bn", "act", "skip", "dwc", "pwc", "size")
# float top-1 and descriptors, from the same repository (preprocessing.R)
MODELS = {
    "MobileNet": (71.81, (83, 53, 0, 36, 10, 16, 35, 17)),
    "ShuffleNet": (63.96, (202, 49, 49, 33, 16, 16, 32, 5.5)),
    "SqueezeNet": (53.80, (65, 26, 0, 26, 0, 0, 17, 4.7)),
    "googlenet_slim_v4": (70.39, (854, 149, 0, 149, 25, 0, 93, 163)),
    "resnet18": (70.67, (71, 20, 20, 17, 8, 0, 3, 45)),
    "resnet50": (76.08, (175, 53, 53, 49, 16, 0, 36, 98)),
}
TARGETS = {"MobileNet": "MN", "ShuffleNet": "SHN", "SqueezeNet": "SQN"}
TARGETS |= {"googlenet_slim_v4": "GN", "resnet18": "RN18", "resnet50": "RN50"}


@dataclass(frozen=True)
class Target:
    """A model to search, and what the others tell."""

    table: Table
    space: Space
    prior: Prior

    @property
    def best(self) -> float:
        """The optimum of the table."""
        return max(self.table.scores.values())


def read_tables() -> dict[str, Table]:
    path = record.need_shared().parent / "measurements" / "quantune_published.csv"
    scores: dict[str, dict[Candidate, float]] = {name: {} for name in MODELS}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            choices = {knob.name: row[knob.name] for knob in KNOBS} | {"profile": int(row["profile"])}
            scores[row["model"]][Candidate(choices)] = float(row["accuracy"])
    return {
        name: Table(name, scores[name], reference, dict(zip(DESCRIPTORS, numbers, strict=True)))
        for name, (reference, numbers) in MODELS.items()
    }


def target_of(name: str, tables: Mapping[str, Table]) -> Target:
    """The model's space holds what was measured on it: four models have no mixed precision."""
    table = tables[name]
    present = {c["precision"] for c in table.scores}
    first = replace(KNOBS[0], choices=tuple(v for v in KNOBS[0].choices if v in present))
    rest = tuple(t for t in tables.values() if t.name != name)
    return Target(table, Space((first, *KNOBS[1:])), Prior(rest, table.reference, table.descriptors))


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


def with_settings(chosen: Mapping[str, Averaged]) -> Make:
    def make(target: Target, seed: int) -> optuna.samplers.BaseSampler:
        predict = partial(rank_residual, averaged=chosen[target.table.name])
        return Greedy(Setting(target.space, (1,), target.prior, seed), predict)

    return make


SETTINGS = [Averaged((p,), (c,), (a,), (n,)) for p, c, a, n in itertools.product(POWERS, CUTS, LIKENESS, NOISES)]


def order(target: Target, averaged: Averaged) -> list[float]:
    """The trials of one setting without Optuna, ties as they stand."""
    candidates, measured = target.space.candidates, dict[Candidate, float]()
    while not measured or max(measured.values()) < target.best:
        scores = rank_residual(Problem(target.space, candidates, target.prior, measured), averaged)
        pick = max((i for i, c in enumerate(candidates) if c not in measured), key=lambda i: (scores[i], -i))
        measured[candidates[pick]] = target.table.scores[candidates[pick]]
    return list(measured.values())


def nested(tables: Mapping[str, Table]) -> tuple[dict[str, Averaged], dict[str, Any]]:
    """For each model the one setting that is best on the other five, each searched from the other four."""
    chosen = {}
    for name in tables:
        rest = {n: t for n, t in tables.items() if n != name}
        inner = [target_of(n, rest) for n in rest]
        losses = [mean(math.log(trials_to(order(t, s), t.best, 0.1) or 96) for t in inner) for s in SETTINGS]
        chosen[name] = SETTINGS[int(np.argmin(losses))]
    targets = [target_of(n, tables) for n in tables]
    every = np.array([[[trials_to(order(t, s), t.best, w) for w in WITHIN] for t in targets] for s in SETTINGS], float)
    means = every.mean(axis=1)
    spread = {
        f"within {w:g}": {"min": m.min(), "median": float(np.median(m)), "max": m.max()}
        for w, m in zip(WITHIN, means.T, strict=True)
    }
    return chosen, {"settings": len(SETTINGS), "mean over models, each setting alone": spread}


def measures(tried: Sequence[float], target: Target) -> list[float]:
    reached = [float(trials_to(tried, target.best, w) or len(target.table.scores)) for w in WITHIN]
    return reached + [regret(tried, target.best, k) for k in REGRETS]


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
            "models": {TARGETS[t.table.name]: round(float(v), 3) for t, v in zip(targets, per_model, strict=True)},
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


def layered(name: str, seed: int, checkpoints: Sequence[int]) -> list[float]:
    """Hypervolume on a made-up network: 24 layers of 2, 4 or 8 bit, a loss with interacting pairs, bit operations."""
    random = np.random.default_rng(7)
    layers, bits = 24, (2, 4, 8)
    sensitivity, operations = random.lognormal(0, 1, layers), random.lognormal(0, 0.7, layers)
    pairs = random.lognormal(-1, 1, layers - 1)
    space = Space(tuple(Knob(f"layer{i:02}", bits, ordinal=True) for i in range(layers)))
    sampler = samplers.make(name, Setting(space, (-1, -1), Prior(), seed))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    points, found = [], []
    for count in range(1, max(checkpoints) + 1):
        trial = study.ask(space.distributions())
        chosen = space.of_params(trial.params)
        assert chosen is not None
        width = np.array([chosen[k.name] for k in space.knobs], float)
        noise = 2.0**-width
        loss = float(sensitivity @ noise + pairs @ (noise[1:] * noise[:-1]) ** 0.5) / float(sensitivity.sum())
        cost = float(operations @ width**2) / float(operations.sum() * 64)
        study.tell(trial, [loss, cost])
        points.append((loss, cost))
        if count in checkpoints:
            found.append(hypervolume(points, (0.6, 1.0)))
    return found


def compare_layered(seeds: int) -> dict[str, Any]:
    checkpoints = (100, 200, 400)
    found = {}
    for name in ("random", "tpe", "nsga2", "simq"):
        values = np.array([layered(name, seed, checkpoints) for seed in range(seeds)])
        found[name] = {
            str(c): {"mean": round(float(v.mean()), 4), "std": round(float(v.std()), 4)}
            for c, v in zip(checkpoints, values.T, strict=True)
        }
        print(name, found[name], flush=True)
    return {"seeds": seeds, "reference": [0.6, 1.0], "hypervolume": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    start = time.monotonic()
    tables = read_tables()
    targets = [target_of(name, tables) for name in TARGETS]
    chosen, spread = nested(tables)
    plan: dict[str, tuple[Make, int]] = {
        "grid": (named("grid"), 1),
        "random": (named("random"), seeds),
        "nsga2": (named("nsga2"), seeds),
        "tpe": (named("tpe"), seeds),
        "simq": (named("simq"), min(seeds, 20)),
        "quantune, cold": (named("quantune", transfer=False), seeds),
        "rank_residual, cold": (named("rank_residual", transfer=False), seeds),
        "quantune, raw accuracy": (raw_accuracy, seeds),
        "quantune": (named("quantune"), seeds),
        "rank_prior": (named("rank_prior"), seeds),
        "rank_residual, one nested setting": (with_settings(chosen), seeds),
        "rank_residual": (named("rank_residual"), seeds),
    }
    arms = {}
    for name, (make, repeats) in plan.items():
        arms[name] = arm(make, repeats, targets)
        print(f"{name:36}", *(f"{arms[name][c]['mean']:7.2f}" for c in COLUMNS), arms[name]["seconds"], "s", flush=True)
    whole = Prior(tuple(tables.values()), None, next(iter(tables.values())).descriptors)
    predictors = {"rank_prior": mean_rank, "rank_residual": rank_residual, "quantune": boosted}
    judged = {
        name: [j.to_json() for j in leave_one_out(predictor, Space(KNOBS), whole)]
        for name, predictor in predictors.items()
    }
    numbers = {
        "arms": arms,
        "ratios": {c: ratios(arms, "rank_residual", c) for c in COLUMNS[: len(WITHIN)]},
        "settings": {**spread, "nested choice": {TARGETS[n]: vars(s) for n, s in chosen.items()}},
        "predictors": judged,
        "layered": compare_layered(min(seeds, 10)),
        "packages": {p: metadata.version(p) for p in ("optuna", "xgboost-cpu", "scikit-learn", "scipy")},
        "seconds": round(time.monotonic() - start),
    }
    record.write("quantune_replay", numbers, seed=0)


if __name__ == "__main__":
    main()
