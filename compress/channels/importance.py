"""How much a channel matters: by its weights alone, or by what its loss would change in the output.

The measures that need gradients ask for no labels.  They take half the squared distance between the network's output
before and after the cut, of an image or of logits less their mean, whose curvature is J'J with J the derivative of the
output; it is sampled by gradients of <v, output> with v normal.  Labels drawn from a classifier's output, as Fisher's
information has them, say little where it is sure of itself: ResNet-56 cut by half kept 19 % on training images by
them, 46 % by logits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.channels.graph import Dependencies

__all__ = ["Measure", "scores"]

Measure = Literal["l1", "l2", "taylor", "fisher"]
Scores = NDArray[np.float64]


def scores(
    module: nn.Module, found: Dependencies, measure: Measure, inputs: Iterable[Tensor] = (), seed: int = 0
) -> Scores:
    """For every unit how much it matters; larger is more.

    - ``l1``, ``l2``: the norm of all weights that make and read the unit (Li et al., arXiv:1608.08710, section 3.1;
      over a dependency group as in Fang et al., arXiv:2301.12900, section 3.3), over the mean of its group, so that
      layers compare.
    - ``taylor``: the mean of (sum g w)^2 over what makes the unit (Molchanov et al., arXiv:1906.10771, section 3.1, of
      a gate).
    - ``fisher``: the mean of sum g^2 w^2 / 2, the diagonal of the Hessian (LeCun et al., Optimal Brain Damage,
      NIPS 1989).

    Args:
        module: the one that the dependencies were read off.
        found: its units.
        measure: one of these.
        inputs: images for the last two.
        seed: decides the directions that are sampled.
    """
    if measure in ("l1", "l2"):
        power = 1 if measure == "l1" else 2
        tensors = dict(module.named_parameters())
        total = _gathered(found, {k: v.detach().abs() ** power for k, v in tensors.items()}, False) ** (1 / power)
        for group in found.groups:
            total[group.units] /= max(float(total[group.units].mean()), 1e-30)
        return total
    total, count = np.zeros(found.count), 0
    for products in _gradients(module, inputs, seed):
        if measure == "taylor":
            total += _gathered(found, products, True) ** 2
        else:
            total += _gathered(found, {k: v**2 / 2 for k, v in products.items()}, True)
        count += 1
    return total / max(1, count)


def _gathered(found: Dependencies, tensors: dict[str, Tensor], made_only: bool) -> Scores:
    """Sums of numbers in tensors by the unit they belong to."""
    total = np.zeros(found.count)
    for name, value in tensors.items():
        for axis, ids in found.places.get(name, {}).items():
            if not made_only or axis in found.made[name]:
                others = [a for a in range(value.dim()) if a != axis]
                sums = value.double().sum(others) if others else value.double()
                np.add.at(total, ids, sums.numpy())
    return total


def _gradients(module: nn.Module, inputs: Iterable[Tensor], seed: int) -> Iterator[dict[str, Tensor]]:
    """For each input, gradient times weight of every parameter."""
    module = copy.deepcopy(module).eval().requires_grad_(True)
    random = torch.Generator().manual_seed(seed)
    for x in inputs:
        output = module(x)
        if output.dim() == 2:
            output = output - output.mean(1, keepdim=True)
        value = (output * torch.randn(output.shape, generator=random)).sum()
        module.zero_grad()
        value.backward()
        yield {k: (p.grad * p).detach() for k, p in module.named_parameters() if p.grad is not None}
