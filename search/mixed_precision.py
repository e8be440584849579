"""One option for each layer, so that the summed loss is smallest and every budget is kept: exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.errors import InfeasibleError, SearchError

__all__ = ["Assignment", "Option", "choose"]


@dataclass(frozen=True)
class Option:
    """One way to treat a layer.

    Attributes:
        name: e.g. ``int4``; tied layers take options of one name.
        loss: what it is expected to cost in quality; losses of layers add up.
        costs: what it takes of each budget, e.g. bytes, bit operations, milliseconds.
    """

    name: str
    loss: float
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """What was chosen: layer to option, the summed loss and the summed costs of the budgets."""

    options: Mapping[str, Option]
    loss: float
    costs: Mapping[str, float]


@dataclass(frozen=True)
class _Program:
    """The integer program: a 0/1 variable for each pair of a layer and an option."""

    pairs: list[tuple[str, Option]]
    equal: NDArray[np.float64]
    right: NDArray[np.float64]

    def costs(self, name: str) -> NDArray[np.float64]:
        return np.array([option.costs[name] for _, option in self.pairs], float)

    def solve(self, budgets: Mapping[str, float]) -> NDArray[np.bool_] | None:
        """The pairs of the smallest loss; ``None`` when the budgets cannot be kept."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # type: ignore[import-untyped]

        losses = np.array([option.loss for _, option in self.pairs])
        limits = [LinearConstraint(self.equal, self.right, self.right)]
        limits += [LinearConstraint(self.costs(n)[None], -np.inf, b) for n, b in budgets.items()]
        spread = max(float(np.ptp(losses)), float(np.abs(losses).max()), 1e-300)
        found = milp(
            losses / spread, integrality=1, bounds=Bounds(0, 1), constraints=limits, options={"mip_rel_gap": 0}
        )
        return None if found.x is None else np.asarray(found.x > 0.5)

    def stretch(self, budgets: Mapping[str, float]) -> tuple[float, dict[str, float]]:
        """The smallest factor by which every budget would have to grow, and the costs at it."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        count = len(self.pairs)
        rows = np.array([np.append(self.costs(n), -b) for n, b in budgets.items()])
        equal = np.hstack([self.equal, np.zeros((len(self.right), 1))])
        limits = [LinearConstraint(equal, self.right, self.right), LinearConstraint(rows, -np.inf, 0)]
        bounds = Bounds(np.zeros(count + 1), np.append(np.ones(count), np.inf))
        aim, whole = np.append(np.zeros(count), 1.0), np.append(np.ones(count), 0.0)
        found = milp(aim, integrality=whole, bounds=bounds, constraints=limits)
        taken = found.x[:-1] > 0.5
        return float(found.x[-1]), {n: float(self.costs(n)[taken].sum()) for n in budgets}


def choose(
    layers: Mapping[str, Sequence[Option]],
    budgets: Mapping[str, float],
    tied: Sequence[Sequence[str]] = (),
) -> Assignment:
    """The assignment of the smallest summed loss within every budget, by integer programming (HiGHS).

    HAWQ-V3 (Yao et al., arXiv:2011.10680, section 3.4, equation 7) with any number of budgets; tied layers, such
    as those that a residual sum joins, take options of one name.

    Raises:
        InfeasibleError: nothing keeps the budgets; it names the smallest that can be reached.
        SearchError: the question is not well posed.
    """
    _check(layers, budgets, tied)
    program = _program(layers, tied)
    taken = program.solve(budgets)
    if taken is None:
        raise _infeasible(program, budgets)
    options = {layer: option for (layer, option), here in zip(program.pairs, taken, strict=True) if here}
    costs = {name: float(sum(o.costs[name] for o in options.values())) for name in budgets}
    return Assignment(options, float(sum(o.loss for o in options.values())), costs)


def _check(layers: Mapping[str, Sequence[Option]], budgets: Mapping[str, float], tied: Sequence[Sequence[str]]) -> None:
    if not layers or not all(layers.values()):
        raise SearchError(f"every layer needs an option; without one: {[n for n, o in layers.items() if not o]}")
    if not all(0 < b < np.inf for b in budgets.values()):
        raise SearchError(f"budgets are positive and finite, found {dict(budgets)}")
    for layer, options in layers.items():
        for option in options:
            _check_option(layer, option, budgets)
    for group in tied:
        unknown = sorted(set(group) - set(layers))
        if unknown:
            raise SearchError(f"tied layers {unknown} are not among {sorted(layers)}")
        if len({tuple(sorted(o.name for o in layers[layer])) for layer in group}) > 1:
            raise SearchError(f"tied layers {list(group)} have options of different names; give them the same")


def _check_option(layer: str, option: Option, budgets: Mapping[str, float]) -> None:
    missing = sorted(set(budgets) - set(option.costs))
    if missing:
        raise SearchError(f"layer {layer!r}, option {option.name!r}: no cost is stated for budget {missing}")
    costs = [option.costs[name] for name in budgets]
    if not np.isfinite([option.loss, *costs]).all() or min(costs, default=0) < 0:
        raise SearchError(f"layer {layer!r}, {option}: losses are finite, costs finite and not negative")


def _program(layers: Mapping[str, Sequence[Option]], tied: Sequence[Sequence[str]]) -> _Program:
    pairs = [(layer, option) for layer, options in layers.items() for option in options]
    rows, right = [], []
    for layer in layers:
        rows.append([float(owner == layer) for owner, _ in pairs])
        right.append(1.0)
    for first, *others in tied:
        for other in others:
            for name in {o.name for o in layers[first]}:
                rows.append([((a == first) - float(a == other)) * (o.name == name) for a, o in pairs])
                right.append(0.0)
    return _Program(pairs, np.array(rows), np.array(right))


def _infeasible(program: _Program, budgets: Mapping[str, float]) -> InfeasibleError:
    reachable = {name: program.stretch({name: 1.0})[1][name] for name in budgets}
    short = [n for n, b in budgets.items() if reachable[n] > b]
    if short:
        found = "; ".join(f"{n}: at most {budgets[n]:g} was asked, the smallest is {reachable[n]:g}" for n in short)
        return InfeasibleError(f"no choice keeps the budget. {found}: raise it, or add cheaper options", reachable)
    factor, costs = program.stretch(budgets)
    return InfeasibleError(
        f"each budget can be kept alone, not all of {dict(budgets)}; grown by {factor:.4g} they could be, with {costs}",
        reachable,
    )
