"""Errors of edgepress that a user can mend; the root of the tree lives in the lowest package."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["EdgepressError", "ProfileError", "TargetError", "nearest"]


class EdgepressError(Exception):
    """Base of all errors shown to the user as one message, without a traceback (exit code 2)."""

    exit_code = 2


class TargetError(EdgepressError):
    """A target that does not exist."""


class ProfileError(EdgepressError):
    """A target profile that does not parse or validate."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ``did you mean 'mobile'? known: desktop, mobile``.

    >>> nearest("moble", ["desktop", "mobile"])
    "did you mean 'mobile'? known: desktop, mobile"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
