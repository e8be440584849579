"""Merging of re-parameterisable blocks."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from compress.network import Network
from compress.registry import METHODS

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Reparameterize", "merged"]


def merged(module: nn.Module) -> nn.Module:
    """A copy in which every sub-module that has ``merge()`` is replaced by what that returns."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            merge = getattr(child, "merge", None)
            if callable(merge):
                setattr(parent, name, merge())
    return module


@METHODS.add("reparameterize")
@dataclass(frozen=True)
class Reparameterize:
    """Merge training-time branches into the plain convolutions they equal.

    RepVGG (Ding et al., arXiv:2101.03697, section 3.3) and its descendants; exact up to rounding, so it comes
    before anything else touches the weights.  A network without such blocks is returned as it is.
    """

    def __call__(self, network: Network, task: Task) -> Network:
        """The network in its deploy form."""
        return replace(network, module=merged(network.module).eval())
