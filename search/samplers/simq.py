"""SimQ-NAS: NSGA-II over predicted objectives, its last population measured, and again (arXiv:2312.13301)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.evolution import Evolution
from search.predictors import best_regressor
from search.proposing import Proposer, Seen
from search.samplers import Setting
from search.space import Candidate

__all__ = ["Simq", "make"]


class Simq(Proposer):
    """LINAS (Cummings et al., arXiv:2202.12954, algorithm 1), the search of SimQ-NAS.

    The first population is drawn at random.  Whenever a population more has been measured, one predictor an objective
    is fitted to all of them, and an evolution over predictions names the candidates to come, those that nobody tried.

    Args:
        setting: what it is made for.
        population: how many candidates are measured between two fits.
    """

    def __init__(self, setting: Setting, population: int) -> None:
        super().__init__(setting)
        self.population = population
        self._planned: tuple[int, list[Candidate]] = (0, [])

    def propose(self, seen: Seen, number: int) -> Candidate:
        """The next untried candidate of the population."""
        generation = len(seen.measured) // self.population
        if generation == 0:
            return self.untaken(seen.taken, self.random(number))
        if self._planned[0] != generation:
            self._planned = (generation, self._plan(seen, generation))
        for candidate in self._planned[1]:
            if candidate not in seen.taken:
                return candidate
        return self.untaken(seen.taken, self.random(number))

    def _plan(self, seen: Seen, generation: int) -> list[Candidate]:
        """The last population of the evolution, best first."""
        space = self.setting.space
        known = list(seen.measured)[: generation * self.population]
        features = space.features(known)
        values = np.array([seen.measured[c] for c in known])
        predict = [best_regressor(features, column)[1] for column in values.T]
        counts = np.array([len(knob.choices) for knob in space.knobs])

        def costs(places: NDArray[np.intp]) -> NDArray[np.float64]:
            encoded = space.encode(places)
            return -np.stack([p(encoded) for p in predict], axis=1)

        def legal(places: NDArray[np.intp]) -> NDArray[np.bool_]:
            if space.valid is None:
                return np.ones(len(places), bool)
            return np.array([space.valid(space.at(row)) for row in places.tolist()], bool)

        random = np.random.default_rng([self.setting.seed, generation])
        fresh = [space.draw(random) for _ in range(self.population)]
        evolution = Evolution(counts, costs, legal, population=max(100, 2 * self.population))
        last = evolution.run(space.places([*known, *fresh]), random)
        return [space.at(row) for row in last.tolist()]


def make(setting: Setting) -> Simq:
    """The sampler for a setting; its population is 50 as in the paper, or a sixth of a small space."""
    return Simq(setting, population=min(50, max(8, setting.space.size // 6)))
