"""Quantization-aware training of a graph: rounding stays in, gradients pass through it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from export.graph.ir import Graph, Grid

__all__ = ["train"]

_BATCH = 8
_COARSE = 0.25  # of the rate, for weights of few bits: a step of theirs is a large part of the whole range
_CROP = 48


def train(
    graph: Graph,
    images: Tensor,
    steps: int,
    rate: float = 0.02,
    scale_rate: float = 1e-3,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train weights, biases and activation scales towards the float network's outputs; no labels.

    Learned step size (Esser et al., arXiv:1902.08153).  Weights move in units of their own grid, so one rate
    suits all layers.  The loss is each input's root mean square error, which is what PSNR sees.

    Args:
        graph: with grids and weights to start from.
        images: inputs in the graph's layout; images are cut to crops and flipped.
        steps: of Adam, the rates falling as a cosine.
        rate: of weights and biases, in steps of their grids.
        scale_rate: of the logarithms of activation scales.
        progress: told the steps done and the loss.
    """
    moving = _Moving(graph)
    optimizer = torch.optim.Adam(
        [
            {"params": moving.weights_of(graph, coarse=False), "lr": rate},
            {"params": moving.weights_of(graph, coarse=True), "lr": rate * _COARSE},
            {"params": list(moving.biases.values()), "lr": rate},
            {"params": moving.scales, "lr": scale_rate},
        ],
        betas=(0.9, 0.99),
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    draw = torch.Generator().manual_seed(0)
    for done in range(steps):
        for group, base in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = base * 0.5 * (1 + math.cos(math.pi * done / steps))
        x = _batch(images, graph, draw)
        with torch.no_grad():
            target = graph.run(x, quantized=False)
        moving.place(graph)
        error = (graph.run(x) - target).reshape(len(x), -1).square().mean(1)
        loss = (error + 1e-12).sqrt().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(done + 1, float(loss.detach()))
    moving.settle(graph)


class _Moving:
    """What training moves, in units of the grids."""

    def __init__(self, graph: Graph) -> None:
        self.weights: dict[str, nn.Parameter] = {}
        self.biases: dict[str, nn.Parameter] = {}
        self._units: dict[str, Tensor] = {}
        for op in graph.ops:
            if op.linear is None or op.linear.weight not in graph.grids:
                continue
            name = op.linear.weight
            self._units[name] = _unit(graph.grids[name], graph.constants[name])
            self.weights[name] = nn.Parameter(graph.constants[name] / self._units[name])
            bias, step = op.linear.bias, _step_behind(graph, op.output)
            if bias is not None and step is not None:
                self._units[bias] = step
                self.biases[bias] = nn.Parameter(graph.constants[bias] / self._units[bias])
        self._grids = [grid for grid in graph.activations() if not grid.fixed and grid.follows is None]
        self._followers = [grid for grid in graph.activations() if grid.follows is not None]
        self.scales = [nn.Parameter(grid.scale.log()) for grid in self._grids]

    def weights_of(self, graph: Graph, coarse: bool) -> list[nn.Parameter]:
        """The weights of fewer than 8 bits, or the others."""
        return [value for name, value in self.weights.items() if (graph.grids[name].high < 127) == coarse]

    def place(self, graph: Graph) -> None:
        """Let the graph run with the values as they are, gradients included."""
        for name, value in (*self.weights.items(), *self.biases.items()):
            graph.constants[name] = value * self._units[name]
        for grid, log in zip(self._grids, self.scales, strict=True):
            grid.scale = log.exp()
        for grid in self._followers:
            if grid.follows is not None:
                grid.scale = grid.follows.scale * grid.factor

    def settle(self, graph: Graph) -> None:
        """Leave plain tensors, the weights on their grids."""
        with torch.no_grad():
            self.place(graph)
            for grid in (*self._grids, *self._followers):
                grid.scale = grid.scale.detach()
            for name in self.weights:
                graph.constants[name] = graph.snap(name, graph.constants[name])


def _step_behind(graph: Graph, name: str) -> Tensor | None:
    """The scale of a tensor, or of the activation that alone reads it."""
    readers = graph.consumers(name)
    if name not in graph.grids and len(readers) == 1 and readers[0].pointwise:
        name = readers[0].output
    return graph.grids[name].scale.clone() if name in graph.grids else None


def _unit(grid: Grid, weight: Tensor) -> Tensor:
    """The grid's scale, in a shape that divides the weight."""
    if grid.axis is None or grid.scale.numel() == 1:
        return grid.scale.clone()
    shape = [1] * weight.dim()
    shape[grid.axis] = -1
    return grid.scale.reshape(shape).clone()


def _batch(images: Tensor, graph: Graph, draw: torch.Generator) -> Tensor:
    """Some inputs, flipped at random; cut where the network takes any size."""
    chosen = images[torch.randint(len(images), (min(_BATCH, len(images)),), generator=draw)]
    for axis in (1, 2) if graph.layout == "nhwc" else (2, 3):
        extent = chosen.shape[axis]
        if graph.any_size:
            start = int(torch.randint(max(extent - _CROP, 0) + 1, (), generator=draw))
            chosen = chosen.narrow(axis, start, min(_CROP, extent))
        if torch.rand((), generator=draw) < 0.5:
            chosen = chosen.flip(axis)
    return chosen.contiguous()
