"""TFLite files as graphs: reading, and writing tuned numbers back into the same file."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export import tflite_graph
from export.errors import ExportError
from export.graph import tflite_layers, tflite_ops
from export.graph.ir import Graph, Grid, Op

__all__ = ["read", "write"]

_TYPES = {0: np.float32, 2: np.int32, 3: np.uint8, 4: np.int64, 6: np.bool_, 7: np.int16, 9: np.int8, 17: np.int8}
_BITS = {9: 8, 7: 16, 17: 4}
_CALIBRATED = (7, 9, 17)
"""Tensor types that stand for real numbers: int16, int8, int4."""


def read(path: Path) -> Graph:
    """The file's graph.

    Raises:
        ExportError: it has an operator that this reader does not know, named.
    """
    model = tflite_graph.load(path)
    if len(model.subgraphs) != 1:
        raise ExportError(f"{path}: {len(model.subgraphs)} subgraphs, expected one; it cannot be tuned")
    graph = model.subgraphs[0]
    names = [_name(index) for index in range(len(graph.tensors))]
    shapes = {names[i]: [int(n) for n in t.shape] if t.shape is not None else [] for i, t in enumerate(graph.tensors)}
    constants = {names[i]: _value(model, t) for i, t in enumerate(graph.tensors) if _data(model, t) is not None}
    grids = {names[i]: grid for i, t in enumerate(graph.tensors) if (grid := _grid(t)) is not None}
    ops = [op for flat in graph.operators for op in _ops(model, flat, names, shapes, path)]
    for op in ops:
        if op.kind in ("LOGISTIC", "TANH", "SOFTMAX") and op.output in grids:
            grids[op.output].fixed = True
    _share(ops, grids)
    return Graph(names[int(graph.inputs[0])], names[int(graph.outputs[0])], ops, constants, grids, "nhwc")


def _name(index: int) -> str:
    return f"t{index}"


def _data(model: Any, tensor: Any) -> Any:
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else data


def _value(model: Any, tensor: Any) -> Tensor:
    """Real values of a constant; what is not a number on a grid stays as it is."""
    if tensor.type not in _TYPES:
        raise ExportError(f"a constant of type {tensor.type} cannot be read")
    raw = np.frombuffer(bytes(_data(model, tensor)), np.uint8)
    shape = [int(n) for n in tensor.shape] if tensor.shape is not None else []
    if tensor.type == 17:  # two to a byte, the first one low
        pairs = np.stack([raw & 15, raw >> 4], -1).reshape(-1)[: int(np.prod(shape))].astype(np.int8)
        values = torch.from_numpy(np.where(pairs > 7, pairs - 16, pairs).astype(np.int8).reshape(shape))
    else:
        values = torch.from_numpy(raw.view(_TYPES[tensor.type]).reshape(shape).copy())
    scale, zero, axis = _parameters(tensor)
    if scale is None or tensor.type not in (*_CALIBRATED, 2):
        return values
    shape = [1] * values.dim()
    if scale.numel() > 1:
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    elif scale.numel() == 1:
        scale, zero = scale.reshape(()), zero.reshape(())
    real: Tensor = ((values.double() - zero.double()) * scale.double()).float()
    return real


def _parameters(tensor: Any) -> tuple[Any, Any, int]:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) == 0:
        return None, None, 0
    scale = torch.tensor(np.asarray(quantization.scale, np.float32))
    zero = torch.tensor(np.asarray(quantization.zeroPoint, np.int64)).float()
    return scale, zero, int(quantization.quantizedDimension or 0)


def _grid(tensor: Any) -> Grid | None:
    scale, zero, axis = _parameters(tensor)
    if scale is None or tensor.type not in _CALIBRATED:
        return None
    bits = _BITS[tensor.type]
    if scale.numel() > 1:
        return Grid(scale, zero, -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1, axis)
    return Grid(scale.reshape(()), zero.reshape(()), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _ops(model: Any, flat: Any, names: Sequence[str], shapes: Mapping[str, Sequence[int]], path: Path) -> list[Op]:
    kind = tflite_graph.kind_of(model, flat)
    inputs = tuple(names[int(i)] for i in flat.inputs if int(i) >= 0)
    found = []
    for part, output in enumerate(flat.outputs):
        run = tflite_ops.build(kind, flat.builtinOptions, inputs, shapes, part)
        if run is None:
            raise ExportError(f"{path}: operator {kind} cannot be tuned; the stock quantizer's numbers can be kept")
        dense = kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        constant = dense and model.buffers[model.subgraphs[0].tensors[int(flat.inputs[1])].buffer].data is not None
        parts = tflite_layers.linear(kind, flat.builtinOptions, inputs, shapes) if constant else None
        found.append(Op(kind, inputs, names[int(output)], run, parts, kind in tflite_ops.POINTWISE))
    return found


def _share(ops: Sequence[Op], grids: dict[str, Grid]) -> None:
    """One object for the tensors that a kernel wants on one grid, where the file has them so."""
    for op in ops:
        if op.kind not in tflite_ops.SAME_SCALE or op.output not in grids:
            continue
        for name in op.inputs:
            kept, other = grids[op.output], grids.get(name)
            if other is None or other is kept or kept.scale.numel() > 1 or other.scale.numel() > 1:
                continue
            if float(kept.scale) == float(other.scale) and float(kept.zero) == float(other.zero):
                kept.fixed = kept.fixed or other.fixed
                for key in [k for k, g in grids.items() if g is other]:
                    grids[key] = kept


def write(graph: Graph, path: Path) -> None:
    """Put the graph's grids and constants into the file it was read from."""
    model = tflite_graph.load(path)
    tensors = model.subgraphs[0].tensors
    for index, tensor in enumerate(tensors):
        name = _name(index)
        grid = graph.grids.get(name)
        if grid is not None:
            tensor.quantization.scale = grid.scale.detach().reshape(-1).numpy().astype(np.float32)
            tensor.quantization.zeroPoint = grid.zero.detach().reshape(-1).numpy().astype(np.int64)
            if name in graph.constants:
                _store(model, tensor, grid.integers(graph.constants[name].detach()))
    for op in graph.ops:
        if op.linear is not None and op.linear.bias is not None and op.linear.weight in graph.grids:
            _store_bias(model, graph, op)
    tflite_graph.save(model, path)


