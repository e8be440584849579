"""Package search as the command line uses it: its errors in the words, and with the exit codes, of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from compress.errors import CompressError, MachineError, UsageError

__all__ = ["told"]


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
