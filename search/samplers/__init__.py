"""Samplers, found by the files of this folder being there; each module has ``make(setting)``, an Optuna sampler.

Its first docstring line is its help.  None of them proposes a candidate again while others are left.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from search.errors import SearchError
from search.history import Prior
from search.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

__all__ = ["Setting", "make", "names", "summary"]


@dataclass(frozen=True)
class Setting:
    """What a sampler is made for.

    Attributes:
        space: the candidates.
        signs: for each objective 1 where larger is better, -1 where smaller is.
        prior: what other models measured.
        seed: the same seed and measurements give the same proposals.
    """

    space: Space
    signs: tuple[int, ...] = (1,)
    prior: Prior = field(default_factory=Prior)
    seed: int = 0


def names() -> list[str]:
    """All samplers, without importing one."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _module(name: str) -> object:
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise SearchError(f"unknown sampler {name!r}; {f'did you mean {near[0]!r}? ' if near else ''}known: {known}")
    return importlib.import_module(f"{__name__}.{name}")


def make(name: str, setting: Setting) -> BaseSampler:
    """The sampler of that name.

    Raises:
        SearchError: there is none, or it cannot do what the setting asks for.
    """
    sampler: BaseSampler = getattr(_module(name), "make")(setting)  # noqa: B009 (a module's attribute, unknown to mypy)
    return sampler


def summary(name: str) -> str:
    """What it does, in one line."""
    return (_module(name).__doc__ or "").strip().split("\n", 1)[0]
