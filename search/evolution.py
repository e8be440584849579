"""NSGA-II over predicted objectives: thousands of candidates that cost nothing to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Evolution", "crowding", "fronts"]

Places = NDArray[np.intp]
Costs = NDArray[np.float64]


def fronts(costs: Costs) -> NDArray[np.intp]:
    """The number of each candidate's front, 0 for the Pareto front (Deb et al., 2002, section III.A)."""
    no_worse = np.all(costs[:, None] <= costs[None], axis=2)
    dominates = np.asarray(no_worse & np.any(costs[:, None] < costs[None], axis=2))
    number = np.full(len(costs), -1)
    level = 0
    while (number < 0).any():
        open_ones = number < 0
        beaten: NDArray[np.bool_] = np.any(dominates[open_ones], axis=0)
        number[open_ones & ~beaten] = level
        level += 1
    return number


def crowding(costs: Costs) -> NDArray[np.float64]:
    """The crowding distance within one front (Deb et al., 2002, section III.B): the ends are infinitely far."""
    distance = np.zeros(len(costs))
    for column in costs.T:
        order = np.argsort(column, kind="stable")
        spread = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if spread > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
    return distance


def order(costs: Costs) -> NDArray[np.intp]:
    """Best first: by front, within it by crowding, the lonely ones first."""
    number, lonely = fronts(costs), np.zeros(len(costs))
    for level in range(number.max() + 1):
        lonely[number == level] = crowding(costs[number == level])
    return np.lexsort((-lonely, number))


@dataclass(frozen=True)
class Evolution:
    """Deb et al., 2002, with uniform crossover and a mutation of one gene in the mean.

    Attributes:
        counts: the number of choices of each knob.
        costs: places to costs, to be made small; (candidates, objectives).
        legal: places to whether they are a valid combination.
        population: how many survive a generation.
        generations: how many there are.
    """

    counts: NDArray[np.intp]
    costs: Callable[[Places], Costs]
    legal: Callable[[Places], NDArray[np.bool_]]
    population: int = 100
    generations: int = 40

    def run(self, start: Places, random: np.random.Generator) -> Places:
        """The last population, best first and without repetition."""
        people = np.unique(start, axis=0)
        for _ in range(self.generations):
            children = self._children(people, random)
            children = children[self.legal(children)]
            people = np.unique(np.concatenate([people, children]), axis=0)
            people = people[order(self.costs(people))[: self.population]]
        return people[order(self.costs(people))]

    def _children(self, people: Places, random: np.random.Generator) -> Places:
        """People stand best first, so of two drawn at random the one in front wins."""
        count = self.population
        mothers, fathers = random.integers(len(people), size=(2, count, 2)).min(axis=2)
        mixed = np.where(random.random((count, len(self.counts))) < 0.5, people[mothers], people[fathers])
        changed = random.random(mixed.shape) < 1.0 / len(self.counts)
        return np.where(changed, random.integers(self.counts, size=mixed.shape), mixed)
