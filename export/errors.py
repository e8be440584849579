"""Errors of package ``export``."""

from targets.errors import EdgepressError

__all__ = ["ExportError", "MissingRuntimeError"]


class ExportError(EdgepressError):
    """A file that cannot be written, read or run."""


class MissingRuntimeError(ExportError):
    """A format whose packages are not installed (exit code 3: the environment)."""

    exit_code = 3
