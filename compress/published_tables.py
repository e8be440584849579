"""Tables as their authors published them, read into networks of ours."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from export.lut.network import Network, Stage, Table, Tap, plain_taps

__all__ = ["load"]

_STAGED = re.compile(r"_s(\d)_([a-z])\.npy$", re.IGNORECASE)
_PATTERNS = {2: "1x2", 3: "1x3", 4: "S"}
_STEPS = {(256 >> bits) + 1: bits for bits in range(3, 8)}


def load(files: Sequence[Path], name: str, pattern: str | None = None) -> Network:
    """The network that published .npy files hold.

    Args:
        files: one file of SR-LUT (Jo and Kim, CVPR 2021: 2 to 4 taps, mirrored borders), or those of MuLUT (Li et
            al., ECCV 2022), whose names end in ``_s<stage>_<pattern>.npy``: repeated borders, stages joined in uint8.
        name: of the network.
        pattern: of a single file; None: by its number of rows.

    Raises:
        DataError: not int8 arrays, of sizes that are no tables, or files of a stage that are missing.
    """
    staged = [_STAGED.search(path.name) for path in files]
    if len(files) == 1 and staged[0] is None:
        table = _table(files[0], None if pattern is None else plain_taps(pattern))
        entries = table.entries
        return Network(name, (Stage((table,), 1, scale=_scale(files[0], entries)),), "reflect")
    if pattern is not None or not all(staged):
        odd = next((path for path, found in zip(files, staged, strict=True) if found is None), files[0])
        raise DataError(f"{odd}: several files must be named ..._s<stage>_<pattern>.npy, as MuLUT's are")
    return _staged(files, [(int(m[1]), m[2].upper()) for m in staged if m], name)


def _staged(files: Sequence[Path], places: Sequence[tuple[int, str]], name: str) -> Network:
    """MuLUT: all stages but the last give one plane, by sum / (4 * tables) + 127."""
    count = max(number for number, _ in places)
    by_stage = {
        k: sorted((p, f) for (number, p), f in zip(places, files, strict=True) if number == k)
        for k in range(1, count + 1)
    }
    stages = []
    for number, members in by_stage.items():
        if len(members) != len(by_stage[1]):
            said = ", ".join(pattern for pattern, _ in members) or "none"
            raise DataError(f"stage {number}: tables {said}, expected the patterns of stage 1; give all files")
        tables = [_table(path, plain_taps(pattern, number - 1)) for pattern, path in members]
        last = number == count
        scale = _scale(members[0][1], tables[0].entries) if last else 1
        divisor, bias = (len(tables), 0) if last else (4 * len(tables), 127)
        stages.append(Stage(tuple(tables), divisor, bias, scale=scale))
    return Network(name, tuple(stages))


def _table(path: Path, taps: tuple[Tap, ...] | None) -> Table:
    """A file as a table of some taps; None: as many as its rows allow, the fewest."""
    entries = _read(path)
    rows = len(entries)
    for nodes, bits in _STEPS.items():
        for count, pattern in _PATTERNS.items():
            if rows == nodes**count and (taps is None or len(taps) == count):
                return Table(taps or plain_taps(pattern), entries, bits)
    wanted = "nodes^taps such as 17^4 = 83521 or 17^3 = 4913" if taps is None else f"nodes^{len(taps)} for its pattern"
    raise DataError(f"{path}: {rows} rows, expected {wanted}")


def _read(path: Path) -> NDArray[np.int8]:
    """Entries (rows, outputs)."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a NumPy array ({error})") from None
    if not isinstance(found, np.ndarray) or found.dtype != np.int8 or found.ndim < 2:
        raise DataError(f"{path}: expected an int8 array of (rows, ...) as .npy")
    return np.ascontiguousarray(found.reshape(len(found), -1))


def _scale(path: Path, entries: NDArray[np.int8]) -> int:
    scale = math.isqrt(entries.shape[1])
    if scale * scale != entries.shape[1]:
        raise DataError(f"{path}: {entries.shape[1]} values a row, expected scale x scale")
    return scale
