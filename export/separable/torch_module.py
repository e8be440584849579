"""A network of one-dimensional tables as a torch module, in operators that ONNX, OpenVINO and TFLite run exactly.

All numbers are whole and small, so that float32 holds them in every runtime.  One convolution with 0 and 1 brings each
tap's value into place, and its constant the row of the tap's table; the rows are gathered as int8.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.lut.network import rotated
from export.separable.network import HIGH, LOW, WINDOW, Layer, Separable

__all__ = ["SeparableLookup"]

_LEAST, _MOST = float(-(HIGH // 2)), float(HIGH // 2 - 1)


class SeparableLookup(nn.Module):
    """The network as (N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W), multiples of 1/255; each channel by itself."""

    def __init__(self, tables: Separable) -> None:
        super().__init__()
        self.tables, self.scale, self.halo = tables, tables.scale, tables.halo
        self._joined = tables.joined
        self.first = nn.ModuleList(_First(tables.layers[0], quarter) for quarter in range(4))
        self.others = nn.ModuleList(
            nn.ModuleList(_Layer(layer, quarter) for layer in tables.layers[1:]) for quarter in range(4)
        )
        block = np.arange(self.scale**2).reshape(self.scale, -1)
        for quarter in range(1, 4 if self.scale > 1 else 1):
            turned = np.rot90(block, -quarter).reshape(-1)
            self.register_buffer(f"turn_{quarter}", torch.eye(self.scale**2)[:, turned.tolist()])

    def forward(self, x: Tensor) -> Tensor:
        """Round to levels, and look up."""
        count, channels, height, width = x.shape
        levels = torch.floor(torch.clamp(x * 255.0, 0.0, 255.0) + 0.5)
        levels = levels.transpose(0, 1) if count == 1 else levels.reshape(count * channels, 1, height, width)
        high = torch.floor(levels * (1 / LOW))
        low = levels - high * float(LOW)
        total: Tensor | None = None
        for quarter in range(4):
            found = self._turned(high + _LEAST, low, quarter)
            total = found if total is None else total + found
        assert total is not None
        out = (torch.clamp(total + float(128), 0.0, 255.0) * (1 / 255)).permute(0, 3, 1, 2)
        out = functional.pixel_shuffle(out, self.scale) if self.scale > 1 else out
        side = (height * self.scale, width * self.scale)
        return out.transpose(0, 1) if count == 1 else out.reshape(count, channels, *side)

    def _turned(self, high: Tensor, low: Tensor, quarter: int) -> Tensor:
        """(N, H, W, scale*scale): one rotation's share."""
        x = self.first[quarter](high, low)
        layers = list(self.others[quarter].children())
        for layer in layers[:-1]:
            given, mean = layer(x)
            x = torch.clamp(mean + given, _LEAST, _MOST)
        given, mean = layers[-1](x)
        out = torch.clamp(mean + given if self._joined else mean, -128.0, 127.0).permute(0, 2, 3, 1)
        turn = getattr(self, f"turn_{quarter}", None)
        return out if turn is None else torch.matmul(out, turn)


