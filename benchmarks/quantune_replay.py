"""Replay of Quantune's published measurements: how many trials each sampler needs, leaving one model out.

The table (six networks, 48 or 96 quantizations each, top-1 in %) is that of leejaymin/qaunt_xgboost; nothing is
measured anew.  Writes results/quantune_replay.json.  One core, 13 minutes; `--seeds 5` for a look.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean
from typing import Any

import numpy as np
import optuna
import record
from replay import COLUMNS, Make, Target, compare, quietly, ratios, versions, with_history, without_history

from search import samplers
from search.history import Prior, Table
from search.judging import WITHIN, leave_one_out, trials_to
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
    return Target(TARGETS[name], table, Space((first, *KNOBS[1:])), Prior(rest, table.reference, table.descriptors))


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
    quietly()
    start = time.monotonic()
    tables = read_tables()
    targets = [target_of(name, tables) for name in TARGETS]
    chosen, spread = nested(tables)
    informed = with_history(seeds)
    nested_setting = {"rank_residual, one nested setting": (with_settings(chosen), seeds)}
    last = {"rank_residual": informed.pop("rank_residual")}
    arms = compare(without_history(seeds) | informed | nested_setting | last, targets)
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
        "packages": versions(),
        "seconds": round(time.monotonic() - start),
    }
    record.write("quantune_replay", numbers, seed=0)


if __name__ == "__main__":
    main()
