"""Run a study: ask a sampler for a candidate, evaluate it, write down what was measured; resume it, or join it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import attributes, beside
from search.errors import BudgetError, StorageError
from search.ledger import Conduct, Ledger
from search.owner import beating, own_name
from search.samplers import Setting, make
from search.space import Candidate
from search.storage import guarded, opened, patiently, quiet
from search.trial import Budget, Outcome, Plan, Trial

if TYPE_CHECKING:
    import optuna

__all__ = ["Budget", "Conduct", "Evaluate", "OnTrial", "Outcome", "Plan", "Trial", "join", "load", "run"]

Evaluate = Callable[[Candidate], Mapping[str, float]]
"""Measures a candidate: the objectives by name, and any other number worth keeping."""

OnTrial = Callable[[Trial, Outcome], None]
"""Called after each trial of this worker with it and all that is known by then."""

_HOPELESS = 10
"""After this many failures and no success a study ends."""

_POLL_SECONDS = 0.2


def run(
    plan: Plan,
    evaluate: Evaluate,
    budget: Budget,
    folder: Path,
    storage: str | Path | None = None,
    on_trial: OnTrial | None = None,
    conduct: Conduct | None = None,
) -> Outcome:
    """Search until the budget is spent or the space is measured; go on where an earlier call of the plan stopped.

    Args:
        plan: what to search.
        evaluate: measures a candidate; what it raises is written down as the trial's reason to fail.
        budget: when to stop.
        folder: gets ``search.journal`` (unless ``storage`` is given) and, after every trial, ``best.json``.
        storage: a path or an address, see :func:`search.storage.open_storage`; several workers may use one.
        on_trial: called after each trial.
        conduct: heartbeats, retries and patience.

    Raises:
        BudgetError: not one trial fits.
        StudyChangedError: the storage holds a study of that name that searches something else.
        StorageError: the storage went away; what was measured is in the error, and sent by the next call.
        AllTrialsFailedError: nothing was measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = storage if storage is not None else folder / "search.journal"
    with quiet():
        sampler = make(plan.sampler, Setting(plan.space, plan.signs, plan.prior, plan.seed))
    with quiet(), opened(place) as backend:
        study = attributes.create(plan, backend, place)
        study.sampler = sampler
        with guarded(place):
            attributes.judge(study, plan, getattr(sampler, "predictor", None))
        return _work(_Worker(plan, evaluate, budget, folder, place, study, on_trial, conduct or Conduct()))


def join(
    name: str,
    evaluate: Evaluate,
    budget: Budget,
    folder: Path,
    storage: str | Path,
    valid: Callable[[Candidate], bool] | None = None,
    on_trial: OnTrial | None = None,
) -> Outcome:
    """Work on a study that another process created; all but its name and storage is read from there.

    ``valid`` is the space's predicate, if it has one; ``folder`` is this worker's own.

    Raises:
        SearchError: there is no such study, or its space has another predicate.
    """
    plan = load(name, storage, valid).plan
    return run(plan, evaluate, budget, folder, storage, on_trial)


def load(name: str, storage: str | Path, valid: Callable[[Candidate], bool] | None = None) -> Outcome:
    """What a study holds, without working on it."""
    with quiet(), opened(storage) as backend, guarded(storage):
        study, plan = attributes.read(name, backend, storage, valid)
        ledger = Ledger(study, plan.space, Conduct())
        ledger._read()
        return Outcome(plan, ledger.trials)


@dataclass
class _Worker:
    """One call of :func:`run`."""

    plan: Plan
    evaluate: Evaluate
    budget: Budget
    folder: Path
    storage: str | Path
    study: optuna.Study
    on_trial: OnTrial | None
    conduct: Conduct
    measured: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start = time.monotonic()
        self.ledger = Ledger(self.study, self.plan.space, self.conduct)

    @property
    def limit(self) -> int | None:
        """How many candidates the study is to try."""
        size = self.plan.space.size if self.plan.space.enumerable else None
        wanted = [n for n in (self.budget.trials, size) if n is not None]
        return min(wanted) if wanted else None

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return math.inf if self.budget.seconds is None else self.budget.seconds - (time.monotonic() - self.start)

    def patiently(self, act: Callable[[], Any]) -> Any:
        return patiently(act, self.storage, self.conduct.patience_seconds)

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.plan, self.ledger.trials)


