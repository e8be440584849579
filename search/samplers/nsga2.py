"""Optuna's NSGA-II (Deb et al., 2002) with a population that suits the space, never the same candidate twice."""

from __future__ import annotations

import math

from optuna.samplers import NSGAIISampler

from search.proposing import Unrepeated
from search.samplers import Setting

__all__ = ["make"]


def make(setting: Setting) -> Unrepeated:
    """The sampler for a setting; the population is the root of the space's size, from 8 to 50."""
    population = min(50, max(8, math.isqrt(setting.space.size)))
    return Unrepeated(setting, lambda seed: NSGAIISampler(population_size=population, seed=seed))
