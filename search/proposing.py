"""How a sampler of ours proposes: a whole candidate at once, never one that was tried."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler

from search.errors import SearchError
from search.ledger import candidate_of, kind_of
from search.predictors import Predictor, Problem
from search.space import Candidate

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from search.samplers import Setting

__all__ = ["Greedy", "Proposer", "Seen", "Unrepeated", "one_objective"]

_POOL = 2_000
_TRIES = 10


@dataclass(frozen=True)
class Seen:
    """What a sampler may look at.

    Attributes:
        measured: candidate to objectives, larger is better; in the order of the trials' numbers.
        taken: candidates that are not to be proposed: measured, failed, being measured, or queued.
    """

    measured: dict[Candidate, tuple[float, ...]]
    taken: frozenset[Candidate]

    @classmethod
    def of(cls, study: Study, setting: Setting) -> Seen:
        """Read a study; void and lost trials are not there."""
        measured: dict[Candidate, tuple[float, ...]] = {}
        taken = set()
        for trial in study.get_trials(deepcopy=False):
            kind = kind_of(trial)
            candidate = candidate_of(trial, setting.space) if kind not in ("void", "lost") else None
            if candidate is None:
                continue
            taken.add(candidate)
            if kind == "measured":
                values = tuple(s * v for s, v in zip(setting.signs, trial.values, strict=True))
                measured.setdefault(candidate, values)
        return cls(measured, frozenset(taken))


class _Whole(BaseSampler):
    """A sampler whose every proposal is a candidate of the space."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._distributions = setting.space.distributions()

    def random(self, number: int) -> np.random.Generator:
        """Random numbers of one trial: the same for a seed and a number, whichever worker asks."""
        return np.random.default_rng([self.setting.seed, number])

    def untaken(self, taken: frozenset[Candidate], random: np.random.Generator) -> Candidate:
        """Any candidate that was not tried, all equally likely; one that was, when there is no other."""
        space = self.setting.space
        if space.enumerable:
            left = [c for c in space.candidates if c not in taken] or space.candidates
            return left[int(random.integers(len(left)))]
        drawn = space.draw(random)
        for _ in range(1000):
            if drawn not in taken:
                break
            drawn = space.draw(random)
        return drawn

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All knobs, always."""
        return self._distributions

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refused: one knob alone cannot be told to be untried.

        Raises:
            SearchError: always.
        """
        raise SearchError(f"parameter {param_name!r} is not a knob of the study's space {list(self._distributions)}")


class Proposer(_Whole):
    """A sampler that looks at what was seen and names a candidate."""

    @abstractmethod
    def propose(self, seen: Seen, number: int) -> Candidate:
        """The candidate for the trial of that number; not one that is taken, while others are left."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal in Optuna's words."""
        seen = Seen.of(study, self.setting)
        return dict(self.setting.space.params(self.propose(seen, trial.number)))


def one_objective(setting: Setting, name: str) -> None:
    """Refuse a study of several objectives.

    Raises:
        SearchError: there are several.
    """
    if len(setting.signs) > 1:
        raise SearchError(
            f"sampler {name!r} is for one objective, the study has {len(setting.signs)}: use simq or nsga2"
        )


class Greedy(Proposer):
    """Always the untried candidate of the highest prediction; ties are broken at random.

    Args:
        setting: what it is made for.
        predictor: see :data:`search.predictors.Predictor`.
        first: how many candidates to draw at random before the first prediction.
        epsilon: the share of trials that are drawn at random for ever.
    """

    def __init__(self, setting: Setting, predictor: Predictor, first: int = 0, epsilon: float = 0.0) -> None:
        super().__init__(setting)
        self.predictor = predictor
        self._first = first
        self._epsilon = epsilon

    def propose(self, seen: Seen, number: int) -> Candidate:
        """The untried candidate of the highest prediction."""
        random = self.random(number)
        if len(seen.taken) < self._first or random.random() < self._epsilon:
            return self.untaken(seen.taken, random)
        pool = self._pool(seen, random)
        if not pool:
            return self.untaken(seen.taken, random)
        prior = self.setting.prior.oriented(self.setting.signs[0])
        # what is being measured is predicted with the rest, so that several workers see the same scale
        candidates = (*pool, *seen.measured)
        measured = {c: values[0] for c, values in seen.measured.items()}
        scores = self.predictor(Problem(self.setting.space, candidates, prior, measured))[: len(pool)]
        best = np.flatnonzero(scores >= scores.max() - 1e-12)
        return pool[int(random.choice(best))]

    def _pool(self, seen: Seen, random: np.random.Generator) -> list[Candidate]:
        """What to choose from: the space, or of a large one draws, the tables' best and the best ones' neighbours."""
        space = self.setting.space
        if space.enumerable:
            return [c for c in space.candidates if c not in seen.taken]
        sign = self.setting.signs[0]
        drawn: list[Candidate] = [space.draw(random) for _ in range(_POOL)]
        for table in self.setting.prior.tables:
            best = sorted(table.scores, key=lambda c: -sign * table.scores[c])[:100]
            drawn += [c for c in best if c in space]
        anchors = sorted(seen.measured, key=lambda c: -seen.measured[c][0])[:5]
        drawn += [n for anchor in anchors for n in space.neighbours(anchor)]
        return [c for c in dict.fromkeys(drawn) if c not in seen.taken]


class Unrepeated(_Whole):
    """A sampler of Optuna's that is asked again while it repeats itself, then moved to the nearest untried candidate.

    Args:
        setting: what it is made for.
        build: makes Optuna's sampler from a seed; it is made anew for every trial, so that a resumed study goes on
            as an uninterrupted one would.
    """

    def __init__(self, setting: Setting, build: Callable[[int], BaseSampler]) -> None:
        super().__init__(setting)
        self._build = build

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Optuna's proposal, or one near it."""
        space, random = self.setting.space, self.random(trial.number)
        inner = self._build(int(random.integers(2**31)))
        taken = Seen.of(study, self.setting).taken
        proposed = []
        for _ in range(_TRIES):
            params = inner.sample_relative(study, trial, search_space)
            for name, distribution in search_space.items():
                if name not in params:
                    params[name] = inner.sample_independent(study, trial, name, distribution)
            candidate = space.of_params(params)
            assert candidate is not None
            if candidate not in taken and candidate in space:
                return dict(space.params(candidate))
            proposed.append(candidate)
        near = [n for c in proposed for n in space.neighbours(c) if n not in taken]
        found = near[int(random.integers(len(near)))] if near else self.untaken(taken, random)
        return dict(space.params(found))
