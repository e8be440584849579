"""Replay of our own table of policies (`policy_table.py`): how many trials each sampler needs, leaving one network out.

As `quantune_replay.py`, on the networks that the table holds; the history is what `compress.policies.prior` gives,
less the network.  Where networks are averaged, one dB of super-resolution counts as five points of top-1: 0.02 dB is
as near to the optimum as 0.1 point.  Writes results/policy_replay.json.  Usage: python benchmarks/policy_replay.py
[--seeds N]; `--seeds 5` for a look.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace

import record
from policy_table import HISTORY
from replay import COLUMNS, Target, compare, named, quietly, ratios, versions, with_history, without_history

from compress import policies
from search.history import Prior, Table
from search.judging import WITHIN, leave_one_out
from search.predictors import boosted, mean_rank, rank_residual
from search.space import Knob, Space

POINTS = {"%": 1.0, "dB": 5.0}
"""What one of a unit counts as."""


def untrained() -> Space:
    """The space that the table covers."""
    return Space(tuple(Knob("training", (0,)) if k.name == "training" else k for k in policies.space().knobs))


def targets(units: dict[str, str], history: Callable[[str], Prior], scaled: bool = False) -> list[Target]:
    """Every network of the table as the one to search.

    Args:
        units: the unit of each network's scores.
        history: what is known before the search of a network.
        scaled: whether the samplers see points instead of dB.
    """
    found = []
    for name, unit in units.items():
        table = next(t for t in policies.prior(0.0).tables if t.name == name)
        prior, points = history(name), POINTS[unit]
        if scaled:
            table, points = in_points(table, unit), 1.0
            tables = tuple(in_points(t, units[t.name]) for t in prior.tables)
            prior = replace(prior, tables=tables, reference=table.reference)
        found.append(Target(name, table, untrained(), prior, points))
    return found


def in_points(table: Table, unit: str) -> Table:
    """The same with scores in points."""
    assert table.reference is not None
    scores = {c: s * POINTS[unit] for c, s in table.scores.items()}
    return replace(table, scores=scores, reference=table.reference * POINTS[unit])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    quietly()
    start = time.monotonic()
    stored = json.loads(HISTORY.read_text(encoding="utf-8"))
    units = {network["network"]: network["unit"] for network in stored["networks"]}
    whole = policies.prior(0.0)

    def alike(name: str) -> Prior:
        rest = whole.without(name)
        return replace(rest, tables=tuple(t for t in rest.tables if units[t.name] == units[name]))

    everything = targets(units, whole.without)
    arms = compare(without_history(seeds) | with_history(seeds), everything)
    ours = {"rank_residual": (named("rank_residual"), seeds), "rank_prior": (named("rank_prior"), seeds)}
    arms |= compare({f"{n}, history of the same unit": a for n, a in ours.items()}, targets(units, alike))
    scaled = {"rank_residual, five points for a dB": ours["rank_residual"]}
    arms |= compare(scaled, targets(units, whole.without, scaled=True))
    predictors = {"rank_prior": mean_rank, "rank_residual": rank_residual, "quantune": boosted}
    numbers = {
        "networks": units,
        "points": POINTS,
        "arms": arms,
        "ratios": {c: ratios(arms, "rank_residual", c) for c in COLUMNS[: len(WITHIN)]},
        "predictors": {n: [j.to_json() for j in leave_one_out(p, untrained(), whole)] for n, p in predictors.items()},
        "packages": versions(),
        "seconds": round(time.monotonic() - start),
    }
    record.write("policy_replay", numbers, seed=0)


if __name__ == "__main__":
    main()
