"""Errors of package ``export``."""

from targets.errors import EdgepressError

__all__ = ["ExportError", "MissingRuntimeError", "UntunableError"]


class ExportError(EdgepressError):
    """A file that cannot be written, read or run."""


class UntunableError(ExportError):
    """A quantized file whose numbers cannot be improved upon; as the runtime's quantizer made it, it is fine."""


class MissingRuntimeError(ExportError):
    """A format whose packages are not installed (exit code 3: the environment)."""

    exit_code = 3
