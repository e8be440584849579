"""DnCNN: residual learning of deep CNN for image denoising (Zhang et al., IEEE TIP 2017, arXiv:1608.03981).

The form in use since: convolutions and ReLU alone, batch normalisation folded into them, under the tensor names
of cszn/KAIR.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from compress.errors import WeightsError
from compress.network import RESTORATION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["DnCNN", "build", "from_state"]


class DnCNN(nn.Module):
    """The noise, predicted by plain 3x3 convolutions, taken from the image (arXiv:1608.03981, section III.A).

    Args:
        depth: number of convolutions; 17 for one noise level, 20 for unknown ones.
        width: channels between them.
        channels: of the image.
    """

    def __init__(self, depth: int, width: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        for k in range(depth):
            inputs, outputs = channels if k == 0 else width, channels if k == depth - 1 else width
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to the same shape."""
        clean: Tensor = x - self.model(x)
        return clean


def build(depth: int = 17, width: int = 64, channels: int = 3) -> nn.Module:
    """A fresh network; its last layer starts at zero, so that the first output is the input."""
    module = DnCNN(depth, width, channels)
    for layer in module.model:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    last = module.model[-1]
    if isinstance(last, nn.Conv2d):
        nn.init.normal_(last.weight, std=1e-3)
    return module.train()


def from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network whose sizes are read off the tensors.

    Raises:
        WeightsError: these are not DnCNN's.
    """
    first = state.get("model.0.weight")
    depth = sum(k.endswith(".weight") for k in state)
    last = state.get(f"model.{2 * depth - 2}.weight")
    if first is None or last is None or first.dim() != 4 or first.shape[1] != last.shape[0]:
        raise WeightsError(
            f"weights {path} are not DnCNN's: expected convolutions model.0, model.2, ... (batch normalisation folded "
            f"in), found {', '.join(list(state)[:6])}; choose another --model"
        )
    module = DnCNN(depth, first.shape[0], first.shape[1])
    load_into(module, state, path)
    return module.eval()


MODELS.add("dncnn")(
    Family(
        title="DnCNN, denoising (IEEE TIP 2017, arXiv:1608.03981)",
        task=RESTORATION,
        build=build,
        from_state=from_state,
        marks=("model.0.weight", "model.0.bias", "model.2.weight", "model.4.weight", "model.6.weight"),
    )
)
