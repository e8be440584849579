"""Which tensors of a traced network must be scaled together, channel by channel, so that its function stays."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import fx, nn

from compress.methods._fx import calls_once, concat_inputs

__all__ = ["Reader", "Stream", "Streams", "streams_of"]

_HOMOGENEOUS_MODULES = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Identity,
    nn.Dropout,
    nn.ZeroPad2d,
)
_HOMOGENEOUS = {F.relu, torch.relu, F.leaky_relu, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.dropout}
_HOMOGENEOUS_METHODS = ("relu", "contiguous")
_SUMS = {operator.add, operator.iadd, torch.add, operator.sub, operator.isub, torch.sub}
_PRODUCTS = {operator.mul, operator.imul, torch.mul}


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that undoes the scaling of what it reads."""

    layer: nn.Conv2d
    read: fx.Node
    """What it reads of the stream."""
    made: fx.Node
    """The layer's output."""
    first: int
    """The first of the layer's input channels that the stream fills: not zero behind a concatenation."""


@dataclass(eq=False)
class Stream:
    """Tensors that carry the same factor on each channel."""

    nodes: list[fx.Node]
    fixed: bool
    """Something reads or makes them that does not scale: a sigmoid, the network's ends."""
    makers: list[nn.Conv2d | nn.BatchNorm2d] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    entries: list[tuple[fx.Node, fx.Node]] = field(default_factory=list)
    """(sum, operand): where a tensor of another stream comes in, to be multiplied."""
    exits: list[tuple[fx.Node, fx.Node]] = field(default_factory=list)
    """(sum, operand): where one of this stream goes out into a sum that is not scaled, to be divided."""


Crossing = Literal["enter", "leave"]


