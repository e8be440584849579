"""Where the weights lie in a file: safetensors, ONNX, TFLite."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import ExportError, MissingRuntimeError

__all__ = ["Region", "regions_of"]

_SAFETENSORS = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}
_ONNX = {1: 4, 10: 2, 16: 2, 3: 1, 2: 1}  # TensorProto.DataType: float, float16, bfloat16, int8, uint8
_TFLITE = {0: 4, 1: 2, 9: 1, 3: 1}  # TensorType: float32, float16, int8, uint8
# field numbers of onnx.proto
_GRAPH, _INITIALIZER, _DIMS, _DATA_TYPE, _RAW_DATA = 7, 5, 1, 2, 9


@dataclass(frozen=True)
class Region:
    """The bytes of one tensor: ``rows`` times ``columns`` numbers of ``item`` bytes, from ``start`` on."""

    start: int
    rows: int
    columns: int
    item: int

    @property
    def count(self) -> int:
        """How many numbers."""
        return self.rows * self.columns

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.start + self.count * self.item


def regions_of(path: Path, data: bytes) -> list[Region]:
    """The tensors of a file, in the order in which they lie there; none overlaps another.

    Only floats of two and four bytes and integers of one; other tensors are bytes like any others.

    Raises:
        ExportError: a file of another kind, or one that cannot be read.
        MissingRuntimeError: the package that reads it is not installed.
    """
    readers = {".safetensors": _in_safetensors, ".onnx": _in_onnx, ".tflite": _in_tflite}
    if path.suffix.lower() not in readers:
        raise ExportError(
            f"{path}: found a {path.suffix or 'nameless'} file, expected one of {', '.join(readers)}; "
            "write the network as one of these first"
        )
    try:
        found = sorted(readers[path.suffix.lower()](data), key=lambda region: region.start)
    except ImportError as error:
        raise MissingRuntimeError(f"{path}: to read it, pip install 'edgepress[tflite]' ({error})") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ExportError(f"{path}: not a readable {path.suffix} file ({error}); write it again") from None
    apart: list[Region] = []
    for region in found:  # two tensors may share their bytes
        if region.count and region.end <= len(data) and (not apart or region.start >= apart[-1].end):
            apart.append(region)
    return apart


def _region(start: int, shape: Sequence[int], item: int) -> Region:
    rows = shape[0] if len(shape) > 1 else 1
    return Region(start, rows, math.prod(shape) // max(1, rows), item)


def _in_safetensors(data: bytes) -> Iterator[Region]:
    """Eight bytes of length, JSON, and the tensors behind it."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length].decode())
    for name, about in header.items():
        if name != "__metadata__" and about["dtype"] in _SAFETENSORS:
            yield _region(8 + length + int(about["data_offsets"][0]), about["shape"], _SAFETENSORS[about["dtype"]])


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int | None, int, int]]:
    """Number, value and the payload's place of each field of a protobuf message; the library tells no places.

    The value is None but for plain whole numbers.
    """
    while start < end:
        key, start = _varint(data, start)
        kind, stop = key & 7, start
        value: int | None = None
        if kind == 0:
            value, stop = _varint(data, start)
        elif kind == 2:
            size, start = _varint(data, start)
            stop = start + size
        elif kind in (1, 5):
            stop = start + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"protobuf field of kind {kind}")
        if stop > end:
            raise ValueError("a protobuf field is cut off")
        yield key >> 3, value, start, stop
        start = stop


def _varint(data: bytes, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        value |= (byte & 127) << shift
        start, shift = start + 1, shift + 7
        if byte < 128:
            return value, start


def _in_onnx(data: bytes) -> Iterator[Region]:
    for number, _, start, end in _fields(data, 0, len(data)):
        if number == _GRAPH:
            for part, _, first, last in _fields(data, start, end):
                if part == _INITIALIZER:
                    yield from _in_tensor(data, first, last)


def _in_tensor(data: bytes, start: int, end: int) -> Iterator[Region]:
    shape: list[int] = []
    kind: int | None = None
    place = (0, 0)
    for number, value, first, last in _fields(data, start, end):
        if number == _DIMS:
            shape += _dims(data, value, first, last)
        elif number == _DATA_TYPE:
            kind = value
        elif number == _RAW_DATA:
            place = (first, last)
    item = _ONNX.get(kind or 0, 0)
    if item and math.prod(shape) * item == place[1] - place[0]:
        yield _region(place[0], shape, item)


def _dims(data: bytes, value: int | None, start: int, end: int) -> list[int]:
    """One side of a shape, or all of them packed."""
    if value is not None:
        return [value]
    sides = []
    while start < end:
        side, start = _varint(data, start)
        sides.append(side)
    return sides


def _in_tflite(data: bytes) -> Iterator[Region]:
    from ai_edge_litert import schema_py_generated as schema

    if data[4:8] != b"TFL3":
        raise ValueError("it does not begin as a TFLite file")
    whole = np.frombuffer(data, np.uint8)
    model: Any = schema.Model.GetRootAs(data, 0)
    seen = set()
    for graph in (model.Subgraphs(k) for k in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(k) for k in range(graph.TensorsLength())):
            values = model.Buffers(tensor.Buffer()).DataAsNumpy()
            item = _TFLITE.get(tensor.Type(), 0)
            shape = [int(side) for side in tensor.ShapeAsNumpy()] if tensor.ShapeLength() else []
            if isinstance(values, int) or tensor.Buffer() in seen or math.prod(shape) * item != values.size:
                continue
            seen.add(tensor.Buffer())
            yield _region(int(values.ctypes.data - whole.ctypes.data), shape, item)
