"""ONNX files as graphs: reading, and writing tuned numbers back into the same file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.errors import ExportError
from export.files import atomic_path
from export.graph import onnx_ops
from export.graph.ir import Graph, Grid, Op
from export.graph.onnx_layers import Node, Run, linear
from export.graph.onnx_moves import SAME_SCALE
from export.graph.onnx_qdq import Wiring, array, load, new_tensor, shapes_of

__all__ = ["read", "write"]

_DOMAINS = ("", "ai.onnx", "com.microsoft")
_LAYERS = ("Conv", "Gemm", "MatMul")
_LOWEST = "-inf"
"""A constant: what a Clip has that is open below."""
_BIASED = ("Conv", "ConvTranspose", "Gemm")


def read(path: Path) -> Graph:
    """The file's graph.

    Raises:
        ExportError: it has an operator that this reader does not know, named.
    """
    model = load(path)
    wiring = Wiring(model, path)
    constants, grids = wiring.constants(), wiring.grids()
    constants[_LOWEST] = torch.tensor(float("-inf"))
    inputs = [value.name for value in model.graph.input if value.name not in wiring.initializers]
    if len(inputs) != 1:
        raise ExportError(f"{path}: {len(inputs)} inputs, expected one; it cannot be tuned")
    shapes = shapes_of(wiring)
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    ops: list[Op] = []
    for node in wiring.nodes:
        found = _ops(wiring, node, Node(node.op_type, {}, (), 0, shapes, constants, opset))
        if _folds(found, constants, grids):
            for op in found:
                constants[op.output] = op.run(*(constants[name] for name in op.inputs))
        else:
            ops += found
    _share(ops, grids)
    used = {name for op in ops for name in op.inputs}
    kept = {name: value for name, value in constants.items() if name in used}
    return Graph(inputs[0], wiring.name(model.graph.output[0].name), ops, kept, grids, "nchw")


def _ops(wiring: Wiring, flat: Any, frame: Node) -> list[Op]:
    from onnx import helper

    settings = {a.name: onnx_ops.attribute(helper.get_attribute_value(a)) for a in flat.attribute}
    names = tuple(wiring.name(name) for name in flat.input)
    if flat.op_type == "QuantizeLinear":
        names = names[:1]
    if flat.op_type == "Clip" and len(names) == 3 and not names[1]:
        names = (names[0], _LOWEST, names[2])
    node = Node(flat.op_type, settings, names, len(flat.output), frame.shapes, frame.constants, frame.opset)
    found = []
    for part, output in enumerate(flat.output):
        if not output:
            continue
        run = onnx_ops.build(node, part) if flat.domain in _DOMAINS else None
        if run is None:
            raise ExportError(
                f"{wiring.path}: operator {flat.op_type} cannot be tuned; the stock quantizer's numbers can be kept"
            )
        given = tuple(name for name in names if name)
        constant = flat.op_type in _LAYERS and names[1] in frame.constants
        parts = linear(node) if constant else None
        found.append(
            Op(flat.op_type, given, wiring.name(output), _placed(run, names), parts, node.kind in onnx_ops.POINTWISE)
        )
    return found


def _placed(run: Run, names: Sequence[str]) -> Run:
    """The operator as a function of the inputs that are given."""
    if all(names):
        return run
    places = [k for k, name in enumerate(names) if name]

    def of_given(*given: Tensor) -> Tensor:
        full: list[Tensor | None] = [None] * len(names)
        for place, value in zip(places, given, strict=True):
            full[place] = value
        return run(*full)

    return of_given


def _folds(ops: Sequence[Op], constants: dict[str, Tensor], grids: dict[str, Grid]) -> bool:
    """Whether the outputs are constants that no grid has touched."""
    plain = all(name in constants and name not in grids for op in ops for name in op.inputs)
    return plain and not any(op.output in grids for op in ops)


def _share(ops: Sequence[Op], grids: dict[str, Grid]) -> None:
    """One object for the tensors around operators that only move values, where the file has equal numbers."""
    for op in ops:
        kept, other = grids.get(op.output), grids.get(op.inputs[0]) if op.inputs else None
        if op.kind not in SAME_SCALE or kept is None or other is None or kept is other:
            continue
        if kept.scale.numel() > 1 or other.scale.numel() > 1 or (kept.low, kept.high) != (other.low, other.high):
            continue
        if float(kept.scale) == float(other.scale) and float(kept.zero) == float(other.zero):
            for key in [k for k, g in grids.items() if g is other]:
                grids[key] = kept


def write(graph: Graph, path: Path) -> None:
    """Put the graph's grids and constants into the file it was read from.

    Activations that the quantizer left out because a grid ends where they do come back where it no longer does.
    """
    import onnx

    wiring = Wiring(load(path), path)
    store = _Store(wiring)
    for node, name in wiring.sites:
        if name in graph.grids:
            store.parameters(node, graph.grids[name])
    for name, tensor in wiring.integers.items():
        if name in graph.constants and name in graph.grids:
            store.overwrite(tensor, graph.grids[name].integers(graph.constants[name].detach()).numpy())
    hidden = {tensor.name for tensor in wiring.integers.values()}
    for name, tensor in wiring.initializers.items():
        if tensor.data_type == 1 and name in graph.constants and name not in hidden and name not in wiring.names:
            store.overwrite(tensor, graph.constants[name].detach().numpy())
    store.biases(graph)
    store.activations(graph)
    with atomic_path(path) as target:
        onnx.save(wiring.model, str(target))


class _Store:
    """Puts numbers into a file's initializers; one that must hold two different numbers is doubled."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._nodes = wiring.model.graph.node
        self._owner: dict[str, Grid] = {}
        self._copies: dict[tuple[str, int], str] = {}

    def overwrite(self, tensor: Any, values: Any) -> None:
        """New values of the same type and number, in the old shape."""
        old = array(tensor)
        values = np.asarray(values).reshape(old.shape)
        if not np.array_equal(old, values):
            tensor.CopyFrom(new_tensor(tensor.name, values, tensor.data_type))

    def add(self, name: str, values: Any, data_type: int) -> str:
        """A new initializer; its name is made unlike all others."""
        while name in self._wiring.initializers:
            name += "_"
        tensor = self._wiring.model.graph.initializer.add()
        tensor.CopyFrom(new_tensor(name, values, data_type))
        self._wiring.initializers[name] = tensor
        return name

    def parameters(self, node: Any, grid: Grid) -> None:
        """Scale and zero point of a Q or DQ node."""
        scale, zero = grid.scale.detach().numpy(), grid.zero.detach().numpy()
        if len(node.input) < 3 or not node.input[2]:
            del node.input[2:]
            zeros = np.broadcast_to(zero, array(self._wiring.initializers[node.input[1]]).shape)
            node.input.append(self.add(f"{node.output[0]}_zero_point", zeros, self._wiring.type_of(node)))
        for place, values in ((1, scale), (2, zero)):
            name = node.input[place]
            owner = self._owner.setdefault(name, grid)
            tensor = self._wiring.initializers[name]
            if owner is grid:
                self.overwrite(tensor, values)
            elif not np.array_equal(array(tensor).reshape(-1), values.reshape(-1)):
                key = (name, id(grid))
                if key not in self._copies:
                    shaped = np.asarray(values).reshape(array(tensor).shape)
                    self._copies[key] = self.add(f"{name}_{len(self._copies)}", shaped, tensor.data_type)
                node.input[place] = self._copies[key]

    def biases(self, graph: Graph) -> None:
        """int32 on the product of the input's and the weight's scales; others keep the scale they have."""
        done: dict[str, Tensor] = {}
        flat = {self._wiring.name(node.output[0]): node for node in self._wiring.nodes}
        for op in graph.ops:
            bias = op.inputs[2] if op.kind in _BIASED and len(op.inputs) == 3 else None
            grids = [graph.grids.get(name) for name in op.inputs[:2]]
            node = flat.get(op.output) or flat.get(self._end(graph, op))
            if bias not in self._wiring.biases or bias is None or node is None:
                continue
            source = self._wiring.biases[bias]
            if grids[0] is None or grids[1] is None or _scaled(node):
                continue
            scale = (grids[0].scale.detach() * grids[1].scale.detach()).reshape(-1)
            if bias not in done:
                done[bias] = scale
            elif not torch.equal(done[bias], scale):
                source = self._double(source, node)
            self._bias(source, graph.constants[bias], scale)
        for name, source in self._wiring.biases.items():
            if name in graph.constants and name not in done:
                self._bias(source, graph.constants[name], self._wiring.parameters(source)[0].reshape(-1))

    def _end(self, graph: Graph, op: Op) -> str:
        """The output, in the file, of a layer whose activation the quantizer left out."""
        written = {self._wiring.name(node.output[0]) for node in self._wiring.nodes}
        while op.output not in written:
            op = next((o for o in graph.consumers(op.output) if o.kind in ("Relu", "Clip")), op)
            if op.kind not in ("Relu", "Clip"):
                break
        return op.output

    def _double(self, source: Any, reader: Any) -> Any:
        """A DQ node of a bias, and all it reads, a second time for one of its readers."""
        copy = type(source)()
        copy.CopyFrom(source)
        for place, name in enumerate(source.input):
            tensor = self._wiring.initializers[name]
            copy.input[place] = self.add(f"{name}_of_{reader.output[0]}", array(tensor), tensor.data_type)
        copy.name = copy.output[0] = f"{source.output[0]}_of_{reader.output[0]}"
        reader.input[2] = copy.output[0]
        self._nodes.insert(0, copy)
        return copy

    def _bias(self, node: Any, values: Tensor, scale: Tensor) -> None:
        tensor, steps = (self._wiring.initializers[name] for name in node.input[:2])
        integers = torch.round(values.detach().double() / scale.double()).clamp(-(2**31), 2**31 - 1)
        self.overwrite(tensor, integers.numpy())
        if scale.numel() == int(np.prod(steps.dims)):
            self.overwrite(steps, scale.numpy())

    def activations(self, graph: Graph) -> None:
        """Relu and Clip nodes of the float network that the grid does not stand in for any more."""
        from onnx import helper

        written = {self._wiring.name(node.output[0]): node for node in self._wiring.nodes}
        for op in reversed(graph.ops):
            if op.kind not in ("Relu", "Clip") or op.output not in written:
                continue
            node = written[op.output]
            if node.op_type == op.kind or _implied(graph, op):
                continue
            bounds = [self.add(f"{op.output}_bound", graph.constants[n].detach().numpy(), 1) for n in op.inputs[1:]]
            before, after = op.inputs[0], node.output[0]
            node.output[0], written[before] = before, node
            place = next(k for k, n in enumerate(self._nodes) if n is node or list(n.output) == [before])
            self._nodes.insert(place + 1, helper.make_node(op.kind, [before, *bounds], [after], before))


def _scaled(node: Any) -> bool:
    """Whether a Gemm multiplies its bias."""
    return any(a.name in ("alpha", "beta") and a.f != 1.0 for a in node.attribute)


def _implied(graph: Graph, op: Op) -> bool:
    """Whether the output's grid reaches no further than the activation lets pass."""
    grid = graph.grids.get(op.output)
    if grid is None or grid.scale.numel() > 1:
        return False
    low, high = grid.range
    bounds = [float(graph.constants[name]) for name in op.inputs[1:]]
    floor, ceiling = [*bounds, float("inf")][:2] if bounds else (0.0, float("inf"))
    slack = 1e-6 * (high - low)
    return low >= floor - slack and high <= ceiling + slack