class Streams:
    """Sets of nodes, joined as it is found that they must scale alike."""

    def __init__(
        self,
        graph: fx.GraphModule,
        widths: Mapping[fx.Node, int],
        crossings: Mapping[fx.Node, Crossing],
        otherwise: Crossing | None,
    ) -> None:
        self._graph, self._widths, self._crossings, self._otherwise = graph, widths, crossings, otherwise
        self._above: dict[fx.Node, fx.Node] = {}
        self._fixed: set[fx.Node] = set()
        self._layers = calls_once(graph)
        self.sums: list[fx.Node] = []
        """Sums of a tensor that scales with one that does not: each may be crossed."""
        self.crossed: dict[fx.Node, Crossing] = {}

    def root(self, node: fx.Node) -> fx.Node:
        """The node that stands for a set."""
        while (above := self._above.get(node, node)) is not node:
            node = above
        return node

    def join(self, nodes: Iterable[fx.Node]) -> None:
        """These scale alike; of unequal widths they do not scale at all."""
        first, *others = nodes
        for other in others:
            if self._widths.get(first) != self._widths.get(other):
                self.fix((first, other))
            a, b = self.root(first), self.root(other)
            if a is not b:
                self._above[b] = a
                if b in self._fixed:
                    self._fixed.add(a)

    def fix(self, nodes: Iterable[fx.Node]) -> None:
        """These are not scaled."""
        self._fixed.update(self.root(node) for node in nodes)

    def is_fixed(self, node: fx.Node) -> bool:
        """Whether a node's set is not scaled."""
        return self.root(node) in self._fixed or node not in self._widths

    def layer(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, where its weights are its own."""
        return self._layers.get(str(node.target)) if node.op == "call_module" else None

    def reads(self, node: fx.Node) -> nn.Conv2d | None:
        """The convolution that a node calls, if it can undo any scaling of its input."""
        layer = self.layer(node)
        if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros":
            return None
        depthwise = layer.groups == layer.in_channels == layer.out_channels
        return layer if layer.groups == 1 or depthwise else None

    def note(self, node: fx.Node) -> None:
        """Join or fix what one operation relates; sums and products of tensors come later."""
        inputs = node.all_input_nodes
        concat = concat_inputs(node)
        if self.reads(node) or (concat and node.users and all(self._dense(user) for user in node.users)):
            return
        if isinstance(self.layer(node), nn.BatchNorm2d):
            self.fix(inputs)
        elif self._homogeneous(node):
            self.join((*inputs, node))
        elif not _pairs(node):
            self.fix((*inputs, node))

    def _dense(self, node: fx.Node) -> bool:
        layer = self.reads(node)
        return layer is not None and layer.groups == 1

    def _homogeneous(self, node: fx.Node) -> bool:
        if len(node.all_input_nodes) != 1:
            return False
        if node.op == "call_module":
            return isinstance(self._graph.get_submodule(str(node.target)), _HOMOGENEOUS_MODULES)
        if node.op == "call_method":
            return node.target in _HOMOGENEOUS_METHODS
        return node.target in _HOMOGENEOUS or (node.target in _PRODUCTS and isinstance(node.args[1], (int, float)))

    def combine(self, node: fx.Node) -> None:
        """A sum or product of two tensors."""
        a, b = node.all_input_nodes
        if node.target in _PRODUCTS:
            gate, other = (a, b) if self.is_fixed(a) else (b, a)
            wide = self._widths.get(other) == self._widths.get(node)
            if self.is_fixed(gate) and wide:
                self.join((other, node))
            else:
                self.fix((a, b, node))
            return
        still, moving = (a, b) if self.is_fixed(a) else (b, a)
        if self.is_fixed(moving) or not self.is_fixed(still) or self.is_fixed(node):
            self.join((a, b, node))
            return
        self.sums.append(node)
        crossing = self._crossings.get(node, self._otherwise)
        if crossing is None:
            self.join((a, b, node))
        else:
            self.crossed[node] = crossing
            self.join((moving if crossing == "enter" else still, node))


def streams_of(
    graph: fx.GraphModule,
    widths: Mapping[fx.Node, int],
    crossings: Mapping[fx.Node, Crossing],
    otherwise: Crossing | None = None,
) -> tuple[list[Stream], list[fx.Node]]:
    """The streams of a network, and the sums that may be crossed.

    Args:
        graph: of operations, merged and in evaluation mode.
        widths: channels of every node whose value is (N, C, H, W).
        crossings: of some of those sums, what is multiplied: ``enter`` the operand that does not scale, so that the
            sum does; ``leave`` the other one, so that it does not.
        otherwise: what is done at the other sums; None: nothing, so that all their operands keep their scale.
    """
    found = Streams(graph, widths, crossings, otherwise)
    nodes = list(graph.graph.nodes)
    for node in nodes:
        found.note(node)
    for node in filter(_pairs, nodes):
        found.combine(node)
    streams: dict[fx.Node, Stream] = {}
    for node in filter(widths.__contains__, nodes):
        root = found.root(node)
        stream = streams.setdefault(root, Stream([], found.is_fixed(root)))
        stream.nodes.append(node)
        _ends(found, node, stream, widths)
    for total, crossing in found.crossed.items():
        _cross(found, streams, total, crossing)
    return list(streams.values()), found.sums


def _pairs(node: fx.Node) -> bool:
    """Whether a node is a sum or product of two others."""
    return len(node.all_input_nodes) == 2 and node.op == "call_function" and node.target in _SUMS | _PRODUCTS


def _cross(found: Streams, streams: Mapping[fx.Node, Stream], total: fx.Node, crossing: Crossing) -> None:
    """Note the operand of a sum that has another scale than the sum."""
    for operand in total.all_input_nodes:
        if found.root(operand) is found.root(total):
            continue
        if crossing == "enter":
            streams[found.root(total)].entries.append((total, operand))
        else:
            streams[found.root(operand)].exits.append((total, operand))


def _ends(found: Streams, node: fx.Node, stream: Stream, widths: Mapping[fx.Node, int]) -> None:
    """The layers that make a tensor and that read it."""
    layer = found.layer(node)
    if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
        stream.makers.append(layer)
    for user in node.users:
        direct = found.reads(user)
        if direct is not None:
            stream.readers.append(Reader(direct, node, user, 0))
        parts = concat_inputs(user)
        if parts and user in widths:
            firsts = [sum(widths[p] for p in parts[:k]) for k, part in enumerate(parts) if part is node]
            for behind in user.users:
                reader = found.reads(behind)
                if reader is not None and reader.groups == 1:
                    stream.readers.extend(Reader(reader, node, behind, first) for first in firsts)
