"""Networks that become look-up tables, trained through the tables that they become.

What stands in a table's row is what a small network gives for the grey levels of that row's node (SR-LUT, MuLUT,
arXiv:2203.13563 section 3.1) or, once it is written out, a value of its own.  The published code trains the small
networks on the pixels themselves and interpolates only after the transfer, which costs up to 0.1 dB.  Here the small
networks are asked at the nodes alone, only those that a batch reads, and the pixels are interpolated between them: the
rows of natural images are few, so a step is several times cheaper, and the transfer changes no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.models._simplex import Grid, interpolate
from compress.models._taps import Plain, Sampled, sampler_of
from compress.models._written import Written
from export.lut.network import Band, Network, Stage, Table

__all__ = [
    "Branch",
    "Entries",
    "Layer",
    "TableNetwork",
    "Unit",
    "written_out",
]

_MOST = 127.0  # of an entry


def _rounded(x: Tensor) -> Tensor:
    """Half up; the gradient passes as if nothing had happened."""
    return x + ((x + 0.5).floor() - x).detach()


class Unit(nn.Module):
    """A small network of some grey levels: dense 1x1 layers (MuLUT's DenseConv, arXiv:2203.13563 figure 3).

    What it gives is added to a linear map of the levels, so that a fresh network enlarges by repeating pixels.

    Args:
        skip: (outputs, taps + 1), the linear map and its constant.
        width: outputs of each layer.
        depth: layers but the first and the last.
    """

    skip: Tensor

    def __init__(self, skip: Tensor, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.register_buffer("skip", skip.clone())
        outputs, taps = skip.shape[0], skip.shape[1] - 1
        self.layers = nn.ModuleList(nn.Linear(taps if k == 0 else width * k, width) for k in range(depth + 1))
        self.last = nn.Linear(width * (depth + 1), outputs)
        for layer in (*self.layers, self.last):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.last.weight, std=0.001)

    def forward(self, levels: Tensor) -> Tensor:
        """(rows, taps) grey levels to (rows, outputs) in -127..127."""
        known = F.relu(self.layers[0](levels / 255.0))
        for layer in list(self.layers)[1:]:
            known = torch.cat([known, F.relu(layer(known))], 1)
        linear = levels @ self.skip[:, :-1].T + self.skip[:, -1]
        return (linear.float() + torch.tanh(self.last(known).float()) * _MOST).clamp(-_MOST, _MOST)


class Entries(nn.Module):
    """A table written out: every row a value of its own."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(values / _MOST)

    def rows(self, chosen: Tensor) -> Tensor:
        """(chosen, outputs) in -128..127."""
        return (self.weight[chosen] * _MOST).clamp(-_MOST - 1, _MOST)


class Branch(nn.Module):
    """One table: what it reads, and what stands in its rows."""

    def __init__(self, reader: Plain | Sampled, contents: Unit | Entries, grid: Grid) -> None:
        super().__init__()
        self.reader, self.contents, self.grid = reader, contents, grid
        band = grid.band or Band(0, 0)
        shape = (grid.taps, grid.interval_bits, band.width, band.interval_bits)
        self.register_buffer("shape", torch.tensor(shape, dtype=torch.int16))
        self.register_buffer("nodes", grid.nodes, persistent=False)

    nodes: Tensor

    def entries(self, chosen: Tensor) -> Tensor:
        """(chosen, outputs): whole numbers -127..127 of some rows."""
        contents = self.contents
        return _rounded(contents.rows(chosen) if isinstance(contents, Entries) else contents(self.nodes[chosen]))

    def forward(self, values: Tensor) -> Tensor:
        """Values (N, taps) to (N, outputs)."""
        located = self.grid.locate(values)
        chosen = located.seen.nonzero()[:, 0]
        return interpolate(values, located.among(chosen), self.entries(chosen))

    @torch.no_grad()
    def table(self) -> Table:
        """As the engine takes it."""
        everything = torch.arange(self.grid.rows, device=self.nodes.device)
        entries = torch.cat([self.entries(part) for part in everything.split(8192)])  # type: ignore[no-untyped-call]
        return Table(
            self.reader.sources(), entries.to(torch.int8).cpu().numpy(), self.grid.interval_bits, self.grid.band
        )


@dataclass(frozen=True)
class Layer:
    """What a stage does with the sum over its tables: divide, add, and turn into planes or pixels."""

    divisor: int
    bias: int = 0
    rotations: int = 4
    scale: int = 1


class TableNetwork(nn.Module):
    """Stages of tables on one channel; every channel of an image by itself.

    Args:
        name: of the network of tables.
        layers: of each stage, the last one gives pixels.
        branches: the tables of each stage.
        padding: what lies outside of the planes.
    """

    def __init__(
        self, name: str, layers: Sequence[Layer], branches: Sequence[Sequence[Branch]], padding: str = "replicate"
    ) -> None:
        super().__init__()
        self.name, self.layers, self.padding = name, tuple(layers), padding
        self.scale = self.layers[-1].scale
        said = [(*astuple(layer), int(padding == "reflect")) for layer in self.layers]
        self.register_buffer(f"{name}_layout", torch.tensor(said, dtype=torch.int16))
        self.stages = nn.ModuleList(nn.ModuleList(members) for members in branches)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W); rounded to grey levels but while training."""
        count, channels, height, width = x.shape
        planes = [_rounded(x.float().clamp(0, 1).reshape(-1, 1, height, width) * 255.0)]
        for layer, branches in zip(self.layers[:-1], self.stages, strict=False):
            found = self._stage(layer, branches, planes)
            planes += _settled(found, layer).permute(0, 3, 1, 2).split(1, 1)  # type: ignore[no-untyped-call]
        last = self.layers[-1]
        out = self._stage(last, self.stages[-1], planes)[..., 0]
        out = out / last.divisor if self.training else _settled(out, last)
        return out.reshape(count, channels, height * last.scale, width * last.scale) / 255.0

    def _stage(self, layer: Layer, branches: nn.Module, planes: list[Tensor]) -> Tensor:
        """(B, H*scale, W*scale, outputs or 1): the sums over all rotations and tables."""
        total: Tensor | float = 0.0
        for branch in branches.children():
            total = total + self._turned(layer, branch, planes)
        assert isinstance(total, Tensor)
        return total

    def _turned(self, layer: Layer, branch: nn.Module, planes: list[Tensor]) -> Tensor:
        """One table in all rotations."""
        mirrored = self.padding == "reflect"
        read = [
            branch.reader([torch.rot90(p, q, (2, 3)) for p in planes], mirrored)  # type: ignore[operator]
            for q in range(layer.rotations)
        ]
        found = branch(torch.cat([values.reshape(-1, values.shape[-1]) for values in read]))
        total: Tensor | float = 0.0
        sizes = [values[..., 0].numel() for values in read]
        for q, part in enumerate(torch.split(found, sizes)):
            size, scale = read[q].shape[:3], layer.scale
            blocks = part.view(*size, scale, scale, -1).permute(0, 1, 3, 2, 4, 5)
            image = blocks.reshape(size[0], size[1] * scale, size[2] * scale, -1)
            total = total + torch.rot90(image, -q, (1, 2))
        assert isinstance(total, Tensor)
        return total

    @property
    def halo(self) -> int:
        """Radius of the receptive field in input pixels."""
        stages = [[part for part in members.modules() if isinstance(part, (Plain, Sampled))] for members in self.stages]
        return sum(max(reader.reach for reader in stage) for stage in stages)

    def merge(self) -> Written:
        """The tables, written out."""
        return Written(self.tables())

    def tables(self) -> Network:
        """The network of tables that this is."""
        stages = tuple(
            Stage(
                tuple(branch.table() for branch in members.children()),  # type: ignore[operator]
                layer.divisor,
                layer.bias,
                rotations=4 if layer.rotations == 4 else 1,
                scale=layer.scale,
            )
            for layer, members in zip(self.layers, self.stages, strict=True)
        )
        return Network(self.name, stages, "reflect" if self.padding == "reflect" else "replicate")


def _settled(total: Tensor, layer: Layer) -> Tensor:
    """Sums to grey levels."""
    return (_rounded(total / layer.divisor) + layer.bias).clamp(0, 255)


def written_out(network: Network) -> TableNetwork:
    """A network of tables whose entries and samplers can be trained."""
    layers = [Layer(s.divisor, s.bias, s.rotations, s.scale) for s in network.stages]
    branches = [[_of_table(table) for table in stage.tables] for stage in network.stages]
    return TableNetwork(network.name, layers, branches, network.padding)


def _of_table(table: Table) -> Branch:
    grid = Grid(len(table.taps), table.interval_bits, table.band)
    reader = sampler_of(table) if table.sampled else Plain([(s.plane, s.row, s.column) for s in table.sources])
    return Branch(reader, Entries(torch.from_numpy(table.entries).float()), grid)
