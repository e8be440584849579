"""SqueezeNet 1.1 (Iandola et al., arXiv:1602.07360; version 1.1 is the authors' release in forresti/SqueezeNet).

Names of tensors are torchvision's, whose checkpoints load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.models._classifier import IMAGENET, LARGE_SIDE, SMALL_SIDE, Normalize, keep_side, shapes, side_in
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["SqueezeNet", "build", "from_state"]

_TITLE = "SqueezeNet 1.1"
_STEM = 64
_FIRES = {
    3: (16, 64),
    4: (16, 64),
    6: (32, 128),
    7: (32, 128),
    9: (48, 192),
    10: (48, 192),
    11: (64, 256),
    12: (64, 256),
}
_POOLS = (2, 5, 8)  # places in `features`; 0 and 1 are the stem, the others fire modules


class _Fire(nn.Module):
    """Few 1x1 filters, then 1x1 and 3x3 ones side by side (arXiv:1602.07360, section 3.2)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2 * expanded, H, W)."""
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1, for images of at least 17x17.

    Args:
        stem: channels of the first convolution.
        fires: for each of the eight fire modules the squeezed width, and that of each expanding half.
        classes: length of the output.
        channels: of the input.
        side: of the images that the stem's stride is made for; up to 64 it keeps them as they are.
        dropout: share of the last features that training drops.
    """

    def __init__(
        self,
        stem: int,
        fires: Sequence[tuple[int, int]],
        classes: int,
        channels: int = 3,
        side: int = LARGE_SIDE,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.classes, self.channels, self.input_size = classes, channels, (side, side)
        keep_side(self, side)
        self.normalize = Normalize(IMAGENET, channels)
        layers: list[nn.Module] = [nn.Conv2d(channels, stem, 3, 1 if side <= SMALL_SIDE else 2), nn.ReLU()]
        width, left = stem, list(fires)
        while left:
            if len(layers) in _POOLS:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
                continue
            squeezed, expanded = left.pop(0)
            layers.append(_Fire(width, squeezed, expanded))
            width = 2 * expanded
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(width, classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), last, nn.ReLU())
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # all have one
        nn.init.normal_(last.weight, 0.0, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to logits (N, classes), none below zero."""
        maps: Tensor = self.classifier(self.features(self.normalize(x)))
        return maps.mean((2, 3), keepdim=True).flatten(1)


def from_state(state: Mapping[str, Tensor], path: Path) -> SqueezeNet:
    """The network whose widths and classes are read off the tensors.

    Raises:
        WeightsError: these are not SqueezeNet 1.1 weights.
    """
    squeezed = [f"features.{place}.squeeze.weight" for place in _FIRES]
    expanded = [f"features.{place}.expand1x1.weight" for place in _FIRES]
    names = ["features.0.weight", *squeezed, *expanded, "classifier.1.weight"]
    found = shapes(state, dict.fromkeys(names, 4), _TITLE, path)
    fires = [(found[s][0], found[e][0]) for s, e in zip(squeezed, expanded, strict=True)]
    stem, channels = found["features.0.weight"][:2]
    module = SqueezeNet(stem, fires, found["classifier.1.weight"][0], channels, side_in(state))
    load_into(module, state, path)
    return module.eval()


def build(
    classes: int = 1000, channels: int = 3, width: float = 1.0, input_size: int = LARGE_SIDE, dropout: float = 0.5
) -> nn.Module:
    """A fresh network, all its widths multiplied by ``width``."""
    fires = [(max(1, round(width * s)), max(1, round(width * e))) for s, e in _FIRES.values()]
    return SqueezeNet(max(1, round(width * _STEM)), fires, classes, channels, input_size, dropout).train()


MODELS.add("squeezenet")(
    Family(
        title="SqueezeNet 1.1, for photographs or 32x32 images (arXiv:1602.07360)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=("features.0.weight", "features.3.squeeze.weight", "features.12.expand3x3.weight", "classifier.1.weight"),
        input_size=(LARGE_SIDE, LARGE_SIDE),
    )
)
