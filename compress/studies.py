"""Package search as the command line uses it: its errors in the words, and with the exit codes, of this package."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compress.errors import CompressError, MachineError, UsageError

if TYPE_CHECKING:
    from search.space import Candidate
    from search.trial import Budget, Outcome, Plan, Trial

__all__ = ["OutOfTime", "in_time", "run", "told"]


class OutOfTime(BaseException):
    """The budget ended within a trial; no Exception, so that nothing on the way takes it for a failure."""


@contextmanager
def in_time(seconds: float | None) -> Iterator[None]:
    """Says what to do where the budget ended before anything was measured.

    Raises:
        UsageError: it did.
    """
    try:
        yield
    except OutOfTime:
        raise UsageError(f"--budget: {seconds:.3g} s ended before one policy was measured; give more time") from None


def run(
    plan: Plan,
    evaluate: Callable[[Candidate], dict[str, float]],
    budget: Budget,
    deadline: float,
    folder: Path,
    storage: str | Path | None = None,
    on_trial: Callable[[Trial, Outcome], None] | None = None,
) -> Outcome:
    """What a study holds after this call's share of it; a trial that the deadline cuts short is left to the next call.

    Args:
        plan: what to search.
        evaluate: measures a candidate; raises OutOfTime after the deadline.
        budget: when to stop; the deadline takes the place of its seconds.
        deadline: of ``time.monotonic()``.
        folder: as for :func:`search.study.run`, like the rest.
        storage: a path or an address; None: in the folder.
        on_trial: called after each trial.

    Raises:
        OutOfTime: nothing is measured.
    """
    from search import study

    place = storage if storage is not None else folder / "search.journal"
    left = None if math.isinf(deadline) else max(deadline - time.monotonic(), 0.1)
    try:
        return study.run(plan, evaluate, replace(budget, seconds=left), folder, place, on_trial)
    except OutOfTime:
        outcome = study.load(plan.name, place, plan.space.valid)
        if not outcome.measured:
            raise
        return outcome


@contextmanager
def told() -> Iterator[None]:
    """Whatever a study raises, as an error that the command line shows.

    Raises:
        UsageError: a budget in which no trial fits.
        MachineError: a storage that cannot be reached, or a package that is not installed.
        CompressError: anything else that the user can mend.
    """
    from search.errors import BudgetError, SearchError, StorageError

    try:
        yield
    except BudgetError as error:
        raise UsageError(f"--budget: {error}") from None
    except StorageError as error:
        raise MachineError(str(error)) from None
    except SearchError as error:
        raise CompressError(str(error)) from None
    except ModuleNotFoundError as error:
        raise MachineError(
            f"a search needs package {error.name}, which is not installed; pip install 'edgepress[search]'"
        ) from error
