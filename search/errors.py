"""What can go wrong in a search; every message says what was found, where, what was expected and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.trial import Trial

__all__ = [
    "AllTrialsFailedError",
    "BudgetError",
    "InfeasibleError",
    "SearchError",
    "SpaceError",
    "StorageError",
    "StudyChangedError",
]


class SearchError(Exception):
    """Any error of this package that its user can mend."""


class SpaceError(SearchError):
    """A space that cannot be, or a candidate that is not in it."""


class BudgetError(SearchError):
    """A budget in which not one trial fits."""


class StudyChangedError(SearchError):
    """A study was found under the name, but it searches something else."""


class AllTrialsFailedError(SearchError):
    """Nothing was measured, because every trial raised."""


class InfeasibleError(SearchError):
    """No assignment keeps the budgets.

    Attributes:
        reachable: the smallest value of each cost that some assignment reaches, by its name.
    """

    def __init__(self, message: str, reachable: dict[str, float]) -> None:
        super().__init__(message)
        self.reachable = reachable


class StorageError(SearchError):
    """The storage cannot be reached or went away.

    Attributes:
        measured: the trials that this worker measured in this call, the last of which the storage may lack.
    """

    def __init__(self, message: str, measured: tuple[Trial, ...] = ()) -> None:
        super().__init__(message)
        self.measured = measured
