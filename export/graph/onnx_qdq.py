"""The pairs of QuantizeLinear and DequantizeLinear in an ONNX file: which tensors they put on which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.errors import ExportError
from export.graph.ir import Grid

__all__ = ["Wiring", "array", "load", "new_tensor", "shapes_of"]

_QUANTIZED, _DEQUANTIZED, _BEFORE = "_quantized", "_DequantizeLinear_Output", "_QuantizeLinear_Input"
_RANGES = {2: (0, 255), 3: (-128, 127), 4: (0, 65535), 5: (-32768, 32767), 21: (0, 15), 22: (-8, 7)}
"""By TensorProto's type: uint8, int8, uint16, int16, uint4, int4."""
_INT32 = 6


def load(path: Path) -> Any:
    """The model, its Constant nodes turned into initializers."""
    import onnx

    model = onnx.load(str(path))
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    for node in constants:
        value = onnx.helper.get_attribute_value(node.attribute[0])
        if not isinstance(value, onnx.TensorProto):
            kind = np.int64 if node.attribute[0].name.startswith("value_int") else np.float32
            value = onnx.numpy_helper.from_array(np.asarray(value, kind))
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        model.graph.node.remove(node)
    return model


def array(tensor: Any) -> Any:
    """The values of an initializer; integers of four bits as int8 or uint8."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    if tensor.data_type in (21, 22):
        return values.astype(np.int8 if tensor.data_type == 22 else np.uint8)
    return values


def new_tensor(name: str, values: Any, data_type: int) -> Any:
    """An initializer of a type of TensorProto."""
    from onnx import helper, numpy_helper

    values = np.asarray(values)
    if data_type in (21, 22):
        return helper.make_tensor(name, data_type, values.shape, values.reshape(-1).tolist())
    # a number must stay one: onnxruntime has int8 products and sums for such scales only
    return numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(data_type), order="C"), name)


@dataclass
class Wiring:
    """A file without its Q and DQ nodes: a tensor before Q and the one after DQ are one, unless both are read."""

    model: Any
    path: Path
    nodes: list[Any] = field(default_factory=list)
    """All others, and those Q nodes whose input is read as it is, too."""
    names: dict[str, str] = field(default_factory=dict)
    """The file's tensors that go by another name in the graph."""
    sites: list[tuple[Any, str]] = field(default_factory=list)
    """Q and DQ nodes, each with the graph's tensor that it puts on a grid."""
    integers: dict[str, Any] = field(default_factory=dict)
    """Constants stored as integers on a grid, by their name in the graph: the initializers."""
    biases: dict[str, Any] = field(default_factory=dict)
    """The DQ nodes of int32 constants, by their name in the graph."""

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}
        self._of_integers: dict[str, str] = {}
        self._gridded: set[str] = set()
        for node in graph.node:
            if node.op_type == "QuantizeLinear":
                self._quantize(node)
            elif node.op_type == "DequantizeLinear":
                self._dequantize(node)
            else:
                self.nodes.append(node)

    def name(self, tensor: str) -> str:
        """A tensor of the file, as the graph calls it."""
        return self.names.get(tensor, tensor)

    def _quantize(self, node: Any) -> None:
        source, integers = node.input[0], node.output[0]
        dequantized = self._readers.get(integers, [])
        if integers in self._outputs or any(reader.op_type != "DequantizeLinear" for reader in dequantized):
            raise ExportError(f"{self.path}: the integers {integers!r} are read by an operator; expected QDQ form")
        readers = self._readers[source]
        alone = source not in self._outputs and all(r.op_type == "QuantizeLinear" for r in readers)
        same = all(list(r.input[1:]) == list(node.input[1:]) for r in readers)
        name = self.name(source)
        if alone and same and (name not in self._gridded or self._of_integers.get(readers[0].output[0]) == name):
            ends = [r.output[0] for r in dequantized if r.output[0] in self._outputs]
            if ends and name == source and source not in self.initializers:
                self.names[source] = name = ends[0]
            self._of_integers[integers] = name
        else:
            self._of_integers[integers] = name = integers
            self.nodes.append(node)
        self._gridded.add(name)
        self.sites.append((node, name))

    def _dequantize(self, node: Any) -> None:
        source, result = node.input[0], node.output[0]
        if source in self._of_integers:
            self.names[result] = self._of_integers[source]
        elif source in self.initializers:
            tensor = self.initializers[source]
            name = source.removesuffix(_QUANTIZED) if source.endswith(_QUANTIZED) else result.removesuffix(_DEQUANTIZED)
            self.names[result] = name
            if tensor.data_type == _INT32:
                self.biases[name] = node
                return
            self.integers[name] = tensor
            self._gridded.add(name)
        else:
            raise ExportError(f"{self.path}: {source!r} is dequantized but not quantized before; expected QDQ form")
        self.sites.append((node, self.names[result]))

    def constants(self) -> dict[str, Tensor]:
        """Real values by their names in the graph."""
        hidden = {tensor.name for tensor in self.integers.values()} | {n.input[0] for n in self.biases.values()}
        found = {
            name: torch.from_numpy(np.array(array(tensor)))
            for name, tensor in self.initializers.items()
            if name not in hidden and tensor.data_type not in (8, 16)
        }
        nodes = {name: node for node, name in self.sites if name in self.integers} | self.biases
        return found | {name: self._real(node) for name, node in nodes.items()}

    def _real(self, node: Any) -> Tensor:
        values = torch.from_numpy(array(self.initializers[node.input[0]]).astype(np.float64))
        scale, zero = self.parameters(node)
        if scale.numel() > 1:
            shape = [1] * values.dim()
            shape[self.axis(node)] = -1
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        else:
            scale, zero = scale.reshape(()), zero.reshape(())
        return ((values - zero.double()) * scale.double()).float()

    def parameters(self, node: Any) -> tuple[Tensor, Tensor]:
        """(scale, zero) of a Q or DQ node, as floats."""
        missing = [name for name in node.input[1:] if name and name not in self.initializers]
        if missing:
            raise ExportError(f"{self.path}: the scale {missing[0]!r} is computed; expected a constant")
        scale = torch.from_numpy(np.array(array(self.initializers[node.input[1]]), np.float32))
        if len(node.input) < 3 or not node.input[2]:
            return scale, torch.zeros_like(scale)
        return scale, torch.from_numpy(array(self.initializers[node.input[2]]).astype(np.float32))

    def axis(self, node: Any) -> int:
        """Of a scale for each channel."""
        given = {a.name: a.i for a in node.attribute}
        if given.get("block_size"):
            raise ExportError(f"{self.path}: {node.name!r} has scales in blocks; expected one, or one a channel")
        return int(given.get("axis", 1))

    def grids(self) -> dict[str, Grid]:
        """Of the graph's tensors; one object for those that share their initializers."""
        made: dict[tuple[str, ...], Grid] = {}
        found: dict[str, Grid] = {}
        for node, name in self.sites:
            key = tuple(node.input[1:])
            if key not in made:
                made[key] = self._grid(node, name)
            found.setdefault(name, made[key])
        return found

    def _grid(self, node: Any, name: str) -> Grid:
        low, high = _RANGES[self.type_of(node)]
        if low < 0 and name in self.integers and int(array(self.integers[name]).min(initial=0)) > low:
            low += 1
        scale, zero = self.parameters(node)
        if scale.numel() == 1:
            return Grid(scale.reshape(()), zero.reshape(()), low, high)
        axis = self.axis(node)
        if axis < 0:
            axis += len(self.integers[name].dims) if name in self.integers else 4
        return Grid(scale, zero, low, high, axis)

    def type_of(self, node: Any) -> int:
        """The type of a Q or DQ node's integers, as TensorProto numbers them."""
        if len(node.input) > 2 and node.input[2]:
            kind = int(self.initializers[node.input[2]].data_type)
        elif node.op_type == "DequantizeLinear" and node.input[0] in self.initializers:
            kind = int(self.initializers[node.input[0]].data_type)
        else:
            kind = next((int(a.i) for a in node.attribute if a.name == "output_dtype" and a.i), 2)
        if kind not in _RANGES:
            raise ExportError(f"{self.path}: {node.name!r} quantizes to type {kind}; expected integers of 4 to 16 bits")
        return kind


def shapes_of(wiring: Wiring) -> Mapping[str, list[int | None]]:
    """Declared or inferred sides of the graph's tensors, None where open."""
    import onnx

    model = onnx.shape_inference.infer_shapes(wiring.model, data_prop=True)
    found: dict[str, list[int | None]] = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        if value.type.tensor_type.HasField("shape"):
            sides = value.type.tensor_type.shape.dim
            found.setdefault(
                wiring.name(value.name), [int(d.dim_value) if d.HasField("dim_value") else None for d in sides]
            )
    for name, tensor in wiring.initializers.items():
        found.setdefault(wiring.name(name), [int(n) for n in tensor.dims])
    return found
