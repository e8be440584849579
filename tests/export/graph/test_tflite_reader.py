"""TFLite files as graphs: torch computes what LiteRT computes, and the file says what the graph says."""

import functools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export import formats
from export.artifact import ExportSpec
from export.errors import ExportError
from export.graph import tflite as tflite_graphs
from export.graph.ir import Graph
from export.tuning.ranges import grid_of

SIDES = (16, 20)


class Enlarging(nn.Module):
    """Strides, depthwise, gates, a concatenation and a shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.gate = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(16, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = nn.functional.relu6(self.first(x))
        gated = self.deep(first) * torch.sigmoid(self.gate(first.mean((2, 3), keepdim=True)))
        return nn.functional.pixel_shuffle(self.last(torch.cat([gated, first], 1)), 2)


class Classifying(nn.Module):
    """A strided convolution, pooling and a product; its zero biases are one buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)
        nn.init.zeros_(self.first.bias if self.first.bias is not None else torch.empty(0))
        nn.init.zeros_(self.second.bias if self.second.bias is not None else torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        return torch.as_tensor(self.head(torch.relu(self.second(x)).mean((2, 3))))


NETWORKS: dict[str, tuple[type[nn.Module], int]] = {"enlarging": (Enlarging, 2), "classifying": (Classifying, 1)}


@pytest.fixture(scope="module")
def made(make_spec: Callable[..., ExportSpec], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """``made(network, dtype)``: its file."""
    folder = tmp_path_factory.mktemp("tflite")

    @functools.cache
    def module(name: str) -> nn.Module:
        torch.manual_seed(1)
        return NETWORKS[name][0]().eval()

    @functools.cache
    def make(name: str, dtype: str) -> Path:
        spec = make_spec(module(name), dtype, NETWORKS[name][1], None, SIDES)
        if name == "classifying":
            spec = replace(spec, card=replace(spec.card, classes=5))
        return formats.write("tflite", spec, folder, f"{name}-{dtype}").path(folder)

    return make


@pytest.fixture(scope="module")
def inputs(picture: Callable[..., Any]) -> Callable[..., Tensor]:
    """``inputs(count)``: images (count, 16, 20, 3)."""
    return lambda count, first=0: torch.from_numpy(np.stack([picture(*SIDES, first + k) for k in range(count)]))


def of_runtime(path: Path, images: Tensor) -> Tensor:
    """LiteRT's outputs, an image at a time; as real numbers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (given,), found = interpreter.get_input_details(), interpreter.get_output_details()[0]
    results = []
    for image in images.split(1):
        x, (scale, zero) = image.numpy(), given["quantization"]
        if given["dtype"] is np.int8:
            x = np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        y, (scale, zero) = interpreter.get_tensor(found["index"]), found["quantization"]
        results.append((y.astype(np.float32) - zero) * scale if found["dtype"] is np.int8 else y)
    return torch.from_numpy(np.concatenate(results))


def decibels(found: Tensor, wanted: Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (found - wanted).square().sum().clamp(min=1e-20)))


def adopted(made: Callable[[str, str], Path], network: str) -> Graph:
    graph = tflite_graphs.read(made(network, "int8"))
    graph.adopt(tflite_graphs.read(made(network, "float32")))
    return graph


@pytest.mark.parametrize("network", NETWORKS)
def test_a_float_file_is_computed_as_litert_computes_it(
    made: Callable[[str, str], Path], inputs: Callable[..., Tensor], network: str
) -> None:
    path = made(network, "float32")
    graph = tflite_graphs.read(path)
    assert (graph.grids, graph.layout) == ({}, "nhwc")
    torch.testing.assert_close(graph.run(inputs(3)), of_runtime(path, inputs(3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_quantized_file_is_computed_as_litert_computes_it(
    made: Callable[[str, str], Path], inputs: Callable[..., Tensor], network: str
) -> None:
    path, images = made(network, "int8"), inputs(6, 10)
    expected = of_runtime(made(network, "float32"), images)
    ours, theirs = (decibels(y, expected) for y in (tflite_graphs.read(path).run(images), of_runtime(path, images)))
    assert ours == pytest.approx(theirs, abs=0.3)
    assert ours > 20


@pytest.mark.parametrize("network", NETWORKS)
def test_a_quantized_file_with_the_float_constants_computes_the_float_network(
    made: Callable[[str, str], Path], inputs: Callable[..., Tensor], network: str
) -> None:
    expected = of_runtime(made(network, "float32"), inputs(2))
    graph = adopted(made, network)
    torch.testing.assert_close(graph.run(inputs(2), quantized=False), expected, rtol=1e-4, atol=1e-4)
    assert len(graph.layers) == (4 if network == "enlarging" else 3)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_layer_is_a_product_of_rows_and_patches(
    made: Callable[[str, str], Path], inputs: Callable[..., Tensor], network: str
) -> None:
    graph = tflite_graphs.read(made(network, "float32"))
    values: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {graph.input: inputs(2)}
    for op in graph.walk(values, inputs(2), quantized=False):
        kept[op.output] = values[op.output]
        if op.linear is None:
            continue
        weight, x = graph.constants[op.linear.weight], kept[op.inputs[0]]
        rows = op.linear.rows(weight)
        torch.testing.assert_close(op.linear.weight_of(rows), weight)
        exact = op.linear.outputs(op.linear.apply(x, weight, None))
        torch.testing.assert_close(rows @ op.linear.patches(x), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_reading_and_writing_changes_no_bit(
    made: Callable[[str, str], Path], inputs: Callable[..., Tensor], network: str, tmp_path: Path
) -> None:
    path = Path(shutil.copy(made(network, "int8"), tmp_path))
    tflite_graphs.write(tflite_graphs.read(path), path)
    assert torch.equal(of_runtime(path, inputs(2)), of_runtime(made(network, "int8"), inputs(2)))


@pytest.mark.parametrize("network", NETWORKS)
def test_the_file_follows_the_graph(
    made: Callable[[str, str], Path], inputs: Callable[..., Tensor], network: str, tmp_path: Path
) -> None:
    path = Path(shutil.copy(made(network, "int8"), tmp_path))
    graph, images = adopted(made, network), inputs(4)
    exact, before = graph.run(images, quantized=False), graph.run(images)
    for number, layer in enumerate(graph.layers):
        graph.grids[layer.weight].scale = graph.grids[layer.weight].scale * 1.6
        graph.constants[layer.weight] = graph.constants[layer.weight] * 1.05
        assert layer.bias is not None
        graph.constants[layer.bias] = graph.constants[layer.bias] + 0.02 * (number + 1)
    for grid in graph.activations():
        if not grid.fixed:
            low, high = grid.range
            made_grid = grid_of(low * 0.9, high * 0.8, grid)
            grid.scale, grid.zero = made_grid.scale, made_grid.zero
    after = graph.run(images)
    tflite_graphs.write(graph, path)
    found = of_runtime(path, images)
    assert decibels(found, after) > decibels(before, after) + 10
    assert decibels(found, exact) == pytest.approx(decibels(after, exact), abs=0.3)
    assert decibels(tflite_graphs.read(path).run(images), after) > 40


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_images_of_a_batch_do_not_meet(
    made: Callable[[str, str], Path], inputs: Callable[..., Tensor], network: str, dtype: str
) -> None:
    graph = tflite_graphs.read(made(network, dtype))
    alone = torch.cat([graph.run(image) for image in inputs(3).split(1)])
    assert decibels(graph.run(inputs(3)), alone) > 40


def test_the_grid_of_a_sigmoid_is_prescribed(made: Callable[[str, str], Path]) -> None:
    graph = tflite_graphs.read(made("enlarging", "int8"))
    fixed = [grid for grid in graph.activations() if grid.fixed]
    assert [float(grid.scale) for grid in fixed] == [1 / 256]


def test_constants_of_one_buffer_part_when_they_become_unlike(
    made: Callable[[str, str], Path], inputs: Callable[..., Tensor], tmp_path: Path
) -> None:
    from export import tflite_graph

    path = Path(shutil.copy(made("classifying", "int8"), tmp_path))
    model, layers = tflite_graph.load(path), tflite_graphs.read(path).layers
    first, second = (model.subgraphs[0].tensors[int(str(layer.bias)[1:])] for layer in layers[:2])
    assert bytes(model.buffers[first.buffer].data) == bytes(model.buffers[second.buffer].data)
    second.buffer = first.buffer
    tflite_graph.save(model, path)
    graph = tflite_graphs.read(path)
    for number, layer in enumerate(graph.layers[:2]):
        graph.constants[str(layer.bias)] = graph.constants[str(layer.bias)] + 0.1 + number
    tflite_graphs.write(graph, path)
    assert decibels(of_runtime(path, inputs(2)), graph.run(inputs(2))) > 35


# Files of one operator, made by hand.


def save(
    path: Path, kind: str, inputs: Sequence[Any], options: dict[str, Any], shape: Sequence[int], outputs: int = 1
) -> Path:
    """A file with one operator; inputs are ``None`` for the image, or constants."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model, graph, op = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 2 if kind == "BROADCAST_TO" else 1
    model.operatorCodes = [code]
    graph.tensors, graph.operators, graph.name = [], [op], "main"

    def tensor(values: NDArray[Any] | None, sides: Sequence[int]) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = f"t{len(graph.tensors)}", list(sides), 0
        made.type = {"float32": 0, "int32": 2}[str(values.dtype) if values is not None else "float32"]
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    op.inputs = [tensor(v, shape if v is None else v.shape) for v in inputs]
    op.outputs = [tensor(None, []) for _ in range(outputs)]
    graph.inputs, graph.outputs = [op.inputs[[v is None for v in inputs].index(True)]], op.outputs[-1:]
    name = options.pop("name", None)
    if name is not None:
        op.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        op.builtinOptions = getattr(schema, f"{name}T")()
        for key, value in options.items():
            setattr(op.builtinOptions, key, value)
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return path


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def ints(*values: Any) -> NDArray[np.int32]:
    return np.array(values, np.int32)


X = None
CONV = {"name": "Conv2DOptions", "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
DEPTHWISE = CONV | {"name": "DepthwiseConv2DOptions", "depthMultiplier": 1}
POOL = {"name": "Pool2DOptions", "strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 2}
STRIDED = {"name": "StridedSliceOptions", "beginMask": 0, "endMask": 0, "shrinkAxisMask": 0}
SINGLE: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "ABS": ([X], {"name": "AbsOptions"}),
    "ADD": ([X, numbers(1, 1, 1, 4)], {"name": "AddOptions", "fusedActivationFunction": 1}),
    "AVERAGE_POOL_2D": ([X], POOL),
    "AVERAGE_POOL_2D valid": ([X], POOL | {"padding": 1}),
    "BATCH_MATMUL": ([X, numbers(6, 4, 5)], {"name": "BatchMatMulOptions"}),
    "BATCH_MATMUL turned": ([X, numbers(6, 8, 5)], {"name": "BatchMatMulOptions", "adjX": True}),
    "BATCH_MATMUL turned too": ([X, numbers(6, 5, 4)], {"name": "BatchMatMulOptions", "adjY": True}),
    "BROADCAST_TO": ([X, ints(1, 6, 8, 4)], {"name": "BroadcastToOptions"}),
    "CONCATENATION": ([numbers(1, 6, 8, 2), X], {"name": "ConcatenationOptions", "axis": 3}),
    "CONCATENATION second": ([X, numbers(1, 6, 1, 4)], {"name": "ConcatenationOptions", "axis": -2}),
    "CONV_2D": ([X, numbers(5, 3, 3, 4), numbers(5)], CONV | {"strideH": 2, "strideW": 2}),
    "CONV_2D odd": ([X, numbers(5, 2, 3, 4), numbers(5)], CONV | {"strideH": 2, "fusedActivationFunction": 3}),
    "CONV_2D valid": ([X, numbers(5, 3, 2, 4), numbers(5)], CONV | {"padding": 1, "dilationHFactor": 2}),
    "DEPTHWISE_CONV_2D": ([X, numbers(1, 3, 3, 4), numbers(4)], DEPTHWISE | {"strideH": 2, "strideW": 2}),
    "DEPTHWISE_CONV_2D twice": ([X, numbers(1, 3, 2, 8), numbers(8)], DEPTHWISE | {"depthMultiplier": 2}),
    "DEPTH_TO_SPACE": ([X], {"name": "DepthToSpaceOptions", "blockSize": 2}),
    "DIV": ([X, np.float32(3) * np.ones(1, np.float32)], {"name": "DivOptions"}),
    "ELU": ([X], {}),
    "EXP": ([X], {"name": "ExpOptions"}),
    "EXPAND_DIMS": ([X, ints(2)], {"name": "ExpandDimsOptions"}),
    "FLOOR": ([X], {}),
    "FULLY_CONNECTED": ([X, numbers(5, 4), numbers(5)], {"name": "FullyConnectedOptions", "keepNumDims": True}),
    "FULLY_CONNECTED flat": ([X, numbers(5, 192), numbers(5)], {"name": "FullyConnectedOptions"}),
    "FULLY_CONNECTED rows": ([X, numbers(5, 4), numbers(5)], {"name": "FullyConnectedOptions"}),
    "GATHER": ([X, ints(3, 0)], {"name": "GatherOptions", "axis": 2}),
    "GATHER last": ([X, ints([3, 0], [1, 1])], {"name": "GatherOptions", "axis": -1}),
    "GELU": ([X], {"name": "GeluOptions"}),
    "GELU tanh": ([X], {"name": "GeluOptions", "approximate": True}),
    "HARD_SWISH": ([X], {"name": "HardSwishOptions"}),
    "LEAKY_RELU": ([X], {"name": "LeakyReluOptions", "alpha": 0.2}),
    "LOGISTIC": ([X], {}),
    "MAXIMUM": ([X, numbers(1, 1, 1, 4)], {"name": "MaximumMinimumOptions"}),
    "MAX_POOL_2D": ([X], POOL),
    "MAX_POOL_2D valid": ([X], POOL | {"padding": 1}),
    "MEAN": ([X, ints(1, 2)], {"name": "ReducerOptions", "keepDims": True}),
    "MEAN dropped": ([X, ints(-1)], {"name": "ReducerOptions"}),
    "MINIMUM": ([X, numbers(1, 1, 1, 4)], {"name": "MaximumMinimumOptions"}),
    "MUL": ([X, numbers(1, 1, 1, 4)], {"name": "MulOptions"}),
    "NEG": ([X], {"name": "NegOptions"}),
    "PACK": ([X, numbers(1, 6, 8, 4)], {"name": "PackOptions", "axis": 1, "valuesCount": 2}),
    "MIRROR_PAD": ([X, ints([0, 0], [1, 2], [2, 1], [0, 1])], {"name": "MirrorPadOptions"}),
    "MIRROR_PAD symmetric": ([X, ints([0, 0], [1, 3], [2, 0], [1, 0])], {"name": "MirrorPadOptions", "mode": 1}),
    "PAD": ([X, ints([0, 0], [1, 2], [0, 3], [0, 1])], {"name": "PadOptions"}),
    "PADV2": ([X, ints([0, 0], [1, 2], [0, 3], [0, 1]), numbers(1)], {"name": "PadV2Options"}),
    "PRELU": ([X, numbers(1, 1, 4)], {}),
    "REDUCE_MAX": ([X, ints(1, 2)], {"name": "ReducerOptions"}),
    "RELU": ([X], {}),
    "RELU6": ([X], {}),
    "RELU_0_TO_1": ([X], {}),
    "RELU_N1_TO_1": ([X], {}),
    "RESHAPE": ([X, ints(1, 4, 48)], {"name": "ReshapeOptions"}),
    "RESHAPE windows": ([X, ints(12, 4, 4)], {"name": "ReshapeOptions"}),
    "RESHAPE open": ([X, ints(-1, 48)], {"name": "ReshapeOptions"}),
    "RESHAPE rest": ([X, ints(1, -1, 4)], {"name": "ReshapeOptions"}),
    "RESIZE_BILINEAR": ([X, ints(9, 13)], {"name": "ResizeBilinearOptions", "halfPixelCenters": True}),
    "RESIZE_BILINEAR corners": ([X, ints(9, 13)], {"name": "ResizeBilinearOptions", "alignCorners": True}),
    "RESIZE_NEAREST_NEIGHBOR": ([X, ints(9, 13)], {"name": "ResizeNearestNeighborOptions"}),
    "RESIZE_NEAREST_NEIGHBOR half": (
        [X, ints(9, 13)],
        {"name": "ResizeNearestNeighborOptions", "halfPixelCenters": True},
    ),
    "SLICE": ([X, ints(0, 1, 2, 0), ints(1, 3, -1, 4)], {"name": "SliceOptions"}),
    "SOFTMAX": ([X], {"name": "SoftmaxOptions", "beta": 0.7}),
    "SPACE_TO_DEPTH": ([X], {"name": "SpaceToDepthOptions", "blockSize": 2}),
    "SPLIT": ([ints(3).reshape(()), X], {"name": "SplitOptions", "numSplits": 2}),
    "SQUARE": ([X], {"name": "SquareOptions"}),
    "SQUARED_DIFFERENCE": ([X, numbers(1, 1, 1, 4)], {"name": "SquaredDifferenceOptions"}),
    "STRIDED_SLICE": ([X, ints(0, 1, 7, 0), ints(1, -1, 1, 4), ints(1, 2, -2, 1)], STRIDED),
    "STRIDED_SLICE masks": (
        [X, ints(0, 1, 2, -1), ints(0, 0, 0, 0), ints(1, 1, -1, 1)],
        STRIDED | {"beginMask": 0b0101, "endMask": 0b0111, "shrinkAxisMask": 0b1000},
    ),
    "SUB": ([numbers(1, 1, 1, 4), X], {"name": "SubOptions"}),
    "SUM": ([X, ints(2)], {"name": "ReducerOptions", "keepDims": True}),
    "TANH": ([X], {}),
    "TILE": ([X, ints(1, 2, 1, 3)], {"name": "TileOptions"}),
    "TRANSPOSE": ([X, ints(0, 3, 1, 2)], {"name": "TransposeOptions"}),
    "UNPACK": ([X], {"name": "UnpackOptions", "axis": 2, "num": 8}),
}
PARTS = {"SPLIT": 2, "UNPACK": 8}


@pytest.mark.parametrize("case", SINGLE)
def test_an_operator_computes_what_litert_computes(case: str, tmp_path: Path) -> None:
    kind, (inputs, options) = case.split()[0], SINGLE[case]
    path = save(tmp_path / "one.tflite", kind, inputs, dict(options), (1, 6, 8, 4), PARTS.get(kind, 1))
    images = torch.from_numpy(numbers(3, 6, 8, 4, seed=9))
    alone = [of_runtime(path, image) for image in images.split(1)]
    graph = tflite_graphs.read(path)
    graph.output = graph.ops[-1].output
    for image, expected in zip(images.split(1), alone, strict=True):
        torch.testing.assert_close(graph.run(image), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(graph.run(images), torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "inputs", "options"),
    [
        ("CONCATENATION", [X, X], {"name": "ConcatenationOptions", "axis": 1, "fusedActivationFunction": 1}),
        ("CUMSUM", [X, ints(1).reshape(())], {"name": "CumsumOptions"}),
        ("RESIZE_BILINEAR", [X, ints(9, 13)], {"name": "ResizeBilinearOptions"}),
        ("RESIZE_NEAREST_NEIGHBOR", [X, ints(9, 13)], {"name": "ResizeNearestNeighborOptions", "alignCorners": True}),
    ],
)
def test_an_operator_that_is_not_known_is_named(
    kind: str, inputs: list[Any], options: dict[str, Any], tmp_path: Path
) -> None:
    path = save(tmp_path / "unknown.tflite", kind, inputs, dict(options), (1, 6, 8, 4))
    with pytest.raises(ExportError, match=f"operator {kind} cannot be tuned"):
        tflite_graphs.read(path)
