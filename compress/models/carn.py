"""CARN and CARN-M: cascading residual networks (Ahn, Kang, Sohn, ECCV 2018, arXiv:1803.08664).

The source is the official code (nmhkahn/CARN-pytorch).  Its checkpoints hold the upsamplers of x2, x3 and x4 around
one body.  A module here serves one of them; it keeps the others, for :meth:`Carn.at_scale`, until it is merged.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Carn", "build", "from_state"]

_MEAN = (0.4488, 0.4371, 0.4040)
_SCALES = {"up2": 2, "up3": 3, "up4": 4}
_STEPS = {2: (2,), 3: (3,), 4: (2, 2)}


class _Shift(nn.Module):
    """Adds a constant to each of three channels; a 1x1 convolution, because checkpoints hold one."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.shifter = nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.shifter.load_state_dict({"weight": torch.eye(3).view(3, 3, 1, 1), "bias": sign * torch.tensor(_MEAN)})

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to the same shape."""
        shifted: Tensor = self.shifter(x)
        return shifted


class _Body(nn.Module):
    """Layers in a sequence called ``body``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) through all layers."""
        features: Tensor = self.body(x)
        return features


class _Residual(_Body):
    """Two 3x3 convolutions and a skip; CARN-M's are in groups and have a 1x1 behind."""

    def __init__(self, width: int, groups: int, efficient: bool) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(width, width, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=groups),
        ]
        if efficient:
            layers += [nn.ReLU(), nn.Conv2d(width, width, 1)]
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return F.relu(self.body(x) + x)


class _Cascade(nn.Module):
    """Three units, each behind a 1x1 convolution over everything before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1 = _Body(nn.Conv2d(2 * width, width, 1), nn.ReLU())
        self.c2 = _Body(nn.Conv2d(3 * width, width, 1), nn.ReLU())
        self.c3 = _Body(nn.Conv2d(4 * width, width, 1), nn.ReLU())

    def cascade(self, x: Tensor, units: Sequence[nn.Module]) -> Tensor:
        """(N, C, H, W) through three units, to the same shape."""
        seen = last = x
        for unit, fusion in zip(units, (self.c1, self.c2, self.c3), strict=True):
            seen = torch.cat([seen, unit(last)], 1)
            last = fusion(seen)
        return last


class _Block(_Cascade):
    """A cascade of residual blocks; in CARN-M the three are one block with shared weights."""

    def __init__(self, width: int, groups: int, mobile: bool) -> None:
        super().__init__(width)
        self.b1 = _Residual(width, groups if mobile else 1, mobile)
        if not mobile:
            self.b2, self.b3 = _Residual(width, 1, False), _Residual(width, 1, False)
        self.shared = mobile

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return self.cascade(x, [self.b1] * 3 if self.shared else [self.b1, self.b2, self.b3])


class _Upsampler(nn.Module):
    """Convolution, ReLU and PixelShuffle, once or twice; perhaps for several scales, of which one is in use.

    Args:
        width: channels in and out.
        groups: of the convolutions.
        scales: what the upsamplers are called and what they do: ``up`` alone, or some of ``up2``, ``up3``, ``up4``.
    """

    def __init__(self, width: int, groups: int, scales: Mapping[str, int]) -> None:
        super().__init__()
        self.scales = dict(scales)
        self.chosen = max(scales, key=scales.__getitem__, default="")
        for name, scale in scales.items():
            layers: list[nn.Module] = []
            for step in _STEPS[scale]:
                layers += [nn.Conv2d(width, width * step**2, 3, padding=1, groups=groups), nn.ReLU()]
                layers += [nn.PixelShuffle(step)]
            self.add_module(name, _Body(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, scale*H, scale*W)."""
        enlarged: Tensor = self.get_submodule(self.chosen)(x)
        return enlarged


class _Upsamplers(_Upsampler):
    """Those of several scales."""

    def merge(self) -> _Upsampler:
        """The one in use alone."""
        lone = _Upsampler(1, 1, {})
        lone.scales, lone.chosen = {self.chosen: self.scales[self.chosen]}, self.chosen
        lone.add_module(self.chosen, self.get_submodule(self.chosen))
        return lone


