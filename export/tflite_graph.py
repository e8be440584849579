"""Rewrites of a finished TFLite flatbuffer: pixel shuffle as one operator, and another input size.

The converter writes PixelShuffle as a chain of RESHAPE and 6-D-like TRANSPOSE whose shapes are constants;
such a file runs at one size only and no NPU takes the transposes.  :func:`fuse_pixel_shuffle` puts one
DEPTH_TO_SPACE in their place, for float and quantized files alike, after which the graph holds no shape and
the file can be resized.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "fuse_pixel_shuffle",
    "is_resizable",
    "kind_of",
    "load",
    "operators",
    "outputs_of_ends",
    "read_card",
    "resize_input",
    "save",
    "write_card",
]

_CARD = "edgepress"

Flat = Any  # the object API of the flatbuffer schema is untyped


def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def load(path: Path) -> Flat:
    """The file as objects; weights stored behind the flatbuffer (which old runtimes cannot read) are pulled in."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    for buffer in model.buffers:
        if buffer.data is not None:
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
    return model


def save(model: Flat, path: Path) -> None:
    """Write the objects as a file."""
    from ai_edge_litert.tools import flatbuffer_utils

    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _code(model: Flat, op: Flat) -> int:
    code = model.operatorCodes[op.opcodeIndex]
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def kind_of(model: Flat, op: Flat) -> str:
    """Name of an operator in the schema, e.g. ``CONV_2D``."""
    code = _code(model, op)
    return next(str(k) for k, v in vars(_schema().BuiltinOperator).items() if v == code)


def operators(path: Path) -> dict[str, int]:
    """How many operators of each kind the file holds, by name, e.g. ``{"CONV_2D": 21}``."""
    names = {v: k for k, v in vars(_schema().BuiltinOperator).items() if isinstance(v, int)}
    model = load(path)
    counts: dict[str, int] = {}
    for graph in model.subgraphs:
        for op in graph.operators:
            name = names[_code(model, op)]
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def outputs_of_ends(path: Path) -> list[str]:
    """Names of the outputs of the first and the last operator with weights."""
    model = load(path)
    graph = model.subgraphs[0]
    dense = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
    found = [op for op in graph.operators if kind_of(model, op) in dense]
    names = [graph.tensors[int(op.outputs[0])].name for op in (found[:1] + found[1:][-1:])]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def fuse_pixel_shuffle(path: Path) -> int:
    """Replace each shuffling chain that follows a convolution by DEPTH_TO_SPACE, in place.

    What a chain does is found by running it on indices, not by its spelling.  PyTorch orders the channels
    (c, i, j) and TFLite (i, j, c), so the convolution's output channels are reordered to suit.

    Returns:
        The number of chains replaced; 0 leaves the file untouched.
    """
    model = load(path)
    done = sum(_fuse_graph(model, graph) for graph in model.subgraphs)
    if done:
        save(model, path)
    return done


def _fuse_graph(model: Flat, graph: Flat) -> int:
    done = 0
    for op in list(graph.operators):
        convolutions = _convolutions_behind(model, graph, op)
        chain = _chain_after(model, graph, op) if convolutions else []
        order = _channel_order(model, graph, chain) if chain else None
        if order is None or not all(_exclusive(model, graph, conv) for conv in convolutions):
            continue
        block, channels = order
        for conv in convolutions:
            _permute_outputs(model, graph, conv, channels)
        _replace(model, graph, chain, block)
        done += 1
    return done


