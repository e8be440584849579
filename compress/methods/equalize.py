"""Channels brought to one range, so that integers shared by a whole tensor serve each of them."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pydantic
import torch
from torch import Tensor, fx

from compress.methods._fx import Traced, traced
from compress.methods._streams import Crossing, Reader, Stream, streams_of
from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Equalize"]

_SHARES = (0.25, 0.5, 0.75, 1.0)  # how far channels are brought to one range
_NORM = 8
_TAIL = 3.0  # times its norm reaches a tensor that is clipped for least squared error, roughly
_MOST = 16.0
_WORTH = 0.7  # of the rounding noise may be left where operators had to be added
_STEPS = 127.0  # on each side of zero


@METHODS.add("equalize")
@dataclass(frozen=True)
class Equalize:
    """Multiply narrow channels up to the widest, and divide the weights that read them.

    Cross-layer equalisation (Nagel et al., arXiv:1906.04721, section 4.1) with activations measured, and the
    share of their difference that moves into the weights (SmoothQuant, arXiv:2211.10438, equation 4) chosen for
    each tensor by the rounding noise it predicts.  Factors are powers of two, so that float32 loses nothing.
    Tensors tied by sums, pooling, rectifiers and gates scale together.  Where a sum also takes a tensor that must
    keep its scale, a product is put in, if that takes away at least 30 % of the noise.  A network whose code cannot
    be traced is returned as it is.
    """

    crops: Annotated[int, pydantic.Field(ge=1, le=512)] = 64
    """How many calibration inputs the ranges are taken from."""
    crop_size: Annotated[int, pydantic.Field(ge=8, le=512)] = 64
    """Side of a crop in LR pixels."""
    products: bool = True
    """Whether operators may be added."""

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network with equalized channels."""
        graph = traced(network.module)
        if graph is None:
            return network
        side = -(-self.crop_size // network.unit) * network.unit
        inputs = np.stack(task.calibration_inputs(self.crops, side, seed=0))
        images = torch.from_numpy(np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)))
        if not _equalized(graph, images, self.products):
            return network
        return replace(network, module=Traced(graph, network.module).eval(), graph=None)


@dataclass(frozen=True)
class _Seen:
    """What the channels of one tensor hold: (C,) each."""

    reach: Tensor
    """The norm of order 8: near the largest values, but a single one does not decide."""
    power: Tensor
    """Mean square."""


