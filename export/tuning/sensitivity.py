"""Which tensors the loss comes from: each taken out of quantization alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from export import graph as graphs
from export.graph.ir import Graph

__all__ = ["Part", "of_file", "sensitivity"]


@dataclass(frozen=True)
class Part:
    """What one tensor, or several that share a scale, contributes."""

    name: str
    """The operator that makes it, and which of its kind that is: ``CONV_2D 3``; or ``weights of CONV_2D 3``."""
    share: float
    """How much of the squared error against the float network goes away without its rounding; may be negative."""
    range: tuple[float, float]
    """The real numbers that its grid reaches; of weights, of the channel that reaches farthest."""
    fixed: bool = False
    """The runtime prescribes its grid, or it is exact already."""
    end: bool = False
    """It is the network's input or output."""


def of_file(path: Path, plain: Path, images: Sequence[np.ndarray]) -> list[Part]:
    """As :func:`sensitivity`, of the graph that a quantized file holds.

    Args:
        path: the quantized file.
        plain: the float file that it was made of.
        images: inputs (H, W, C); eight tell enough.

    Raises:
        UntunableError: the graph cannot be read.
    """
    graph = graphs.read(path, plain)
    inputs = torch.from_numpy(np.stack(images))
    return sensitivity(graph, inputs if graph.layout == "nhwc" else inputs.permute(0, 3, 1, 2).contiguous())


def sensitivity(graph: Graph, images: Tensor, progress: Callable[[int], None] = lambda done: None) -> list[Part]:
    """Every grid by its share of the output's error on some inputs, the largest first.

    The error is that of the graph in torch, which scores as the runtime does to a few hundredths of a dB.
    """
    titles = _titles(graph)
    with torch.no_grad():
        exact = graph.run(images, quantized=False)

        def error() -> float:
            return float((graph.run(images) - exact).square().mean())

        whole = max(error(), 1e-30)
        found = []
        for grid, names in graph.activations().items():
            kept = {name: graph.grids.pop(name) for name in names}
            title, end = " + ".join(titles.get(n, n) for n in names[:2]), bool({graph.input, graph.output} & set(names))
            found.append(Part(title, 1 - error() / whole, grid.range, grid.fixed, end))
            graph.grids.update(kept)
            progress(len(found))
        for layer in graph.layers:
            name = layer.weight
            rounded, weights_grid = graph.constants[name], graph.grids.pop(name)
            graph.constants[name] = graph.originals[name]
            reach = float((weights_grid.scale * weights_grid.high).max())
            found.append(Part(titles.get(name, name), 1 - error() / whole, (-reach, reach)))
            graph.constants[name], graph.grids[name] = rounded, weights_grid
            progress(len(found))
    return sorted(found, key=lambda part: -part.share)


def _titles(graph: Graph) -> dict[str, str]:
    """A name for every tensor that a reader of the file's picture can find."""
    counts: dict[str, int] = {}
    titles = {graph.input: "input"}
    for op in graph.ops:
        counts[op.kind] = counts.get(op.kind, 0) + 1
        titles[op.output] = f"{op.kind} {counts[op.kind]}"
        if op.linear is not None:
            titles.setdefault(op.linear.weight, f"weights of {op.kind} {counts[op.kind]}")
    return titles