def _convolutions_behind(model: Flat, graph: Flat, op: Flat) -> list[Flat]:
    """The convolutions whose output channels an operator passes on in their order; none where it does more.

    Its own, or, of a sum or a function of each value, those of its inputs; an input of one channel has no order.
    None in groups: an output channel cannot move to another group.
    """
    kinds = _schema().BuiltinOperator
    if _code(model, op) == kinds.CONV_2D:
        depth = graph.tensors[op.inputs[0]].shape[3]
        return [op] if graph.tensors[op.inputs[1]].shape[3] == depth else []
    plain = (kinds.ADD, kinds.RELU, kinds.RELU_0_TO_1, kinds.TANH, kinds.QUANTIZE, kinds.DEQUANTIZE)
    if _code(model, op) not in plain or len(set(op.inputs)) != len(op.inputs):
        return []
    found: list[Flat] = []
    for tensor in (t for t in op.inputs if list(graph.tensors[t].shape)[3:] != [1]):
        before = [o for o in graph.operators if tensor in o.outputs]
        behind = _convolutions_behind(model, graph, before[0]) if before else []
        if not behind or len(_consumers(graph, tensor)) != 1:
            return []
        found += behind
    return found


def _consumers(graph: Flat, tensor: int) -> list[Flat]:
    return [op for op in graph.operators if op.inputs is not None and tensor in op.inputs]


def _chain_after(model: Flat, graph: Flat, conv: Flat) -> list[Flat]:
    """The RESHAPE / TRANSPOSE operators that follow, each the only reader of the one before."""
    kinds = (_schema().BuiltinOperator.RESHAPE, _schema().BuiltinOperator.TRANSPOSE)
    chain: list[Flat] = []
    tensor = conv.outputs[0]
    while tensor not in graph.outputs:
        readers = _consumers(graph, tensor)
        if len(readers) != 1 or _code(model, readers[0]) not in kinds:
            break
        chain.append(readers[0])
        tensor = readers[0].outputs[0]
    return chain


def _constant(model: Flat, graph: Flat, tensor: int) -> NDArray[np.int32] | None:
    data = model.buffers[graph.tensors[tensor].buffer].data
    return None if data is None else data.view(np.int32)


def _channel_order(model: Flat, graph: Flat, chain: list[Flat]) -> tuple[int, NDArray[np.intp]] | None:
    """(block, old channel of each new one) when the chain is a depth-to-space, else None."""
    _, height, width, depth = (int(n) for n in graph.tensors[chain[0].inputs[0]].shape)
    _, *inner, channels = (int(n) for n in graph.tensors[chain[-1].outputs[0]].shape)
    if len(inner) != 2 or channels == 0 or inner[0] % height:
        return None
    block = inner[0] // height
    if block < 2 or inner != [block * height, block * width] or block**2 * channels != depth:
        return None
    value = np.arange(height * width * depth).reshape(1, height, width, depth)
    for op in chain:
        argument = _constant(model, graph, op.inputs[1]) if len(op.inputs) > 1 else None
        if _code(model, op) == _schema().BuiltinOperator.TRANSPOSE:
            if argument is None:
                return None
            value = value.transpose([int(a) for a in argument])
        else:
            value = value.reshape([int(n) for n in graph.tensors[op.outputs[0]].shape])
    order = value[0, :block, :block].reshape(-1)  # of the pixel (0, 0): index = channel
    space = np.arange(height * width * depth).reshape(height, width, depth)[..., order]
    expected = space.reshape(height, width, block, block, channels).transpose(0, 2, 1, 3, 4)
    same = np.array_equal(value[0], expected.reshape(block * height, block * width, channels))
    return (block, order) if same else None


def _exclusive(model: Flat, graph: Flat, conv: Flat) -> bool:
    """Whether the convolution's weights and bias may be reordered: nothing else reads them, or they are all zero."""
    for tensor in conv.inputs[1:]:
        buffer = graph.tensors[tensor].buffer
        sharing = [t for g in model.subgraphs for t in g.tensors if t.buffer == buffer]
        shared = len(_consumers(graph, tensor)) != 1 or len(sharing) != 1
        scales = getattr(graph.tensors[tensor].quantization, "scale", None)
        plain_zeros = not model.buffers[buffer].data.any() and (scales is None or len(scales) <= 1)
        if shared and not plain_zeros:
            return False
    return True


