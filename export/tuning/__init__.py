"""Better numbers for a quantized file, found in torch on the graph that the file holds."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from export.graph.ir import Graph
from export.policy import QuantPolicy
from export.tuning.exact import exact_constants, exact_ends, share_grids
from export.tuning.ranges import Histogram, collect, set_ranges
from export.tuning.reconstruct import reconstruct
from export.tuning.tint import tinted
from export.tuning.train import train

__all__ = ["tune"]

_FITTED = 32  # inputs: the positions of more would only be thinned out
_KEPT = 4  # graphs with their inputs, half a megabyte each
_seen: OrderedDict[str, Mapping[str, Histogram]] = OrderedDict()


def tune(
    graph: Graph, policy: QuantPolicy, images: Tensor, progress: Callable[[str, int], None] = lambda what, done: None
) -> None:
    """Set the graph's grids and weights as a policy says; whatever it leaves open follows the calibration inputs.

    Args:
        graph: read from the int8 file, with the float file's constants.
        policy: what to do.
        images: calibration inputs (N, ...) in the graph's layout.
        progress: told what is going on, and how many operators or steps are done.
    """
    for layer, bits in zip(graph.layers, policy.layer_bits or (policy.weight_bits,) * len(graph.layers), strict=True):
        grid = graph.grids[layer.weight]
        grid.low, grid.high = 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1
    set_ranges(graph, _histograms(graph, images), policy.clipping, policy.scheme)
    if policy.exact:
        share_grids(graph)
        if _grey_levels(images):
            exact_ends(graph, graph.gives_images, policy.correction != "none")
        exact_constants(graph)
    if graph.gives_images and _grey_levels(images):
        images = tinted(images, 3 if graph.layout == "nhwc" else 1)
    reconstruct(graph, images[:_FITTED], policy, lambda done: progress("rounding weights", done))
    if policy.training_steps:
        train(graph, images, policy.training_steps, progress=lambda done, loss: progress("training", done))


def _histograms(graph: Graph, images: Tensor) -> Mapping[str, Histogram]:
    """As :func:`collect`; kept for the next policies of a search, whose float graph and inputs are the same."""
    key = _digest(graph, images)
    if key not in _seen:
        _seen[key] = collect(graph, images)
        while len(_seen) > _KEPT:
            _seen.popitem(last=False)
    return _seen[key]


def _digest(graph: Graph, images: Tensor) -> str:
    """Of all that decides the histograms; what operators do shows in the output of the first input."""
    ops = [(op.kind, op.inputs, op.output, op.output in graph.grids) for op in graph.ops]
    total = hashlib.sha256(repr(ops).encode())
    with torch.no_grad():
        first = graph.run(images[:1], quantized=False)
    for name, tensor in (*sorted(graph.originals.items()), ("", first), (graph.input, images)):
        total.update(f"{name} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def _grey_levels(images: Tensor) -> bool:
    """Whether the inputs are images of 256 levels in [0, 1]."""
    levels = images * 255.0
    whole = float((levels - levels.round()).abs().max()) < 1e-3
    return whole and float(levels.min()) >= 0 and float(levels.max()) <= 255
