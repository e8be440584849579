"""A folder of one-dimensional tables as ShiftLUT's authors publish it, read into a network of ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from export.errors import ExportError
from export.separable.network import HIGH, LOW, Layer, Separable

__all__ = ["load"]


def load(folder: Path, name: str) -> Separable:
    """The network that a folder of ShiftLUT (Zeng et al., arXiv:2603.00906) holds.

    ``DW<k>_MSB`` and ``PW<k>_MSB`` are the layers of block k, ``DW0_LSB`` the low bits of the first, ``UP_MSB`` the
    last: each an .npz of tables ``i<input>o<output>`` and a .json that gives IN, OUT and how many levels lie between
    two entries of each table.  ``offset.npy`` holds every block's shifts, all rows before all columns.

    Raises:
        DataError: files that are missing or of other shapes, or a network for restoration.
    """
    blocks = 0
    while (folder / f"PW{blocks}_MSB.npz").is_file():
        blocks += 1
    if not blocks:
        raise DataError(f"{folder}: no PW0_MSB.npz, expected the tables that ShiftLUT's authors publish")
    shifts = _shifts(folder / "offset.npy", blocks)
    layers = [Layer("spread", _tables(folder, "DW0_MSB"), _tables(folder, "DW0_LSB", LOW))]
    for block in range(blocks):
        if block:
            layers.append(Layer("depthwise", _tables(folder, f"DW{block}_MSB")))
        layers.append(Layer("pointwise", _tables(folder, f"PW{block}_MSB"), None, shifts[block]))
    layers.append(Layer("pointwise", _tables(folder, "UP_MSB")))
    try:
        network = Separable(name, tuple(layers))
    except ExportError as error:
        raise DataError(f"{folder}: {error}") from None
    if network.scale == 1:
        raise DataError(f"{folder}: tables that add to the image itself (restoration), expected super-resolution")
    return network


def _tables(folder: Path, name: str, levels: int = HIGH) -> NDArray[np.int8]:
    """All tables of a layer (inputs, outputs, levels), those of few entries filled in between."""
    about, entries = folder / f"{name}.json", folder / f"{name}.npz"
    try:
        plan = json.loads(about.read_text(encoding="utf-8"))
        found = np.zeros((plan["IN"], plan["OUT"], levels), np.int8)
        with np.load(entries, allow_pickle=False) as arrays:
            for table in plan["LUTs"]:
                one, other = table["in"], table["out"]
                found[one, other] = _filled(arrays[f"i{one}o{other}"], table["step"], levels)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: not there, expected in a folder of ShiftLUT") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        raise DataError(f"{entries}: not tables of {levels} levels as {about.name} describes them ({error})") from None
    return found


def _filled(entries: NDArray[np.generic], step: int, levels: int) -> NDArray[np.int8]:
    """A table of every level from one of every step-th: on straight lines, ties to even."""
    count = levels if step == 1 else levels // step + 1
    wide = entries[:count].astype(np.float64)
    if wide.shape != (count,) or np.any(wide != np.round(wide)) or np.any(np.abs(wide + 0.5) > 128):
        raise ValueError(
            f"{entries.dtype} of shape {entries.shape} for a step of {step}, expected {count} whole numbers"
        )
    if step == 1:
        return wide.astype(np.int8)
    nodes, between = np.divmod(np.arange(levels), step)
    filled = np.round((wide[nodes] * (step - between) + wide[nodes + 1] * between) / step)
    return np.asarray(filled, np.int8)


def _shifts(path: Path, blocks: int) -> list[tuple[tuple[int, int], ...]]:
    """Of every block, (row, column) of every channel."""
    try:
        found = np.load(path, allow_pickle=False)
        rows = found.reshape(len(found), 2, -1)[:blocks]
    except FileNotFoundError:
        raise DataError(f"{path}: not there, expected in a folder of ShiftLUT") from None
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise DataError(f"{path}: not the shifts of {blocks} blocks ({error})") from None
    if len(rows) < blocks or not np.issubdtype(rows.dtype, np.number) or np.any(rows != np.round(rows)):
        raise DataError(f"{path}: {found.dtype} of shape {found.shape}, expected whole numbers for {blocks} blocks")
    return [tuple((int(row), int(column)) for row, column in each.T) for each in rows]
