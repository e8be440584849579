"""What measured best (docs/search.md): rank_residual, or simq for several objectives and for large spaces."""

from __future__ import annotations

from optuna.samplers import BaseSampler

from search import samplers
from search.samplers import Setting

__all__ = ["choice", "make"]


def choice(setting: Setting) -> str:
    """The name of the sampler that suits a setting."""
    known = any(c in setting.space for table in setting.prior.tables for c in table.scores)
    one = len(setting.signs) == 1
    return "rank_residual" if one and (known or setting.space.enumerable) else "simq"


def make(setting: Setting) -> BaseSampler:
    """The sampler for a setting."""
    return samplers.make(choice(setting), setting)