def _permute_outputs(model: Flat, graph: Flat, conv: Flat, order: NDArray[np.intp]) -> None:
    for index in conv.inputs[1:]:
        tensor = graph.tensors[index]
        buffer = model.buffers[tensor.buffer]
        rows = buffer.data.reshape(len(order), -1)
        buffer.data = np.ascontiguousarray(rows[order]).reshape(-1)
        quantization = tensor.quantization
        for field in ("scale", "zeroPoint", "min", "max"):
            values = getattr(quantization, field, None) if quantization is not None else None
            if values is not None and len(values) == len(order):
                setattr(quantization, field, np.asarray(values)[order])


def _replace(model: Flat, graph: Flat, chain: list[Flat], block: int) -> None:
    schema = _schema()
    kind = schema.BuiltinOperator.DEPTH_TO_SPACE
    codes = [max(int(c.builtinCode), int(c.deprecatedBuiltinCode)) for c in model.operatorCodes]
    if kind not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = 2 if graph.tensors[chain[0].inputs[0]].type == schema.TensorType.INT8 else 1
        model.operatorCodes.append(code)
        codes.append(kind)
    options = schema.DepthToSpaceOptionsT()
    options.blockSize = block
    fused = schema.OperatorT()
    fused.opcodeIndex = codes.index(kind)
    fused.inputs, fused.outputs = [chain[0].inputs[0]], [chain[-1].outputs[0]]
    fused.builtinOptionsType = schema.BuiltinOptions.DepthToSpaceOptions
    fused.builtinOptions = options
    position = min(i for i, op in enumerate(graph.operators) if op is chain[0])
    graph.operators = [op for op in graph.operators if not any(op is c for c in chain)]
    graph.operators.insert(position, fused)
    source, target = graph.tensors[fused.inputs[0]], graph.tensors[fused.outputs[0]]
    target.quantization = source.quantization  # a shuffle keeps the values, so it keeps their scale


def _resized(path: Path, height: int, width: int) -> Any:
    """An interpreter of plain kernels at another size (NHWC), or None where the graph holds its size."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=plain)
    inputs = interpreter.get_input_details()[0]
    try:
        interpreter.resize_tensor_input(inputs["index"], [1, height, width, int(inputs["shape"][3])])
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError):
        return None
    return interpreter


def is_resizable(path: Path, unit: int = 1) -> bool:
    """Whether the NHWC file takes inputs of any size (of that unit): no operator carries a shape as a constant."""
    height, width = 36 * unit, 40 * unit  # networks that pool need some room
    interpreter = _resized(path, height, width)
    if interpreter is None:
        return False
    outputs = interpreter.get_output_details()[0]["shape"]
    return bool(len(outputs) == 4 and outputs[1] % height == 0 and outputs[2] == outputs[1] // height * width)


def resize_input(path: Path, height: int, width: int, unit: int = 1) -> bool:
    """Write another input size (height, width) into the NHWC file, where its graph allows.

    Returns:
        False, with the file untouched, when the graph holds constants that fix its size.
    """
    interpreter = _resized(path, height, width) if is_resizable(path, unit) else None
    if interpreter is None:
        return False
    sizes = {d["index"]: d["shape"] for d in interpreter.get_tensor_details()}
    model = load(path)
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if model.buffers[tensor.buffer].data is None and index in sizes:
            tensor.shape = np.asarray(sizes[index], np.int32)
    save(model, path)
    return True


def write_card(path: Path, text: str) -> None:
    """Put a text into the file's metadata, in place of an earlier one."""
    schema = _schema()
    model = load(path)
    kept = []
    for entry in model.metadata or []:
        if _name(entry) == _CARD:
            model.buffers[entry.buffer].data = None  # the old text; an empty buffer is dropped when the file is read
        else:
            kept.append(entry)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    entry.name, entry.buffer = _CARD, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*kept, entry]
    save(model, path)


def read_card(path: Path) -> str | None:
    """The text that :func:`write_card` put there; None without one."""
    model = load(path)
    for entry in model.metadata or []:
        if _name(entry) == _CARD:
            return bytes(model.buffers[entry.buffer].data).decode()
    return None


def _name(entry: Flat) -> str:
    return entry.name.decode() if isinstance(entry.name, bytes) else str(entry.name)