def _store(model: Any, tensor: Any, integers: Tensor) -> None:
    if tensor.type == 17:
        flat = integers.reshape(-1).numpy().astype(np.int8).view(np.uint8) & 15
        flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
        data = flat[0::2] | flat[1::2] << 4
    else:
        data = np.ascontiguousarray(integers.numpy().astype(_TYPES[tensor.type])).reshape(-1).view(np.uint8)
    _put(model, tensor, data)


def _put(model: Any, tensor: Any, data: Any) -> None:
    """A constant's new bytes; a buffer that other tensors read as well is left to them."""
    old = model.buffers[tensor.buffer]
    if np.array_equal(np.frombuffer(bytes(old.data), np.uint8), data):
        return
    if sum(other.buffer == tensor.buffer for graph in model.subgraphs for other in graph.tensors) > 1:
        model.buffers.append(copy.copy(old))
        tensor.buffer = len(model.buffers) - 1
    model.buffers[tensor.buffer].data = data


def _store_bias(model: Any, graph: Graph, op: Op) -> None:
    """int32 on the product of the input's and the weight's scales; int64 where activations have 16 bits."""
    assert op.linear is not None and op.linear.bias is not None
    tensor = model.subgraphs[0].tensors[int(op.linear.bias[1:])]
    if tensor.type not in (2, 4) or op.inputs[0] not in graph.grids:
        return
    scale = (graph.grids[op.inputs[0]].scale.detach() * graph.grids[op.linear.weight].scale.detach()).double()
    values = torch.round(graph.constants[op.linear.bias].detach().double() / scale)
    if tensor.type == 2:
        values = values.clamp(-(2**31), 2**31 - 1)
    kind = np.int32 if tensor.type == 2 else np.int64
    _put(model, tensor, values.numpy().astype(kind).reshape(-1).view(np.uint8))
    tensor.quantization.scale = scale.reshape(-1).numpy().astype(np.float32)
