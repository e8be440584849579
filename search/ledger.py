"""The trials of a study as several workers see them: who has what, what was lost, what counts.

No lock is needed.  A worker writes down its candidate and then reads all trials; of two with the same candidate the one
with the smaller number keeps it and the other is void (Lamport's bakery, CACM 17(8), 1974).  A trial whose worker died
is marked lost; whoever sees a lost candidate that nobody has puts it back in the queue.  Both rules can be applied
twice, or be cut short anywhere, and be applied again.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from search.errors import SearchError
from search.owner import Watch, is_dead
from search.space import Candidate, Space
from search.trial import Trial

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["Conduct", "Ledger", "candidate_of", "kind_of"]

Kind = Literal["measured", "failed", "running", "waiting", "lost", "void"]

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Conduct:
    """How workers behave towards each other and a storage that stays away.

    Attributes:
        beat_seconds: how often a running trial says that it is alive.
        stale_seconds: a trial that has not said so for this long has lost its worker; a worker that died on this
            host is noticed at once.
        retries: how often a candidate that lost its worker is tried again.
        patience_seconds: how long to wait for a storage that went away.
    """

    beat_seconds: float = 10.0
    stale_seconds: float = 60.0
    retries: int = 1
    patience_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.beat_seconds < self.stale_seconds:
            raise SearchError(f"a trial has to beat before it is stale, found {self}: raise stale_seconds")


def candidate_of(trial: FrozenTrial, space: Space) -> Candidate | None:
    """The candidate of an Optuna trial; ``None`` while it is being chosen."""
    return space.of_params(trial.params)


def kind_of(trial: FrozenTrial) -> Kind:
    """What a trial of Optuna's is to us; void trials are no trials at all."""
    from optuna.trial import TrialState

    if trial.state == TrialState.COMPLETE:
        return "measured"
    if trial.state == TrialState.FAIL:
        outcome = trial.user_attrs.get("outcome")
        return "lost" if outcome in ("lost", "interrupted") else "void" if outcome == "void" else "failed"
    return "waiting" if trial.state == TrialState.WAITING else "running"


class Ledger:
    """All trials of a study, read again by every :meth:`look`."""

    def __init__(self, study: Study, space: Space, conduct: Conduct) -> None:
        self._study = study
        self._space = space
        self._conduct = conduct
        self._watch = Watch(conduct.stale_seconds)
        self._candidates: dict[int, Candidate] = {}
        self._trials: list[FrozenTrial] = []

    def look(self) -> None:
        """Read the storage, mark what lost its worker, and queue again what was lost."""
        self._read()
        stale = [t for t in self._trials if kind_of(t) == "running" and self._is_stale(t)]
        losses = self._losses()
        for trial in stale:
            before = losses[candidate] if (candidate := self._candidate(trial)) else 0
            if before < self._conduct.retries or candidate is None:
                self.abandon(trial._trial_id, "lost", "its worker died")
            else:
                self.abandon(trial._trial_id, "failed", f"its worker died {before + 1} times")
        if stale:
            self._read()
        again = set(self._losses()) - {self._candidate(t) for t in self._trials if kind_of(t) not in ("lost", "void")}
        for candidate in sorted(again, key=self._space.indices):
            self._queue(candidate)
        if again:
            self._read()

    def _read(self) -> None:
        self._trials = self._study.get_trials(deepcopy=False)

    def _candidate(self, trial: FrozenTrial) -> Candidate | None:
        if trial.number not in self._candidates:
            found = candidate_of(trial, self._space)
            if found is None:
                return None
            self._candidates[trial.number] = found
        return self._candidates[trial.number]

    def _is_stale(self, trial: FrozenTrial) -> bool:
        owner, beat = trial.user_attrs.get("owner"), trial.user_attrs.get("beat")
        if owner is not None and is_dead(owner):
            return True
        return self._watch.still(trial.number, (owner, beat, len(trial.params)))

    def _losses(self) -> Counter[Candidate]:
        """How often each candidate lost its worker; an interruption by hand is no fault of the candidate's."""
        counts: Counter[Candidate] = Counter()
        for trial in self._trials:
            candidate = self._candidate(trial)
            if kind_of(trial) == "lost" and candidate is not None:
                counts[candidate] += trial.user_attrs["outcome"] == "lost"
        return counts

    def abandon(self, trial_id: int, outcome: Literal["lost", "interrupted", "void", "failed"], reason: str) -> None:
        """End a trial without a result; when another worker was faster, nothing happens."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        storage = self._study._storage
        with contextlib.suppress(UpdateFinishedTrialError):
            storage.set_trial_user_attr(trial_id, "outcome", outcome)
            storage.set_trial_user_attr(trial_id, "reason", reason)
            storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _queue(self, candidate: Candidate) -> None:
        from optuna.trial import TrialState, create_trial

        params: dict[str, Any] = self._space.params(candidate)
        waiting = create_trial(state=TrialState.WAITING, params=params, distributions=self._space.distributions())
        self._study.add_trial(waiting)

    def keeps(self, number: int, limit: int | None) -> bool:
        """Whether the trial of that number may be evaluated: no earlier one has its candidate, nor the last free place.

        Waits for earlier trials whose candidate is still being chosen.
        """
        while True:
            self._read()
            mine = next(self._candidate(t) for t in self._trials if t.number == number)
            earlier = [t for t in self._trials if t.number < number and kind_of(t) not in ("lost", "void")]
            earlier = [t for t in earlier if kind_of(t) != "running" or not self._is_stale(t)]
            taken = {self._candidate(t) for t in earlier}
            if mine in taken or (limit is not None and len(taken - {None}) >= limit):
                return False
            if None not in taken:
                return True
            time.sleep(_POLL_SECONDS)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every candidate that is done with, once, in the order of the numbers."""
        found: dict[Candidate, Trial] = {}
        for trial in self._trials:
            candidate = self._candidate(trial)
            if candidate is None or (candidate in found and not found[candidate].failed):
                continue
            if kind_of(trial) == "measured" or (kind_of(trial) == "failed" and candidate not in found):
                found[candidate] = _as_trial(trial, candidate)
        return tuple(sorted(found.values(), key=lambda t: t.number))

    @property
    def waiting(self) -> bool:
        """Whether a candidate is queued."""
        return any(kind_of(t) == "waiting" for t in self._trials)

    @property
    def running(self) -> int:
        """How many candidates are being evaluated, or queued for it."""
        done = {t.candidate for t in self.trials}
        open_ones = [t for t in self._trials if kind_of(t) in ("running", "waiting")]
        return len({self._candidate(t) or t.number for t in open_ones} - done)

    def expected_seconds(self) -> float | None:
        """The median duration of the trials so far."""
        seconds = [t.seconds for t in self.trials if t.seconds == t.seconds]
        return median(seconds) if seconds else None


def _as_trial(trial: FrozenTrial, candidate: Candidate) -> Trial:
    attributes = trial.user_attrs
    seconds = float(attributes.get("seconds", "nan"))
    if kind_of(trial) == "measured":
        return Trial(trial.number, candidate, dict(attributes.get("measured", {})), None, seconds)
    return Trial(trial.number, candidate, {}, str(attributes.get("reason", "not stated")), seconds)