class _First(nn.Module):
    """The channels of an image's high and low bits."""

    def __init__(self, layer: Layer, quarter: int) -> None:
        super().__init__()
        assert layer.low is not None
        self.high = _Rows(layer.entries, _places(quarter), HIGH // 2)
        self.low = _Rows(layer.low, _places(quarter), 0)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """(N, 1, H, W) each to (N, C, H, W) in -32..31."""
        of_low = torch.clamp(self.low(low) + low, 0.0, float(LOW - 1))
        return torch.clamp(self.high(high) + high + of_low, _LEAST, _MOST)


class _Layer(nn.Module):
    """What a layer was given, moved as it says, and the mean over its tables."""

    def __init__(self, layer: Layer, quarter: int) -> None:
        super().__init__()
        moves = [rotated(row, column, quarter) for row, column in layer.shifts]
        self.move = _Taps([[move] for move in moves]) if moves else nn.Identity()
        if layer.kind == "depthwise":
            self.tables: nn.Module = _Scalars(layer, quarter)
        else:
            self.tables = _Rows(layer.entries, None, HIGH // 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to (N, C, H, W) and (N, O, H, W)."""
        x = self.move(x)
        return x, self.tables(x)


class _Taps(nn.Module):
    """(N, C, H, W) to (N, C * taps, H, W): what lies at some places around each pixel of each channel.

    Args:
        places: rows and columns, as many for each channel.
        constant: added to each output; None: nothing.
    """

    kernel: Tensor
    constant: Tensor | None

    def __init__(self, places: list[list[tuple[int, int]]], constant: Tensor | None = None) -> None:
        super().__init__()
        self._groups = len(places)
        self._reach = max(max(abs(row), abs(column)) for taps in places for row, column in taps)
        side = 2 * self._reach + 1
        kernel = torch.zeros(len(places) * len(places[0]), 1, side, side)
        for number, (row, column) in enumerate(place for taps in places for place in taps):
            kernel[number, 0, row + self._reach, column + self._reach] = 1.0
        self.register_buffer("kernel", kernel)
        self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        """Pad, one pixel after the other, which is all that TFLite's MIRROR_PAD can repeat, and convolve."""
        for _ in range(self._reach):
            x = functional.pad(x, (1,) * 4, mode="replicate")
        return functional.conv2d(x, self.kernel, self.constant, groups=self._groups)


class _Rows(nn.Module):
    """The mean of rows: of the window's pixels of one channel, or of all channels at the pixel."""

    entries: Tensor
    starts: Tensor

    def __init__(self, entries: np.ndarray, places: list[tuple[int, int]] | None, middle: int) -> None:
        super().__init__()
        tables, _, levels = entries.shape
        starts = (torch.arange(tables) * levels + middle).float()
        self._count = tables
        self.taps = None if places is None else _Taps([places], starts)
        self.register_buffer("starts", starts.reshape(-1, 1, 1))
        rows = np.ascontiguousarray(entries.transpose(0, 2, 1)).reshape(tables * levels, -1)
        self.register_buffer("entries", torch.from_numpy(rows))

    def forward(self, x: Tensor) -> Tensor:
        """(N, tables or 1, H, W) to (N, O, H, W)."""
        places = x + self.starts if self.taps is None else self.taps(x)
        rows = functional.embedding(places.permute(0, 2, 3, 1).to(torch.int32), self.entries)
        return _mean(rows.to(torch.float32).sum(3), self._count).permute(0, 3, 1, 2)


class _Scalars(nn.Module):
    """The mean of the window's values of each channel, by that channel's tables."""

    entries: Tensor
    adding: Tensor

    def __init__(self, layer: Layer, quarter: int) -> None:
        super().__init__()
        taps, channels, levels = layer.entries.shape
        starts = (torch.arange(channels * taps) * levels + HIGH // 2).float()
        self._count = taps
        self.taps = _Taps([_places(quarter)] * channels, starts)
        self.register_buffer("adding", torch.eye(channels).repeat_interleave(taps, 0))
        values = np.ascontiguousarray(layer.entries.transpose(1, 0, 2)).reshape(-1, 1)
        # a second, empty column: what adds up the columns keeps no size in a TFLite file, as a squeeze would
        self.register_buffer("entries", torch.from_numpy(np.pad(values, ((0, 0), (0, 1)))))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        places = self.taps(x).permute(0, 2, 3, 1).to(torch.int32)
        found = functional.embedding(places, self.entries).to(torch.float32).sum(4)
        return _mean(torch.matmul(found, self.adding), self._count).permute(0, 3, 1, 2)


def _mean(sums: Tensor, count: int) -> Tensor:
    """Ties to even; a ninth of a whole number is no tie."""
    return torch.round(sums * (1 / count))


def _places(quarter: int) -> list[tuple[int, int]]:
    return [rotated(row, column, quarter) for row, column in WINDOW]
