"""Concatenations whose inputs no longer share one coarse scale."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pydantic
import torch
from torch import Tensor, fx, nn

from compress.methods._fx import Traced, calls_once, concat_inputs, traced
from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["FreeConcats"]

_STEPS = 255
_OFF_CENTRE = 16  # steps that a range may lie off the middle
_ALIKE = 1.25  # ranges this close gain nothing worth an operator


@METHODS.add("free-concats")
@dataclass(frozen=True)
class FreeConcats:
    """Scale the inputs of concatenations to one range, so that int8 keeps the small ones; exact in float.

    An int8 concatenation puts all inputs on one grid, made for the widest.  Here each input is multiplied by a
    constant (and moved, where the next layer does not pad), and the weights of the convolutions that follow are
    divided by it: the function stays, and every input's own integers pass through unchanged.  The same idea as
    cross-layer equalisation (Nagel et al., arXiv:1906.04721, section 4.1), one factor for each input.
    A network whose code cannot be traced is returned as it is.
    """

    crops: Annotated[int, pydantic.Field(ge=1, le=512)] = 32
    """How many calibration inputs the ranges are taken from."""
    crop_size: Annotated[int, pydantic.Field(ge=8, le=512)] = 64
    """Side of a crop in LR pixels."""

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network with free concatenations."""
        graph = traced(network.module)
        if graph is None or not any(_worth_it(node) for node in graph.graph.nodes):
            return network
        side = -(-self.crop_size // network.unit) * network.unit
        inputs = np.stack(task.calibration_inputs(self.crops, side, seed=0))
        images = torch.from_numpy(np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)))
        if not _freed(graph, images):
            return network
        return replace(network, module=Traced(graph, network.module).eval(), graph=None)


@dataclass(frozen=True)
class _Concat:
    """A concatenation that only convolutions read."""

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    readers: tuple[nn.Conv2d, ...]


def _worth_it(node: fx.Node) -> bool:
    return len(set(concat_inputs(node))) > 1


def _concats(graph: fx.GraphModule) -> list[_Concat]:
    modules = calls_once(graph)
    found = []
    for node in filter(_worth_it, graph.graph.nodes):
        readers = [modules.get(str(user.target)) if user.op == "call_module" else None for user in node.users]
        plain = [r for r in readers if isinstance(r, nn.Conv2d) and r.groups == 1 and r.padding_mode == "zeros"]
        if readers and len(plain) == len(readers):
            found.append(_Concat(node, concat_inputs(node), tuple(plain)))
    return found


class _Ranges(fx.Interpreter):
    """Smallest and largest value, and the channels, of some nodes."""

    def __init__(self, graph: fx.GraphModule, wanted: set[fx.Node]) -> None:
        super().__init__(graph)
        self._wanted = wanted
        self.found: dict[fx.Node, tuple[float, float, int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The node's value, as the base class computes it."""
        value = super().run_node(n)
        if n in self._wanted and isinstance(value, Tensor) and value.dim() == 4:
            low, high = float(value.min()), float(value.max())
            before = self.found.get(n, (low, high, 0))
            self.found[n] = (min(low, before[0]), max(high, before[1]), value.shape[1])
        return value


def _freed(graph: fx.GraphModule, images: Tensor) -> int:
    """Rewrite every concatenation worth it; how many were."""
    concats = _concats(graph)
    ranges = _Ranges(graph, {i for c in concats for i in c.inputs})
    with torch.inference_mode():
        for chunk in torch.split(images, 8):
            ranges.run(chunk)
    changed = 0
    for concat in concats:
        if all(i in ranges.found for i in concat.inputs) and _free(graph, concat, ranges.found):
            changed += 1
    if changed:
        graph.graph.lint()
        graph.recompile()
    return changed


def _free(graph: fx.GraphModule, concat: _Concat, ranges: Mapping[fx.Node, tuple[float, float, int]]) -> bool:
    """Bring every input to the range of integers that it fills best; the widest keeps its factor of one."""
    ends = [(min(ranges[i][0], 0.0), max(ranges[i][1], 0.0)) for i in concat.inputs]
    spans = [high - low for low, high in ends]
    if min(spans) <= 0 or max(spans) / min(spans) < _ALIKE:
        return False
    movable = all(all(p == 0 for p in _padding(conv)) for conv in concat.readers)
    factors = _factors(ends, movable)
    step = max(factor * span for factor, span in zip(factors, spans, strict=True)) / _STEPS
    first = 0
    inputs = []
    for node, (low, high), factor in zip(concat.inputs, ends, factors, strict=True):
        middle = (low + high) / 2 * factor
        shift = -round(middle / step) * step if movable and abs(middle) > _OFF_CENTRE * step else 0.0
        _compensate(concat, slice(first, first + ranges[node][2]), factor, shift)
        inputs.append(_scaled(graph, concat.node, node, factor, shift))
        first += ranges[node][2]
    concat.node.args = (inputs, *concat.node.args[1:])
    return True


def _factors(ends: Sequence[tuple[float, float]], movable: bool) -> list[float]:
    """What brings each range to the whole of one grid: about its middle where it may be moved, else about zero."""
    if movable:
        factors = [1.0 / (high - low) for low, high in ends]
    elif all(low == 0 for low, _ in ends):
        factors = [1.0 / high for _, high in ends]
    else:
        factors = [1.0 / max(high, -low) for low, high in ends]
    return [factor / min(factors) for factor in factors]


def _padding(conv: nn.Conv2d) -> tuple[int, ...]:
    return (0,) if conv.padding == "valid" else (1,) if isinstance(conv.padding, str) else tuple(conv.padding)


def _compensate(concat: _Concat, channels: slice, factor: float, shift: float) -> None:
    """Let the readers compute what they did before of channels that are now factor * x + shift."""
    with torch.no_grad():
        for conv in concat.readers:
            conv.weight[:, channels] /= factor
            if shift:
                moved = -conv.weight[:, channels].sum((1, 2, 3)) * shift
                if conv.bias is None:
                    conv.bias = nn.Parameter(moved)
                else:
                    conv.bias += moved


def _scaled(graph: fx.GraphModule, before: fx.Node, node: fx.Node, factor: float, shift: float) -> fx.Node:
    """Factor * node + shift: in the weights of a convolution that nobody else reads, else as operators."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Conv2d) and len(node.users) == 1:
        with torch.no_grad():
            module.weight *= factor
            if module.bias is not None or shift:
                bias = torch.zeros(module.out_channels) if module.bias is None else module.bias
                module.bias = nn.Parameter(bias * factor + shift)
        return node
    with graph.graph.inserting_before(before):
        if factor != 1.0:
            node = graph.graph.call_function(operator.mul, (node, factor))
        if shift:
            node = graph.graph.call_function(operator.add, (node, shift))
    return node