def _work(worker: _Worker) -> Outcome:
    """The loop: until the study is full, the time is up, or there is no hope."""
    if worker.limit is None and worker.budget.seconds is None:
        raise BudgetError(f"the space has {worker.plan.space.combinations:.3g} combinations: give trials or seconds")
    try:
        worker.patiently(lambda: beside.send_kept(worker.folder, worker.plan, worker.study, worker.ledger))
        while True:
            worker.patiently(worker.ledger.look)
            if _is_over(worker):
                break
            if _others_have_the_rest(worker):
                time.sleep(_POLL_SECONDS)  # they may die, and what they have be lost
            else:
                _one_trial(worker)
    except StorageError as error:
        error.measured = tuple(worker.measured)
        raise
    outcome = worker.outcome
    beside.write_best(worker.folder, outcome)
    _ = outcome.best
    return outcome


def _others_have_the_rest(worker: _Worker) -> bool:
    if worker.limit is None or worker.ledger.waiting:
        return False
    return len(worker.ledger.trials) + worker.ledger.running >= worker.limit


def _is_over(worker: _Worker) -> bool:
    trials = worker.ledger.trials
    if worker.limit is not None and len(trials) >= worker.limit:
        return True
    enough = worker.budget.enough
    if enough is not None and any(enough(t) for t in trials if not t.failed):
        return True
    if len(trials) >= _HOPELESS and all(t.failed for t in trials):
        return True
    if worker.budget.seconds is None:
        return False
    known = worker.ledger.expected_seconds()
    expected = known if known is not None else worker.budget.expected_seconds or 0.0
    if worker.left >= expected and worker.left > 0:
        return False
    if not worker.measured:
        raise BudgetError(
            f"study {worker.plan.name!r}: {worker.budget.seconds:.3g} s hold no trial, one takes {expected:.3g} s "
            f"({'the median so far' if known is not None else 'as stated'}): give at least {1.1 * expected:.3g} s"
        )
    if len(worker.measured) == 1 and worker.left < -0.1 * worker.budget.seconds:
        raise BudgetError(
            f"study {worker.plan.name!r}: {worker.budget.seconds:.3g} s were given and the first trial alone took "
            f"{worker.measured[0].seconds:.3g} s; it is kept: give more and go on"
        )
    return True


def _one_trial(worker: _Worker) -> None:
    """Ask, evaluate, tell; nothing when another worker got the candidate first."""
    start = time.monotonic()
    asked: optuna.Trial | None = worker.patiently(lambda: _ask(worker))
    if asked is None:
        return
    candidate = worker.plan.space.of_params(asked.params)
    assert candidate is not None
    beat, trial_id = worker.study._storage.set_trial_user_attr, asked._trial_id
    values: dict[str, float] = {}
    try:
        with beating(lambda count: beat(trial_id, "beat", count), worker.conduct.beat_seconds):
            values, reason = _checked(worker.evaluate(candidate), worker.plan)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:500]
    except BaseException:
        with guarded(worker.storage):
            worker.ledger.abandon(trial_id, "interrupted", "interrupted by hand")
        raise
    trial = Trial(asked.number, candidate, values, reason, time.monotonic() - start)
    worker.measured.append(trial)
    try:
        worker.patiently(lambda: _tell(worker, trial_id, trial))
    except StorageError:
        beside.keep(worker.folder, worker.plan, trial)
        raise
    worker.patiently(worker.ledger.look)
    outcome = worker.outcome
    beside.write_best(worker.folder, outcome)
    if worker.on_trial is not None:
        worker.on_trial(trial, outcome)


def _ask(worker: _Worker) -> optuna.Trial | None:
    trial = worker.study.ask(worker.plan.space.distributions())
    trial.set_user_attr("owner", own_name())
    if worker.ledger.keeps(trial.number, worker.limit):
        return trial
    worker.ledger.abandon(trial._trial_id, "void", "another worker has the candidate")
    return None


def _checked(returned: object, plan: Plan) -> tuple[dict[str, float], str | None]:
    """The values, or why they are none."""
    if not isinstance(returned, Mapping):
        return {}, f"the evaluation returned {type(returned).__name__}, expected a mapping with {list(plan.objectives)}"
    for name in plan.objectives:
        if name not in returned:
            return {}, f"the evaluation returned {sorted(returned)} without the objective {name!r}"
        if not math.isfinite(returned[name]):
            return {}, f"objective {name!r} is {returned[name]}"
    return {str(name): float(value) for name, value in returned.items()}, None


def _tell(worker: _Worker, trial_id: int, trial: Trial) -> None:
    """Write a trial down; when it was taken for lost meanwhile, whoever has it now writes it down instead."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    storage = worker.study._storage
    try:
        storage.set_trial_user_attr(trial_id, "seconds", round(trial.seconds, 6))
        if trial.failed:
            storage.set_trial_user_attr(trial_id, "reason", trial.reason)
            storage.set_trial_state_values(trial_id, TrialState.FAIL)
        else:
            storage.set_trial_user_attr(trial_id, "measured", dict(trial.values))
            values = [trial.values[name] for name in worker.plan.objectives]
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values)
    except UpdateFinishedTrialError:
        return
