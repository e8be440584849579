"""Merging of re-parameterisable blocks."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Reparameterize", "mergeable", "merged"]


def mergeable(module: nn.Module) -> int:
    """How many blocks of the module have a merged form."""
    return sum(callable(getattr(child, "merge", None)) for child in module.modules())


def merged(module: nn.Module) -> nn.Module:
    """A copy in which the module, or every sub-module, that has ``merge()`` is replaced by what that returns."""
    module = copy.deepcopy(module)
    own = getattr(module, "merge", None)
    if callable(own):
        whole: nn.Module = own()
        return whole
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

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network in its deploy form."""
        if not mergeable(network.module):
            return network
        return replace(network, module=merged(network.module).eval(), graph=None)