class _Watch(fx.Interpreter):
    """Statistics of every (N, C, H, W) tensor."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self._sums: dict[fx.Node, Tensor] = {}
        self._images = 0

    def run_node(self, n: fx.Node) -> Any:
        """The node's value, as the base class computes it."""
        value = super().run_node(n)
        if n.op == "placeholder":
            self._images += len(value)
        if isinstance(value, Tensor) and value.dim() == 4 and n.op != "get_attr":
            square = value.double().square()
            sums = torch.stack([square.mean((0, 2, 3)), square.pow(_NORM // 2).mean((0, 2, 3))]) * len(value)
            self._sums[n] = self._sums[n] + sums if n in self._sums else sums
        return value

    @property
    def seen(self) -> dict[fx.Node, _Seen]:
        """Of all inputs so far."""
        means = {node: sums / self._images for node, sums in self._sums.items()}
        return {node: _Seen(m[1].pow(1 / _NORM).float(), m[0].float()) for node, m in means.items()}


def _equalized(graph: fx.GraphModule, images: Tensor, products: bool) -> bool:
    """Rewrite the graph; whether there was anything to gain."""
    watch = _Watch(graph)
    with torch.inference_mode():
        for chunk in torch.split(images, 8):
            watch.run(chunk)
    plans = _planned(graph, watch.seen, products)
    with torch.no_grad():
        for stream, factors in plans:
            _apply(graph, stream, factors.clone())
    graph.graph.lint()
    graph.recompile()
    return bool(plans)


def _planned(graph: fx.GraphModule, seen: dict[fx.Node, _Seen], products: bool) -> list[tuple[Stream, Tensor]]:
    """The streams worth scaling, each with the factors of its channels."""
    widths = {node: len(found.reach) for node, found in seen.items()}
    crossings: dict[fx.Node, Crossing] = {}
    refused: set[fx.Node] = set()
    while products:
        _, sums = streams_of(graph, widths, crossings, "leave")
        fresh = next((s for s in sums if s not in crossings and s not in refused), None)
        if fresh is not None:
            crossings[fresh] = _better(graph, seen, widths, crossings, fresh)
            continue
        streams, _ = streams_of(graph, widths, crossings)
        poor = {
            node
            for stream in streams
            if not stream.fixed and (stream.entries or stream.exits) and _factors(stream, seen)[1] > _WORTH
            for node, _ in (*stream.entries, *stream.exits)
        }
        if not poor:
            break
        refused |= poor
        crossings = {node: crossing for node, crossing in crossings.items() if node not in poor}
    plans = []
    for stream in streams_of(graph, widths, crossings)[0]:
        if not stream.fixed and stream.readers and stream.makers:
            factors, left = _factors(stream, seen)
            if left < 1.0:
                plans.append((stream, factors))
    return plans


def _better(
    graph: fx.GraphModule,
    seen: dict[fx.Node, _Seen],
    widths: dict[fx.Node, int],
    crossings: dict[fx.Node, Crossing],
    fresh: fx.Node,
) -> Crossing:
    """Whether the sum joins the stream that scales or leaves it: what keeps less of all tensors' noise."""

    def left(crossing: Crossing) -> float:
        streams, _ = streams_of(graph, widths, {**crossings, fresh: crossing}, "leave")
        return sum(_factors(s, seen)[1] * _alone(s, seen) for s in streams if s.readers)

    return "enter" if left("enter") <= left("leave") else "leave"


def _factors(stream: Stream, seen: dict[fx.Node, _Seen]) -> tuple[Tensor, float]:
    """Of each channel, none below one; and the share of the predicted rounding noise that they leave."""
    alone = _alone(stream, seen)
    if stream.fixed:
        return torch.ones_like(seen[stream.nodes[0]].reach), 1.0
    room = torch.full_like(seen[stream.nodes[0]].reach, _MOST)
    for node in stream.nodes:
        reach = seen[node].reach
        room = torch.minimum(room, reach.max() / reach.clamp(min=1e-12))
    room = room.clamp(min=1.0)
    best, least = torch.ones_like(room), alone
    for share in _SHARES:
        tried = torch.exp2(torch.floor(share * torch.log2(room)))
        noise = _noise(stream, seen, tried)
        if noise < least:
            best, least = tried, noise
    return best, least / max(alone, 1e-30)


def _alone(stream: Stream, seen: dict[fx.Node, _Seen]) -> float:
    return _noise(stream, seen, torch.ones_like(seen[stream.nodes[0]].reach))


def _noise(stream: Stream, seen: dict[fx.Node, _Seen], factors: Tensor) -> float:
    """Mean square that rounding the stream's tensors and its readers' weights adds behind each reader, relative."""
    total = 0.0
    for reader in stream.readers:
        found = seen[reader.read]
        step = _TAIL * float((found.reach * factors).max()) / _STEPS
        weight = (_read(reader, factors) / _along(reader, factors)).detach()
        noise = step**2 * float((weight**2).sum())
        rounding = (weight.abs().amax((1, 2, 3)) / _STEPS) ** 2
        power = found.power * factors**2
        heard = (rounding * power).sum() if reader.layer.groups > 1 else rounding.sum() * power.sum()
        noise += float(heard) * weight[0, 0].numel()
        total += noise / max(float(seen[reader.made].power.sum()), 1e-12)
    return total


def _read(reader: Reader, factors: Tensor) -> Tensor:
    """The part of a layer's weight that meets the stream."""
    weight = reader.layer.weight
    return weight if reader.layer.groups > 1 else weight[:, reader.first : reader.first + len(factors)]


def _along(reader: Reader, factors: Tensor) -> Tensor:
    return factors.view(-1, 1, 1, 1) if reader.layer.groups > 1 else factors.view(1, -1, 1, 1)


def _apply(graph: fx.GraphModule, stream: Stream, factors: Tensor) -> None:
    """Scale what makes the stream, undo it in what reads it."""
    for maker in stream.makers:
        maker.weight.mul_(factors.view(-1, *[1] * (maker.weight.dim() - 1)))
        if maker.bias is not None:
            maker.bias.mul_(factors)
    for reader in stream.readers:
        _read(reader, factors).div_(_along(reader, factors))
    for crossed, vector in ((stream.entries, factors), (stream.exits, 1.0 / factors)):
        for total, operand in crossed:
            _multiplied(graph, total, operand, vector)


def _multiplied(graph: fx.GraphModule, total: fx.Node, operand: fx.Node, vector: Tensor) -> None:
    name = f"scale_{sum(1 for n, _ in graph.named_buffers() if n.startswith('scale_'))}"
    graph.register_buffer(name, vector.view(1, -1, 1, 1))
    with graph.graph.inserting_before(total):
        constant = graph.graph.get_attr(name)
        product = graph.graph.call_function(operator.mul, (operand, constant))
    total.replace_input_with(operand, product)
