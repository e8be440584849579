"""Networks of one-dimensional tables, trained through the tables that they become.

TinyLUT (Li et al., NeurIPS 2024) and ShiftLUT (arXiv:2603.00906).  What stands in a table is what a small function
gives for each level of one value, or, once it is written out, a value of its own.  The functions are asked at the
levels alone, and the pixels look up what they gave: the published code runs them on every pixel instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.models._separable_sums import mixed, windowed
from compress.models._written import Written
from export.separable.network import HIGH, LOW, WINDOW, Kind, Layer, Separable

__all__ = ["Affine", "Functions", "Part", "SeparableNetwork", "Values", "written_out"]

_LEAST, _MOST = -(HIGH // 2), HIGH // 2 - 1
_UNIT = 128.0  # what a free entry of 1 stands for, so that steps of all parameters are of one size


class _Round(torch.autograd.Function):
    """To whole numbers, ties to even; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _rounded(x: Tensor) -> Tensor:
    found: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return found


class Affine(nn.Module):
    """Tables of k * level + b, as TinyLUT's spatial layers have them.

    Args:
        tables: the window's pixels.
        outputs: channels.
        levels: -32..31, or 0..3 for the low bits.
        slope: that all begin with, besides a random one of deviation ``noise``.
    """

    levels: Tensor

    def __init__(self, tables: int, outputs: int, levels: Tensor, slope: float = 0.0, noise: float = 0.12) -> None:
        super().__init__()
        self.register_buffer("levels", levels, persistent=False)
        self.slope = nn.Parameter(slope + noise * torch.randn(tables, outputs))
        self.constant = nn.Parameter(torch.zeros(tables, outputs))

    def forward(self) -> Tensor:
        """(tables, levels, outputs)."""
        found: Tensor = self.slope[:, None] * self.levels[:, None] + self.constant[:, None]
        return found


class Functions(nn.Module):
    """Tables of small networks of one level each: dense layers whose outputs are all read by the last.

    Args:
        tables: channels read, a network each.
        outputs: of each.
        width: outputs of a layer.
        depth: layers but the first and the last.
        slope: of the straight line that they begin with.
    """

    def __init__(self, tables: int, outputs: int, width: int, depth: int, slope: float = 0.0) -> None:
        super().__init__()
        self.line = slope
        self.weights = nn.ParameterList()
        self.constants = nn.ParameterList()
        for layer in range(depth + 2):
            inputs, made = (1 if layer == 0 else width * layer), (outputs if layer == depth + 1 else width)
            deviation = 0.001 if layer == depth + 1 else (2.0 / inputs) ** 0.5
            self.weights.append(nn.Parameter(deviation * torch.randn(tables, inputs, made)))
            self.constants.append(nn.Parameter(torch.zeros(tables, 1, made)))
        with torch.no_grad():  # kinks all over the range, and not at its middle alone
            self.constants[0].copy_(self.weights[0] * (2 * torch.rand(tables, 1, width) - 1))

    def forward(self) -> Tensor:
        """(tables, 64, outputs)."""
        first = self.weights[0]
        levels = _high_levels().to(first.device)[None, :, None] / -_LEAST
        known = F.relu(levels @ first + self.constants[0])
        for weight, constant in list(zip(self.weights, self.constants, strict=True))[1:-1]:
            known = torch.cat([known, F.relu(known @ weight + constant)], 2)
        found = known @ self.weights[-1] + self.constants[-1]
        tables: Tensor = -_LEAST * (found + self.line * levels)
        return tables


class Values(nn.Module):
    """Tables whose entries are values of their own: (tables, levels, outputs)."""

    def __init__(self, entries: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(entries / _UNIT)

    def forward(self) -> Tensor:
        """(tables, levels, outputs)."""
        return self.weight * _UNIT


class Part(nn.Module):
    """A layer: its tables, those of the low bits in the first, and the shifts of a pointwise one.

    Args:
        kind: as the engine's layer.
        high: gives the tables.
        low: gives those of the low bits.
        shifts: (channels, 2) pixels, rows and columns; None: nothing moves.
        most: pixels that a channel may be moved by.
        learned: whether training moves them.
    """

    def __init__(
        self,
        kind: Kind,
        high: nn.Module,
        low: nn.Module | None = None,
        shifts: Tensor | None = None,
        most: int = 0,
        learned: bool = True,
    ) -> None:
        super().__init__()
        self.kind, self.high, self.low, self.most = kind, high, low, most
        self.shifts = None if shifts is None else nn.Parameter(shifts, requires_grad=learned)

    def moves(self) -> list[tuple[int, int]]:
        """By how many rows and columns each channel is moved; none where nothing is."""
        if self.shifts is None:
            return []
        whole = self.shifts.detach().round().clamp(-self.most, self.most).int().tolist()
        return [(int(row), int(column)) for row, column in whole]

    @torch.no_grad()
    def layer(self) -> Layer:
        """As the engine takes it."""
        entries = [_entries(part()).permute(0, 2, 1) for part in (self.high, self.low) if part is not None]
        high, *low = [part.to(torch.int8).contiguous().cpu().numpy() for part in entries]
        moves = tuple(self.moves())
        return Layer(self.kind, high, low[0] if low else None, moves if any(map(any, moves)) else ())


class SeparableNetwork(nn.Module):
    """Layers of one-dimensional tables on one channel; every channel of an image by itself.

    Args:
        name: of the network of tables.
        parts: the layers, a spread one first, a pointwise one of scale x scale outputs last.
        scale: output pixels for each input pixel, along a side.
    """

    def __init__(self, name: str, parts: Sequence[Part], scale: int) -> None:
        super().__init__()
        self.name, self.scale = name, scale
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W); clipped but while training."""
        count, channels, height, width = x.shape
        levels = (x.float().clamp(0, 1) * 255.0 + 0.5).floor().reshape(-1, height, width)
        tables = [_Tables(part) for part in self._layers()]
        total: Tensor | float = 128.0
        for quarter in range(4):
            found = self._turned(torch.rot90(levels, quarter, (1, 2)), tables)
            total = total + torch.rot90(found, -quarter, (1, 2))
        assert isinstance(total, Tensor)
        out = total if self.training else total.clamp(0, 255)
        return out.reshape(count, channels, height * self.scale, width * self.scale) / 255.0

    def _layers(self) -> list[Part]:
        return [part for part in self.parts if isinstance(part, Part)]

    def _turned(self, levels: Tensor, tables: Sequence[_Tables]) -> Tensor:
        """One rotation's share of the output, -128..127."""
        high = (levels / LOW).floor()
        x = tables[0].first(high[..., None] + _LEAST, (levels - LOW * high)[..., None])
        for each in tables[1:-1]:
            x = each.found(x, True).clamp(_LEAST, _MOST)
        out = tables[-1].found(x, self.scale**2 == x.shape[-1]).clamp(-128, 127)
        count, height, width, _ = out.shape
        blocks = out.reshape(count, height, width, self.scale, self.scale).transpose(2, 3)
        return blocks.reshape(count, height * self.scale, width * self.scale)

    @property
    def halo(self) -> int:
        """Radius of the receptive field in input pixels, for shifts as far as they may become."""
        return sum(part.most if part.kind == "pointwise" else 1 for part in self._layers())

    def merge(self) -> Written:
        """The tables, written out."""
        return Written(self.tables())

    def tables(self) -> Separable:
        """The network of tables that this is."""
        return Separable(self.name, tuple(part.layer() for part in self._layers()))


