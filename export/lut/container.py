"""The file of a network of tables: safetensors, with what the tables mean as JSON in its header.

Tables of single values (export/separable) have a header of their own, which export/separable/container.py reads.

Tensors ``stage.table`` hold the entries, int8 (rows, outputs).  The header's ``lut`` says version, padding, and of
each stage the divisor, bias, rotations and scale, and of each table its taps (plane, row, column, weight of each
source), interval and band; ``sha256`` is the digest of all entries in order.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic

from export.artifact import Card
from export.errors import ExportError
from export.files import atomic_write
from export.lut.network import Band, Network, Source, Stage, Table, Tables
from export.separable import container as separable
from export.separable.network import Separable

__all__ = ["SUFFIX", "dumped", "loaded", "read", "read_card", "write"]

SUFFIX = ".lut"
_MOST_BYTES = 1 << 30
_STRICT = pydantic.ConfigDict(extra="forbid", strict=True)


class _Table(pydantic.BaseModel):
    model_config = _STRICT
    taps: list[list[list[int]]]
    interval_bits: int
    band: list[int] | None


class _Stage(pydantic.BaseModel):
    model_config = _STRICT
    tables: list[_Table]
    divisor: int
    bias: int
    rotations: Literal[1, 4]
    scale: int


class _Network(pydantic.BaseModel):
    model_config = _STRICT
    version: Literal[1]
    name: str
    padding: Literal["replicate", "reflect"]
    stages: list[_Stage]
    sha256: str


def write(network: Tables, path: Path, card: Card) -> None:
    """Write a network; the file appears whole or not at all."""
    atomic_write(path, dumped(network, card))


def dumped(network: Tables, card: Card | None = None) -> bytes:
    """What a network's file holds."""
    from safetensors.numpy import save

    said = {} if card is None else {"edgepress": card.to_json()}
    if isinstance(network, Separable):
        whole: bytes = save(separable.tensors_of(network), {**said, separable.KEY: separable.header_of(network)})
        return whole
    tensors = {
        f"{s}.{t}": np.ascontiguousarray(table.entries)
        for s, stage in enumerate(network.stages)
        for t, table in enumerate(stage.tables)
    }
    about = _Network(
        version=1,
        name=network.name,
        padding=network.padding,
        stages=[_said(stage) for stage in network.stages],
        sha256=_digest(network),
    )
    data: bytes = save(tensors, {**said, "lut": about.model_dump_json()})
    return data


def _said(stage: Stage) -> _Stage:
    tables = [
        _Table(
            taps=[[[s.plane, s.row, s.column, s.weight] for s in tap] for tap in table.taps],
            interval_bits=table.interval_bits,
            band=None if table.band is None else [table.band.width, table.band.interval_bits],
        )
        for table in stage.tables
    ]
    return _Stage(tables=tables, divisor=stage.divisor, bias=stage.bias, rotations=stage.rotations, scale=stage.scale)


def _digest(network: Network) -> str:
    total = hashlib.sha256()
    for stage in network.stages:
        for table in stage.tables:
            total.update(np.ascontiguousarray(table.entries).tobytes())
    return total.hexdigest()


def read(path: Path) -> Tables:
    """The network of a file.

    Raises:
        ExportError: missing, truncated, changed, of another version, or tables unlike what the header says.
    """
    tensors, header = _opened(path)
    if separable.KEY in header:
        return separable.network_of(path, header[separable.KEY], tensors)
    if "lut" not in header:
        raise ExportError(f"{path}: no tables of ours in it; make one by compress lut import, or export again")
    try:
        about = _Network.model_validate_json(header["lut"])
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "header"
        raise ExportError(f"{path}: {where}: {first['msg'].lower()}; export the file again") from None
    stages = tuple(_stage(path, number, said, tensors) for number, said in enumerate(about.stages))
    if len(tensors) != sum(len(stage.tables) for stage in stages):
        raise ExportError(f"{path}: {len(tensors)} tables, expected those of its {len(stages)} stages")
    network = Network(about.name, stages, about.padding)
    if _digest(network) != about.sha256:
        raise ExportError(f"{path}: the tables were changed after they were written; export the file again")
    return network


def loaded(data: bytes, where: Path) -> Tables:
    """The network of what :func:`dumped` gave; ``where`` names it in messages.

    Raises:
        ExportError: as :func:`read`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / where.name
        path.write_bytes(data)
        return read(path)


def _stage(path: Path, number: int, said: _Stage, tensors: dict[str, Any]) -> Stage:
    tables = []
    for place, table in enumerate(said.tables):
        entries = tensors.get(f"{number}.{place}")
        if entries is None:
            raise ExportError(f"{path}: table {number}.{place} is missing; export the file again")
        if any(len(source) != 4 for tap in table.taps for source in tap):
            raise ExportError(f"{path}: table {number}.{place}: taps of plane, row, column and weight were expected")
        if table.band is not None and len(table.band) != 2:
            raise ExportError(f"{path}: table {number}.{place}: a band of a width and an interval was expected")
        taps = tuple(tuple(Source(*source) for source in tap) for tap in table.taps)
        band = None if table.band is None else Band(*table.band)
        tables.append(Table(taps, entries, table.interval_bits, band))
    return Stage(tuple(tables), said.divisor, said.bias, said.rotations, said.scale)


def read_card(path: Path) -> str | None:
    """The card's text; None for a file that is not ours."""
    return _opened(path)[1].get("edgepress")


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors and header of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ExportError(f"{path}: no such file")
    if path.stat().st_size > _MOST_BYTES:
        raise ExportError(f"{path}: {path.stat().st_size} bytes, expected at most {_MOST_BYTES}")
    try:
        with safe_open(str(path), "numpy") as file:
            header = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # also of odd types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ExportError(f"{path}: not a readable file of tables ({reason}); export it again") from error
