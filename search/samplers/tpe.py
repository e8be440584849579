"""Optuna's multivariate TPE (Bergstra et al., 2011), never the same candidate twice."""

from __future__ import annotations

from optuna.samplers import TPESampler

from search.proposing import Unrepeated
from search.samplers import Setting

__all__ = ["make"]


def make(setting: Setting) -> Unrepeated:
    """The sampler for a setting; pending trials count as bad ones, so that workers spread."""
    return Unrepeated(
        setting,
        lambda seed: TPESampler(n_startup_trials=10, multivariate=True, constant_liar=True, seed=seed),
    )
