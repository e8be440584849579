"""Rewrite of a finished TFLite flatbuffer: operators that carry the image's size give way to some that do not.

The converter writes whole shapes as constants even where it only adds a side of 1, gathers rows, or cuts a channel
out.  A network of look-up tables consists of such operators, and runs at any size after this.  The PixelShuffle of a
convolution is :func:`export.tflite_graph.fuse_pixel_shuffle`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import tflite_graph
from export.tflite_graph import Flat

__all__ = ["open_sides"]

_VERSIONS = {"GATHER": 2}  # for int8; all others that are put in are of version 1


def open_sides(path: Path) -> None:
    """Put operators without a size in the place of those that hold one and compute the same."""
    model = tflite_graph.load(path)
    for graph in model.subgraphs:
        _Graph(model, graph).open()
    tflite_graph.save(model, path)


class _Graph:
    """A graph that is rewritten."""

    def __init__(self, model: Flat, graph: Flat) -> None:
        from ai_edge_litert import schema_py_generated

        self._model, self._graph, self._schema = model, graph, schema_py_generated

    def open(self) -> None:
        """All rewrites, the longest patterns first."""
        for op in self._all("EMBEDDING_LOOKUP"):
            self._gather(op)
        for op in self._all("TRANSPOSE", "RESHAPE"):
            if any(op is kept for kept in self._graph.operators):
                self._shuffle(op)
        for op in self._all("SLICE"):
            self._cut(op)
        for op in self._all("RESHAPE"):
            self._move(op)

    def _gather(self, lookup: Flat) -> None:
        """RESHAPE to a row of numbers, EMBEDDING_LOOKUP, RESHAPE back: one GATHER."""
        numbers, table = lookup.inputs
        before = next((op for op in self._all("RESHAPE") if numbers in op.outputs), None)
        after = self._reader(lookup.outputs[0], "RESHAPE")
        if before is None or after is None or self._reader(numbers, "EMBEDDING_LOOKUP") is not lookup:
            return
        given, found = self._shape(before.inputs[0]), self._shape(after.outputs[0])
        if found == (*given, self._shape(table)[1]):
            gather = self._made("GATHER", [table, before.inputs[0]], after.outputs[0], axis=0, batchDims=0)
            self._replace([before, lookup, after], [gather])

    def _shuffle(self, first: Flat) -> None:
        """Moves of (C, H, W, s*s) to (1, s*H, s*W, C): DEPTH_TO_SPACE, and the batch turned into channels."""
        chain = [first]
        while (reader := self._reader(chain[-1].outputs[0], "TRANSPOSE", "RESHAPE")) is not None:
            chain.append(reader)
        end = chain[-1].outputs[0]
        given, found = self._shape(first.inputs[0]), self._shape(end)
        block = math.isqrt(given[-1])
        if len(given) != 4 or block < 2 or found != (1, block * given[1], block * given[2], given[0]):
            return
        value = np.arange(math.prod(given)).reshape(given)
        wanted = value.reshape(*given[:3], block, block).transpose(0, 1, 3, 2, 4).reshape(given[0], *found[1:3])
        for op in chain:
            value = value.transpose(self._values(op.inputs[1])) if self._kind(op) == "TRANSPOSE" else value
            value = value.reshape(self._shape(op.outputs[0]))
        if np.array_equal(value[0], wanted.transpose(1, 2, 0)):
            middle = self._tensor((given[0], *found[1:3], 1), like=end) if given[0] > 1 else end
            shuffle = self._made("DEPTH_TO_SPACE", [first.inputs[0]], middle, blockSize=block)
            turn = self._made("TRANSPOSE", [middle, self._constant([3, 1, 2, 0])], end)
            self._replace(chain, [shuffle, turn] if given[0] > 1 else [shuffle])

    def _cut(self, op: Flat) -> None:
        """A SLICE says -1 where it takes a whole side, and its output that this side is open."""
        begin, size = (self._values(t) for t in op.inputs[1:])
        size = np.where((begin == 0) & (size == self._shape(op.inputs[0])), -1, size)
        op.inputs = [op.inputs[0], op.inputs[1], self._constant(size)]
        self._graph.tensors[op.outputs[0]].shapeSignature = size  # else the interpreter holds it to the shape it had

    def _move(self, op: Flat) -> None:
        """A RESHAPE that only puts sides of 1 elsewhere, away or in is TRANSPOSE, SQUEEZE or EXPAND_DIMS."""
        source, target = op.inputs[0], op.outputs[0]
        given, found = self._shape(source), self._shape(target)
        if [n for n in given if n > 1] != [n for n in found if n > 1]:
            return
        if len(given) == len(found):
            ones, others = ([k for k, n in enumerate(given) if (n == 1) is one] for one in (True, False))
            order = [ones.pop(0) if n == 1 else others.pop(0) for n in found]
            self._replace([op], [self._made("TRANSPOSE", [source, self._constant(order)], target)])
        elif len(given) > len(found):
            away = _ones_of(given, found)
            self._replace([op], [self._made("SQUEEZE", [source], target, squeezeDims=away)])
        elif len(found) == len(given) + 1:
            (axis,) = _ones_of(found, given)
            self._replace([op], [self._made("EXPAND_DIMS", [source, self._constant([axis])], target)])

    def _all(self, *kinds: str) -> list[Flat]:
        return [op for op in self._graph.operators if self._kind(op) in kinds]

    def _kind(self, op: Flat) -> str:
        return tflite_graph.kind_of(self._model, op)

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self._graph.tensors[tensor].shape)

    def _values(self, tensor: int) -> NDArray[np.int32]:
        """Of a constant."""
        found: NDArray[np.int32] = self._model.buffers[self._graph.tensors[tensor].buffer].data.view(np.int32)
        return found

    def _reader(self, tensor: int, *kinds: str) -> Flat | None:
        """The one operator that reads a tensor, if it is of these kinds and the graph does not give the tensor out."""
        readers = [op for op in self._graph.operators if tensor in op.inputs]
        alone = len(readers) == 1 and tensor not in self._graph.outputs
        return readers[0] if alone and self._kind(readers[0]) in kinds else None

    def _replace(self, old: Sequence[Flat], new: Sequence[Flat]) -> None:
        """In the place of the last one."""
        operators = self._graph.operators
        place = next(k for k, op in enumerate(operators) if op is old[-1])
        operators[place : place + 1] = new
        self._graph.operators = [op for op in operators if not any(op is gone for gone in old)]

    def _made(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> Flat:
        """An operator with its options, all of which are fields of the schema's table for its kind."""
        op = self._schema.OperatorT()
        op.opcodeIndex = self._code(kind)
        op.inputs, op.outputs = list(inputs), [output]
        words = f"{kind.title().replace('_', '')}Options"
        op.builtinOptionsType = getattr(self._schema.BuiltinOptions, words)
        op.builtinOptions = getattr(self._schema, f"{words}T")()
        for name, value in options.items():
            assert hasattr(op.builtinOptions, name), f"{kind} has no option {name}"
            setattr(op.builtinOptions, name, value)
        return op

    def _code(self, kind: str) -> int:
        number, version = getattr(self._schema.BuiltinOperator, kind), _VERSIONS.get(kind, 1)
        codes = self._model.operatorCodes
        for place, code in enumerate(codes):
            if max(int(code.builtinCode), int(code.deprecatedBuiltinCode)) == number and code.version == version:
                return place
        made = self._schema.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = number
        made.version = version
        codes.append(made)
        return len(codes) - 1

    def _tensor(self, shape: Sequence[int], like: int) -> int:
        """A new tensor of another one's type."""
        tensor = self._schema.TensorT()
        tensor.shape, tensor.type = np.asarray(shape, np.int32), self._graph.tensors[like].type
        tensor.name, tensor.buffer = f"sizes_{len(self._graph.tensors)}", 0
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _constant(self, values: Sequence[int] | NDArray[np.int32]) -> int:
        """A new tensor of whole numbers."""
        buffer = self._schema.BufferT()
        buffer.data = np.asarray(values, np.int32).view(np.uint8)
        self._model.buffers.append(buffer)
        place = self._tensor([len(values)], like=0)
        tensor = self._graph.tensors[place]
        tensor.type, tensor.buffer = self._schema.TensorType.INT32, len(self._model.buffers) - 1
        return place


def _ones_of(longer: Sequence[int], shorter: Sequence[int]) -> list[int]:
    """The sides of 1 without which one shape is the other."""
    ones = [k for k, n in enumerate(longer) if n == 1]
    for away in combinations(ones, len(longer) - len(shorter)):
        if [n for k, n in enumerate(longer) if k not in away] == list(shorter):
            return list(away)
    raise AssertionError(f"{longer} and {shorter} differ in more than sides of 1")
