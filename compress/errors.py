"""The errors a user can cause, and the exit code of each.

Tree::

    EdgepressError (targets.errors)      exit 2
    ├── TargetError, ProfileError        unknown target, bad profile (package targets)
    ├── ExportError                      a file cannot be written, read or run (package export)
    └── CompressError
        ├── UsageError                   a flag, a name or a combination that makes no sense
        ├── DataError                    images that cannot be used
        ├── WeightsError                 a checkpoint that cannot be loaded
        ├── RecipeError                  a recipe that does not parse or validate
        ├── RunFolderError               a run folder that is taken, foreign or damaged
        └── MachineError                 exit 3: a storage that cannot be reached, a package that is missing

A message says what was found, where, what was expected and what to do.
"""

from targets.errors import EdgepressError, nearest

__all__ = [
    "CompressError",
    "DataError",
    "MachineError",
    "RecipeError",
    "RunFolderError",
    "UsageError",
    "WeightsError",
    "nearest",
]


class CompressError(EdgepressError):
    """An error of package ``compress`` that the user can mend."""


class UsageError(CompressError):
    """A flag, a name or a combination of them that makes no sense."""


class DataError(CompressError):
    """Images that are missing, unreadable or do not fit together."""


class WeightsError(CompressError):
    """A checkpoint that is missing, unreadable or made for another network."""


class RecipeError(CompressError):
    """A recipe that does not parse, or names things that do not exist."""


class RunFolderError(CompressError):
    """A run folder that is taken, belongs to another run, or is damaged."""


class MachineError(CompressError):
    """What the machine lacks: a storage that can be reached, a package (exit code 3: the environment)."""

    exit_code = 3
