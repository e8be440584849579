"""Errors of edgepress that a user can mend; the root of the tree lives in the lowest package."""

__all__ = ["EdgepressError", "ProfileError", "TargetError"]


class EdgepressError(Exception):
    """Base of all errors shown to the user as one message, without a traceback (exit code 2)."""

    exit_code = 2


class TargetError(EdgepressError):
    """A target that does not exist."""


class ProfileError(EdgepressError):
    """A target profile that does not parse or validate."""
