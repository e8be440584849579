"""What is searched, what one trial measured, and what is known after some of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from search.errors import AllTrialsFailedError, BudgetError, SearchError
from search.history import Prior
from search.pareto import front
from search.space import Candidate, Space

__all__ = ["Budget", "Direction", "Outcome", "Plan", "Trial"]

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Plan:
    """What a study searches; stored with it, and compared when it is resumed.

    Attributes:
        space: the candidates.
        objectives: name to direction; the first one is what a sampler for one objective looks at.
        name: the study's name in its storage.
        sampler: a name of ``search.samplers.names()``.
        seed: the same seed, plan and measurements give the same trials.
        prior: what other models measured.
        metadata: anything else that must be the same on resuming, as JSON (the model's hash, the data).
    """

    space: Space
    objectives: Mapping[str, Direction] = field(default_factory=lambda: {"score": "maximize"})
    name: str = "search"
    sampler: str = "auto"
    seed: int = 0
    prior: Prior = field(default_factory=Prior)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.objectives:
            raise SearchError("a study needs an objective, e.g. {'accuracy': 'maximize'}")
        for name, direction in self.objectives.items():
            if direction not in ("maximize", "minimize"):
                raise SearchError(f"objective {name!r}: direction {direction!r} is neither 'maximize' nor 'minimize'")

    @property
    def signs(self) -> tuple[int, ...]:
        """For each objective 1 where larger is better, -1 where smaller is."""
        return tuple(1 if d == "maximize" else -1 for d in self.objectives.values())


@dataclass(frozen=True)
class Budget:
    """When to stop, whichever comes first; neither means when the space is measured.

    Attributes:
        trials: how many the study is to hold in all, earlier and other workers' included.
        seconds: how long this call may take; a trial that would not end in time is not started.
        expected_seconds: how long a trial takes, where that is known before the first one.
        enough: says of a measured trial, earlier ones and other workers' included, that none is needed after it.
    """

    trials: int | None = None
    seconds: float | None = None
    expected_seconds: float | None = None
    enough: Callable[[Trial], bool] | None = None

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise BudgetError(f"a budget of {self.trials} trials holds none: give 1 or more")
        if self.seconds is not None and not self.seconds > 0:
            raise BudgetError(f"a budget of {self.seconds} s holds no trial: give more than 0")


@dataclass(frozen=True)
class Trial:
    """One candidate and what was measured on it.

    Attributes:
        number: its number in the study; unique, with gaps where workers collided.
        candidate: what was tried.
        values: everything the evaluation returned, the objectives among it; empty when it failed.
        reason: why it failed; ``None`` when it did not.
        seconds: how long it took.
    """

    number: int
    candidate: Candidate
    values: Mapping[str, float]
    reason: str | None = None
    seconds: float = math.nan

    @property
    def failed(self) -> bool:
        """Whether there are no values."""
        return self.reason is not None


@dataclass(frozen=True)
class Outcome:
    """What a study holds: every candidate that was tried, once."""

    plan: Plan
    trials: tuple[Trial, ...]

    @property
    def measured(self) -> tuple[Trial, ...]:
        """The trials with values."""
        return tuple(t for t in self.trials if not t.failed)

    def _costs(self, trial: Trial) -> list[float]:
        return [-sign * trial.values[name] for name, sign in zip(self.plan.objectives, self.plan.signs, strict=True)]

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that none beats in every objective, the best of the first objective first."""
        measured = self.measured
        costs = [self._costs(t) for t in measured]
        kept = [(cost, t.number, t) for cost, t, on in zip(costs, measured, front(costs), strict=True) if on]
        return tuple(t for _, _, t in sorted(kept, key=lambda k: k[:2]))

    @property
    def best(self) -> Trial:
        """The best by the first objective; the earliest of several.

        Raises:
            AllTrialsFailedError: nothing was measured.
        """
        found = self.front
        if not found:
            reasons = sorted({t.reason or "" for t in self.trials})
            raise AllTrialsFailedError(
                f"study {self.plan.name!r}: all of {len(self.trials)} trials failed, with {'; '.join(reasons[:3])}"
            )
        return found[0]

    def to_json(self) -> dict[str, Any]:
        """The best so far, for a file."""

        def one(trial: Trial) -> dict[str, Any]:
            return {"number": trial.number, "candidate": dict(trial.candidate), "values": dict(trial.values)}

        found = self.front
        return {
            "study": self.plan.name,
            "objectives": dict(self.plan.objectives),
            "sampler": self.plan.sampler,
            "trials": len(self.trials),
            "failed": len(self.trials) - len(self.measured),
            "best": one(found[0]) if found else None,
            "front": [one(t) for t in found],
        }
