"""Networks of look-up tables as they are deployed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.errors import WeightsError
from export.errors import ExportError
from export.lut import container
from export.lut.modules import module_of
from export.lut.network import Tables

__all__ = ["Written", "file_key", "of_file"]


def file_key(name: str) -> str:
    """What the tensor with the bytes of a network's file is called."""
    return f"{name.replace('.', '_')}_file"


class Written(nn.Module):
    """A network of tables as it is deployed, which a checkpoint holds as one tensor, the bytes of its file.

    (N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W), multiples of 1/255.  Nothing in it can be trained.
    """

    def __init__(self, network: Tables) -> None:
        super().__init__()
        self.lookup = module_of(network)
        for part in self.modules():
            part._non_persistent_buffers_set.update(part._buffers)
        self.tables, self.scale, self.halo = network, network.scale, network.halo
        self.table_bytes = network.table_bytes
        file = np.frombuffer(container.dumped(network), np.uint8).copy()
        self.register_buffer(file_key(network.name), torch.from_numpy(file))

    def forward(self, x: Tensor) -> Tensor:
        """Look up."""
        found: Tensor = self.lookup(x)
        return found


def of_file(name: str, file: Tensor, path: Path) -> Tables:
    """The tables that a written-out network's tensor holds.

    Raises:
        WeightsError: damaged ones, or those of another network.
    """
    try:
        network = container.loaded(file.to(torch.uint8).cpu().numpy().tobytes(), path)
    except ExportError as error:
        raise WeightsError(f"weights {error}") from None
    if network.name != name:
        raise WeightsError(f"weights {path} are tables of {network.name}, not of {name}; choose --model {network.name}")
    return network
