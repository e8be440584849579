"""The network itself behind the same door as the files, so that both are run and judged alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.artifact import Image, Prepared

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TorchSession"]


class TorchSession:
    """Runs a module on one image at a time, in float32."""

    input_size: tuple[int, int] | None = None

    def __init__(self, module: nn.Module) -> None:
        self._module = module.eval()

    def prepare(self, image: Image) -> Prepared:
        """A call that runs the network on this input."""
        return lambda: self.run(image)

    def run(self, image: Image) -> Image:
        """(H, W, C) to (scale*H, scale*W, C) or (classes,)."""
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32))
            first = self._module(x)[0]
            return np.ascontiguousarray((first.permute(1, 2, 0) if first.ndim == 3 else first).cpu().numpy())
