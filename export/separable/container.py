"""What the file of a network of one-dimensional tables holds: its tensors, and its header as JSON.

Tensors ``0``, ``1``, ... hold the entries of the layers, int8 (tables, outputs, 64), and ``low`` those of the low bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from export.errors import ExportError
from export.separable.network import Kind, Layer, Separable

__all__ = ["KEY", "header_of", "network_of", "tensors_of"]

KEY = "separable"
_STRICT = pydantic.ConfigDict(extra="forbid", strict=True)


class _Layer(pydantic.BaseModel):
    model_config = _STRICT
    kind: Kind
    shifts: list[list[int]]


class _Network(pydantic.BaseModel):
    model_config = _STRICT
    version: Literal[1]
    name: str
    layers: list[_Layer]
    sha256: str


def tensors_of(network: Separable) -> dict[str, NDArray[np.int8]]:
    """All entries by name."""
    found = {str(number): np.ascontiguousarray(layer.entries) for number, layer in enumerate(network.layers)}
    low = network.layers[0].low
    assert low is not None
    return {**found, "low": np.ascontiguousarray(low)}


def header_of(network: Separable) -> str:
    """The JSON that says what the tensors mean."""
    layers = [_Layer(kind=layer.kind, shifts=[list(shift) for shift in layer.shifts]) for layer in network.layers]
    about = _Network(version=1, name=network.name, layers=layers, sha256=_digest(tensors_of(network)))
    return about.model_dump_json()


def network_of(path: Path, header: str, tensors: Mapping[str, Any]) -> Separable:
    """The network of a file's header and tensors.

    Raises:
        ExportError: changed, of another version, or tables unlike what the header says.
    """
    try:
        about = _Network.model_validate_json(header)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "header"
        raise ExportError(f"{path}: {where}: {first['msg'].lower()}; export the file again") from None
    wanted = {"low", *(str(number) for number in range(len(about.layers)))}
    if set(tensors) != wanted:
        found = ", ".join(sorted(tensors)) or "none"
        raise ExportError(
            f"{path}: tables {found}, expected those of {len(about.layers)} layers; export the file again"
        )
    if any(len(shift) != 2 for layer in about.layers for shift in layer.shifts):
        raise ExportError(f"{path}: shifts of rows and columns were expected; export the file again")
    if _digest(tensors) != about.sha256:
        raise ExportError(f"{path}: the tables were changed after they were written; export the file again")
    layers = [
        Layer(said.kind, tensors[str(number)], None if number else tensors["low"], _pairs(said.shifts))
        for number, said in enumerate(about.layers)
    ]
    return Separable(about.name, tuple(layers))


def _pairs(shifts: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((row, column) for row, column in shifts)


def _digest(tensors: Mapping[str, Any]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(np.ascontiguousarray(tensors[name]).tobytes())
    return total.hexdigest()