def written_out(network: Separable) -> SeparableNetwork:
    """A network of tables whose entries can be trained."""
    parts = []
    for layer in network.layers:
        high, low = [None if t is None else Values(_of_entries(t)) for t in (layer.entries, layer.low)]
        assert high is not None
        shifts = torch.tensor(layer.shifts).float() if layer.shifts else None
        parts.append(Part(layer.kind, high, low, shifts, layer.reach, learned=False))
    return SeparableNetwork(network.name, parts, network.scale)


def _of_entries(entries: NDArray[np.int8]) -> Tensor:
    """(tables, outputs, levels) to (tables, levels, outputs)."""
    return torch.from_numpy(entries).float().permute(0, 2, 1).contiguous()


class _Tables:
    """A part's tables during one pass."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._smooth = part.high()
        self._entries = _entries(self._smooth)
        self._low = part.low() if part.low is not None else None

    def first(self, high: Tensor, low: Tensor) -> Tensor:
        """Channels of an image's high and low bits, both (N, H, W, 1)."""
        assert self._low is not None
        of_low = windowed(_padded(low, 1), _entries(self._low), self._low)
        lows = (_rounded(of_low / len(WINDOW)) + low).clamp(0, LOW - 1)
        of_high = windowed(_padded(high, 1) - _LEAST, self._entries, self._smooth)
        return (_rounded(of_high / len(WINDOW)) + high + lows).clamp(_LEAST, _MOST)

    def found(self, x: Tensor, joined: bool) -> Tensor:
        """The mean over the tables, plus what was given where it is joined."""
        if self._part.kind == "depthwise":
            sums = windowed(_padded(x, 1) - _LEAST, self._entries, self._smooth)
        else:
            x = self._moved(x)
            sums = mixed(x - _LEAST, self._entries, self._smooth)
        mean = _rounded(sums / len(self._smooth))
        return mean + x if joined else mean

    def _moved(self, x: Tensor) -> Tensor:
        """Every channel by its shift; the shift's gradient is that along the slope of the pixels."""
        shifts, most = self._part.shifts, self._part.most
        if shifts is None:
            return x
        around = _padded(x, most + 1)
        taken = _taken(around, self._part.moves(), most + 1)
        if not (shifts.requires_grad and torch.is_grad_enabled()):
            return taken
        for axis, (row, column) in enumerate(((1, 0), (0, 1))):
            ahead = [(r + row, c + column) for r, c in self._part.moves()]
            behind = [(r - row, c - column) for r, c in self._part.moves()]
            slope = (_taken(around, ahead, most + 1) - _taken(around, behind, most + 1)) / 2
            along = shifts[:, axis]
            taken = taken + (along - along.detach()) * slope.detach()
        return taken


def _entries(smooth: Tensor) -> Tensor:
    """Whole numbers -128..127."""
    return _rounded(smooth.clamp(-128, 127))


def _high_levels() -> Tensor:
    return torch.arange(_LEAST, _MOST + 1).float()


def _padded(x: Tensor, by: int) -> Tensor:
    """(N, H, W, C) with its border repeated; a tensor's own margin is one pixel at a time, for sides of any length."""
    return F.pad(x.permute(0, 3, 1, 2), (by,) * 4, mode="replicate").permute(0, 2, 3, 1).contiguous()


def _taken(around: Tensor, moves: Sequence[tuple[int, int]], margin: int) -> Tensor:
    """Each channel of an image with a margin, so far away."""
    height, width = around.shape[1] - 2 * margin, around.shape[2] - 2 * margin
    parts = [
        around[:, margin + row : margin + row + height, margin + column : margin + column + width, channel]
        for channel, (row, column) in enumerate(moves)
    ]
    return torch.stack(parts, -1)