class Carn(_Cascade):
    """CARN, or CARN-M.

    Args:
        width: channels.
        groups: of the 3x3 convolutions of residual blocks (CARN-M) and upsamplers.
        mobile: CARN-M: residual blocks with groups and shared weights.
        scales: the upsamplers, as for a checkpoint: ``{"up": scale}``, or some of up2, up3, up4.
    """

    def __init__(self, width: int, groups: int, mobile: bool, scales: Mapping[str, int]) -> None:
        super().__init__(width)
        self.sub_mean, self.add_mean = _Shift(-1), _Shift(1)
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.b1, self.b2, self.b3 = (_Block(width, groups, mobile) for _ in range(3))
        kind = _Upsamplers if len(scales) > 1 else _Upsampler
        self.upsample = kind(width, groups, scales)
        self.exit = nn.Conv2d(width, 3, 3, padding=1)
        self.scale = max(scales.values())

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        features = self.cascade(self.entry(self.sub_mean(x)), [self.b1, self.b2, self.b3])
        enlarged: Tensor = self.add_mean(self.exit(self.upsample(features)))
        return enlarged

    def at_scale(self, scale: int) -> Carn:
        """A copy that serves another of the scales that it has.

        Raises:
            ValueError: it has no upsampler of that scale.
        """
        names = {it: name for name, it in self.upsample.scales.items()}
        if scale not in names:
            raise ValueError(f"no upsampler for scale {scale}; found {sorted(names)}")
        other = copy.deepcopy(self)
        other.scale, other.upsample.chosen = scale, names[scale]
        return other


def _scales(state: Mapping[str, Tensor], width: int) -> dict[str, int]:
    """The upsamplers in a checkpoint; a lone ``up`` tells its scale by its layers."""
    found = {name: scale for name, scale in _SCALES.items() if f"upsample.{name}.body.0.weight" in state}
    lone = state.get("upsample.up.body.0.weight")
    if lone is None:
        return found
    if "upsample.up.body.3.weight" in state:
        return {"up": 4}
    return {"up": 3 if lone.shape[0] == 9 * width else 2}


def from_state(state: Mapping[str, Tensor], path: Path, mobile: bool) -> nn.Module:
    """The network with all upsamplers of the checkpoint, serving the largest scale.

    Raises:
        WeightsError: these are not weights of CARN, or of CARN-M.
    """
    entry, inner = state.get("entry.weight"), state.get("b1.b1.body.0.weight")
    scales = {} if entry is None else _scales(state, entry.shape[0])
    shared = "b1.b2.body.0.weight" not in state
    if entry is None or inner is None or inner.dim() != 4 or not scales or mobile != shared:
        name, expected = ("CARN-M", "b1.b1 alone") if mobile else ("CARN", "b1.b1 to b1.b3")
        found = ", ".join(list(state)[:6])
        raise WeightsError(
            f"weights {path} are not {name}'s: expected entry, {expected}, upsample.up2 to upsample.up4 or "
            f"upsample.up; found {found}; choose another --model"
        )
    width = entry.shape[0]
    first = state[f"upsample.{next(iter(scales))}.body.0.weight"]
    module = Carn(width, width // first.shape[1], mobile, scales)
    load_into(module, state, path)
    return module.eval()


def build(
    scale: int = 4, width: int = 64, groups: int = 4, mobile: bool = True, multi_scale: bool = False
) -> nn.Module:
    """CARN-M for one scale, or with the upsamplers of all three; torch's own start, as in the official code.

    Raises:
        ValueError: no such scale.
    """
    if scale not in _STEPS:
        raise ValueError(f"scale is {scale}, expected 2, 3 or 4")
    module = Carn(width, groups, mobile, _SCALES if multi_scale else {"up": scale})
    return module.at_scale(scale).train()


MODELS.add("carn")(
    Family(
        title="CARN, cascading residual network (ECCV 2018, arXiv:1803.08664)",
        task=SUPER_RESOLUTION,
        build=partial(build, groups=1, mobile=False),
        from_state=partial(from_state, mobile=False),
        marks=("sub_mean.shifter.weight", "b1.b2.body.0.weight", "b1.c3.body.0.weight"),
    )
)
MODELS.add("carn-m")(
    Family(
        title="CARN-M, its mobile form with group convolutions and shared blocks (ECCV 2018, arXiv:1803.08664)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=partial(from_state, mobile=True),
        marks=("sub_mean.shifter.weight", "b1.b1.body.4.weight", "b1.c3.body.0.weight"),
    )
)
