"""ONNX files as graphs: torch computes what onnxruntime computes, and the file says what the graph says."""

import functools
import shutil
from collections.abc import Callable, Sequence
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
from export.graph import onnx as onnx_graph
from export.graph.ir import Graph
from export.tuning.ranges import grid_of

SIDES = (16, 20)


class Enlarging(nn.Module):
    """Groups, strides, clips, gates, pooling, interpolation and a concatenation; of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.slope = nn.PReLU(8)
        self.last = nn.Conv2d(16, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = nn.functional.relu6(self.first(x - 0.45))
        low = nn.functional.max_pool2d(torch.relu(self.down(first)), 3, 1, 1)
        back = nn.functional.interpolate(low, size=first.shape[2:], mode="bilinear")
        gated = self.slope(self.deep(first)) * torch.sigmoid(back)
        return nn.functional.pixel_shuffle(self.last(torch.cat([gated, first], 1)), 2)


class Attending(nn.Module):
    """One block of a transformer and a classifier; of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.norm = nn.LayerNorm(16)
        self.qkv, self.mix = nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        count, length, _ = tokens.shape
        q, k, v = self.qkv(self.norm(tokens)).reshape(count, length, 3, 2, 8).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1) @ v
        tokens = tokens + nn.functional.gelu(self.mix(mixed.transpose(1, 2).reshape(count, length, 16)))
        return torch.as_tensor(self.head(tokens[:, 0]))


class Repeating(nn.Module):
    """One convolution twice, as CARN-M has it: its bias is stored once for each use."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.body = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(torch.relu(self.body(torch.relu(self.body(self.first(x)))))))


NETWORKS: dict[str, tuple[type[nn.Module], int]] = {
    "enlarging": (Enlarging, 2),
    "attending": (Attending, 1),
    "repeating": (Repeating, 1),
}


@pytest.fixture(scope="module")
def made(
    make_spec: Callable[..., ExportSpec], inputs: Callable[..., Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """``made(network)``: the preprocessed float file and the int8 file that onnxruntime makes of it."""

    @functools.cache
    def make(name: str) -> tuple[Path, Path]:
        kind, scale = NETWORKS[name]
        torch.manual_seed(1)
        folder = tmp_path_factory.mktemp(name)
        spec = make_spec(kind().eval(), "float32", scale, None if name == "attending" else 4, SIDES)
        path = formats.write("onnx", spec, folder, "float").path(folder)
        return quantized(path, inputs(4))

    return make


def quantized(path: Path, images: Tensor) -> tuple[Path, Path]:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(images.split(1))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image.numpy()}

    ready, result = path.with_name("ready.onnx"), path.with_name("int8.onnx")
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    types = {"activation_type": quantization.QuantType.QUInt8, "weight_type": quantization.QuantType.QInt8}
    quantization.quantize_static(str(ready), str(result), Reader(), per_channel=True, **types)
    return ready, result


@pytest.fixture(scope="module")
def inputs(picture: Callable[..., Any]) -> Callable[..., Tensor]:
    """``inputs(count)``: images (count, 3, 16, 20)."""
    return lambda count, first=0: torch.from_numpy(
        np.stack([picture(*SIDES, first + k).transpose(2, 0, 1) for k in range(count)])
    )


def of_runtime(path: Path, images: Tensor, plainly: bool = False) -> Tensor:
    """Onnxruntime's outputs, an image at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if plainly:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return torch.cat([torch.from_numpy(session.run(None, {name: x.numpy()})[0]) for x in images.split(1)])


def decibels(found: Tensor, wanted: Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (found - wanted).square().sum().clamp(min=1e-20)))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_float_file_is_computed_as_onnxruntime_computes_it(
    made: Callable[..., tuple[Path, Path]], inputs: Callable[..., Tensor], network: str
) -> None:
    images = inputs(3)
    expected = of_runtime(made(network)[0], images)
    graph = onnx_graph.read(made(network)[0])
    assert not graph.grids
    assert graph.layout == "nchw"
    torch.testing.assert_close(graph.run(images), expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_quantized_file_is_computed_as_onnxruntime_computes_it(
    made: Callable[..., tuple[Path, Path]], inputs: Callable[..., Tensor], network: str
) -> None:
    images = inputs(6, 10)
    plain, path = made(network)
    expected = of_runtime(plain, images)
    ours = decibels(onnx_graph.read(path).run(images), expected)
    assert ours == pytest.approx(decibels(of_runtime(path, images, plainly=True), expected), abs=0.3)
    assert ours == pytest.approx(decibels(of_runtime(path, images), expected), abs=0.6)
    assert ours > 15


@pytest.mark.parametrize("network", NETWORKS)
def test_a_quantized_file_with_the_float_constants_computes_the_float_network(
    made: Callable[..., tuple[Path, Path]], inputs: Callable[..., Tensor], network: str
) -> None:
    plain, path = made(network)
    graph = adopted(made(network))
    expected = of_runtime(plain, inputs(2))
    found = graph.run(inputs(2), quantized=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))
    ours, theirs = (decibels(g.run(inputs(2)), expected) for g in (graph, onnx_graph.read(path)))
    assert ours == pytest.approx(theirs, abs=0.5)


def adopted(files: tuple[Path, Path]) -> Graph:
    graph = onnx_graph.read(files[1])
    graph.adopt(onnx_graph.read(files[0]))
    return graph


def test_layers_are_found_with_their_weights_and_grids(made: Callable[..., tuple[Path, Path]]) -> None:
    graph = onnx_graph.read(made("enlarging")[1])
    assert len(graph.layers) == 4
    assert len(onnx_graph.read(made("attending")[1]).layers) == 4
    assert len(onnx_graph.read(made("repeating")[1]).layers) == 3  # one is used twice
    for layer in graph.layers:
        grid = graph.grids[layer.weight]
        assert (grid.low, grid.high, grid.axis) == (-127, 127, 0)
        assert grid.scale.shape == (graph.constants[layer.weight].shape[0],)
    assert {(grid.low, grid.high) for grid in graph.activations()} == {(0, 255)}
    pooled = next(op for op in graph.ops if op.kind == "MaxPool")
    assert graph.grids[pooled.output] is graph.grids[pooled.inputs[0]]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_layer_is_a_product_of_rows_and_patches(
    made: Callable[..., tuple[Path, Path]], inputs: Callable[..., Tensor], network: str
) -> None:
    graph = onnx_graph.read(made(network)[0])
    values: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {graph.input: inputs(2)}
    seen = 0
    for op in graph.walk(values, inputs(2), quantized=False):
        kept[op.output] = values[op.output]
        if op.linear is None:
            continue
        seen += 1
        weight, x = graph.constants[op.linear.weight], kept[op.inputs[0]]
        rows = op.linear.rows(weight)
        torch.testing.assert_close(op.linear.weight_of(rows), weight)
        assert rows.shape[0] * rows.shape[1] == weight.shape[op.linear.axis]
        exact = op.linear.outputs(op.linear.apply(x, weight, None))
        torch.testing.assert_close(rows @ op.linear.patches(x), exact, rtol=1e-4, atol=1e-4)
    assert seen == 4


@pytest.mark.parametrize("network", NETWORKS)
def test_reading_and_writing_changes_no_bit(
    made: Callable[..., tuple[Path, Path]], inputs: Callable[..., Tensor], network: str, tmp_path: Path
) -> None:
    path = Path(shutil.copy(made(network)[1], tmp_path))
    onnx_graph.write(onnx_graph.read(path), path)
    assert torch.equal(of_runtime(path, inputs(2)), of_runtime(made(network)[1], inputs(2)))


@pytest.mark.parametrize("network", NETWORKS)
def test_the_file_follows_the_graph(
    made: Callable[..., tuple[Path, Path]], inputs: Callable[..., Tensor], network: str, tmp_path: Path
) -> None:
    path = Path(shutil.copy(made(network)[1], tmp_path))
    graph, images = adopted(made(network)), inputs(4)
    exact = graph.run(images, quantized=False)
    before = graph.run(images)
    for op in graph.ops:
        if op.linear is not None and op.linear.weight in graph.grids:
            scale = graph.grids[op.linear.weight].scale
            graph.grids[op.linear.weight].scale = scale * 1.6
            graph.constants[op.linear.weight] = graph.constants[op.linear.weight] * 1.05
            if op.linear.bias is not None:
                graph.constants[op.linear.bias] = graph.constants[op.linear.bias] + 0.02
    for grid in graph.activations():
        low, high = grid.range
        made_grid = grid_of(low * 0.9, high * 0.8, grid)
        grid.scale, grid.zero = made_grid.scale, made_grid.zero
    after = graph.run(images)
    onnx_graph.write(graph, path)
    found = of_runtime(path, images, plainly=True)
    assert decibels(found, after) > decibels(before, after) + 10
    assert decibels(found, exact) == pytest.approx(decibels(after, exact), abs=0.3)
    again = onnx_graph.read(path)
    assert decibels(again.run(images), after) > 40


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_images_of_a_batch_do_not_meet(
    made: Callable[..., tuple[Path, Path]], inputs: Callable[..., Tensor], network: str, dtype: str
) -> None:
    graph = onnx_graph.read(made(network)[dtype == "int8"])
    images = inputs(3)
    alone = torch.cat([graph.run(image) for image in images.split(1)])
    if dtype == "int8":
        assert decibels(graph.run(images), alone) > 40
    else:
        torch.testing.assert_close(graph.run(images), alone, rtol=1e-4, atol=1e-5)


def test_a_file_of_any_size_runs_at_any_size(
    made: Callable[..., tuple[Path, Path]], picture: Callable[..., Any]
) -> None:
    images = torch.from_numpy(np.stack([picture(24, 18, k).transpose(2, 0, 1) for k in range(2)]))
    torch.testing.assert_close(
        onnx_graph.read(made("enlarging")[0]).run(images), of_runtime(made("enlarging")[0], images)
    )


def test_activations_that_were_left_out_come_back_where_the_grid_does_not_clip(
    made: Callable[..., tuple[Path, Path]], inputs: Callable[..., Tensor], tmp_path: Path
) -> None:
    def count(path: Path) -> int:
        return sum(n for kind, n in formats.by_name("onnx").operators(path).items() if kind in ("Relu", "Clip"))

    path = Path(shutil.copy(made("enlarging")[1], tmp_path))
    graph, images = adopted(made("enlarging")), inputs(2)
    assert sum(op.kind in ("Relu", "Clip") for op in graph.ops) == 2
    onnx_graph.write(graph, path)
    before = count(path)
    for grid in graph.activations():
        low, high = grid.range
        symmetric = grid_of(low, high, grid, "symmetric")
        grid.scale, grid.zero = symmetric.scale, symmetric.zero
    onnx_graph.write(graph, path)
    assert (before, count(path)) == (0, 2)
    assert decibels(of_runtime(path, images, plainly=True), graph.run(images)) > 35
    assert decibels(onnx_graph.read(path).run(images), graph.run(images)) > 35
    onnx_graph.write(graph, path)
    assert count(path) == 2


def test_the_result_loads_in_openvino(
    made: Callable[..., tuple[Path, Path]], inputs: Callable[..., Tensor], tmp_path: Path
) -> None:
    import openvino

    path = Path(shutil.copy(made("enlarging")[1], tmp_path))
    graph = adopted(made("enlarging"))
    for grid in graph.activations():
        grid.scale = grid.scale * 1.1
    onnx_graph.write(graph, path)
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": 1})
    found = torch.from_numpy(compiled([inputs(1).numpy()])[0])
    assert decibels(found, graph.run(inputs(1))) > 25


def test_the_float_file_of_another_network_is_refused(made: Callable[..., tuple[Path, Path]]) -> None:
    with pytest.raises(ExportError, match="no constant"):
        onnx_graph.read(made("repeating")[1]).adopt(onnx_graph.read(made("enlarging")[0]))


# Files made by hand: one operator, or one way to place Q and DQ.


def save(path: Path, nodes: Sequence[Any], constants: dict[str, Any], shape: Sequence[int], opset: int = 18) -> Path:
    """A file from ``x`` to ``y``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    known = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape)),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph(list(nodes), "made by hand", ends[:1], ends[1:], known)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), str(path))
    return path


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


f = np.float32
SINGLE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Abs": ("x", {}, {}),
    "Add": ("x c", {"c": numbers(1, 4, 1, 1)}, {}),
    "AveragePool": ("x", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "AveragePool all": ("x", {}, {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    "AveragePool ceil": ("x", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "BatchNormalization": ("x a b c d", {k: np.abs(numbers(4, seed=i)) for i, k in enumerate("abcd")}, {}),
    "Cast": ("x", {}, {"to": 1}),
    "Ceil": ("x", {}, {}),
    "Clip": ("x low high", {"low": f(-0.5), "high": f(0.7)}, {}),
    "Clip high": ("x  high", {"high": f(0.7)}, {}),
    "Concat": ("x c", {"c": numbers(1, 2, 6, 8)}, {"axis": 1}),
    "Conv": ("x w b", {"w": numbers(6, 4, 3, 3), "b": numbers(6)}, {"pads": [0, 1, 2, 1], "strides": [2, 1]}),
    "Conv depthwise": ("x w", {"w": numbers(8, 1, 3, 3)}, {"group": 4, "dilations": [2, 1]}),
    "Conv upper": ("x w", {"w": numbers(4, 4, 3, 3)}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "Conv lower": ("x w", {"w": numbers(4, 4, 3, 3)}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "ConvTranspose": ("x w b", {"w": numbers(4, 3, 3, 3), "b": numbers(3)}, {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
    "DepthToSpace": ("x", {}, {"blocksize": 2}),
    "DepthToSpace CRD": ("x", {}, {"blocksize": 2, "mode": "CRD"}),
    "Div": ("x c", {"c": f(3.0)}, {}),
    "Elu": ("x", {}, {"alpha": 0.7}),
    "Erf": ("x", {}, {}),
    "Exp": ("x", {}, {}),
    "Expand": ("x s", {"s": ints(1, 4, 6, 8)}, {}),
    "Flatten": ("x", {}, {}),
    "Floor": ("x", {}, {}),
    "Gather": ("x i", {"i": ints(3, -1, 0)}, {"axis": 1}),
    "Gather one": ("x i", {"i": np.int64(2)}, {"axis": 2}),
    "GlobalAveragePool": ("x", {}, {}),
    "GlobalMaxPool": ("x", {}, {}),
    "HardSigmoid": ("x", {}, {"alpha": 0.3}),
    "HardSwish": ("x", {}, {}),
    "Identity": ("x", {}, {}),
    "InstanceNormalization": ("x a b", {"a": numbers(4), "b": numbers(4, seed=1)}, {}),
    "LayerNormalization": ("x a b", {"a": numbers(8), "b": numbers(8, seed=1)}, {}),
    "LayerNormalization 3": ("x a", {"a": numbers(4, 6, 8)}, {"axis": 1}),
    "LeakyRelu": ("x", {}, {"alpha": 0.2}),
    "LogSoftmax": ("x", {}, {"axis": 1}),
    "MatMul": ("x w", {"w": numbers(8, 5)}, {}),
    "MatMul batch": ("x w", {"w": numbers(4, 8, 5)}, {}),
    "Max": ("x c d", {"c": f(0.1), "d": numbers(1, 4, 1, 1)}, {}),
    "MaxPool": ("x", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "MaxPool same": ("x", {}, {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "MaxPool ceil": ("x", {}, {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1, "dilations": [1, 2]}),
    "Min": ("x c", {"c": f(0.1)}, {}),
    "Mul": ("x c", {"c": numbers(1, 4, 1, 1)}, {}),
    "Neg": ("x", {}, {}),
    "PRelu": ("x c", {"c": numbers(4, 1, 1)}, {}),
    "Pad": ("x p c", {"p": ints(0, 0, 1, 2, 0, 1, 0, 3), "c": f(0.5)}, {}),
    "Pad axes": ("x p c a", {"p": ints(1, 2), "c": f(0.5), "a": ints(-2)}, {}),
    "Pad reflect": ("x p", {"p": ints(0, 0, 1, 2, 0, 0, 3, 2)}, {"mode": "reflect"}),
    "Pad edge": ("x p", {"p": ints(0, 0, 1, 2, 0, 0, 3, 2)}, {"mode": "edge"}),
    "Pow": ("x c", {"c": f(2.0)}, {}),
    "Reciprocal": ("x", {}, {}),
    "ReduceL2": ("x a", {"a": ints(1)}, {}),
    "ReduceMax": ("x a", {"a": ints(1, 3)}, {"keepdims": 0}),
    "ReduceMean": ("x a", {"a": ints(2, 3)}, {}),
    "ReduceMin": ("x a", {"a": ints(-1)}, {}),
    "ReduceSum": ("x a", {"a": ints(2)}, {}),
    "Relu": ("x", {}, {}),
    "Reshape": ("x s", {"s": ints(1, 2, 2, 48)}, {}),
    "Reshape copy": ("x s", {"s": ints(0, -1, 8)}, {}),
    "Reshape open": ("x s", {"s": ints(1, -1, 8)}, {}),
    "Reshape windows": ("x s", {"s": ints(8, -1, 8)}, {}),
    "Resize nearest": ("x  s", {"s": np.array([1, 1, 2, 2], f)}, {"coordinate_transformation_mode": "asymmetric"}),
    "Resize linear": ("x   s", {"s": ints(1, 4, 9, 13)}, {"mode": "linear"}),
    "Resize corners": ("x   s", {"s": ints(1, 4, 9, 13)}, {"mode": "linear"}),
    "Resize down": ("x  s", {"s": np.array([1, 1, 0.5, 0.7], f)}, {"mode": "linear"}),
    "Resize cubic": ("x  s", {"s": np.array([1, 1, 2, 1.5], f)}, {"mode": "cubic"}),
    "Sigmoid": ("x", {}, {}),
    "Sign": ("x", {}, {}),
    "Slice": ("x a b c d", {"a": ints(1, -6), "b": ints(99, -1), "c": ints(1, 3), "d": ints(1, 2)}, {}),
    "Slice back": ("x a b c d", {"a": ints(-1), "b": ints(-99), "c": ints(2), "d": ints(-1)}, {}),
    "Slice all": ("x a b", {"a": ints(0, 1), "b": ints(1, 3)}, {}),
    "Softmax": ("x", {}, {"axis": 1}),
    "Softplus": ("x", {}, {}),
    "SpaceToDepth": ("x", {}, {"blocksize": 2}),
    "Sqrt": ("p", {}, {}),
    "Squeeze": ("one a", {"a": ints(1)}, {}),
    "Sub": ("c x", {"c": f(0.3)}, {}),
    "Tanh": ("x", {}, {}),
    "Tile": ("x t", {"t": ints(1, 2, 1, 3)}, {}),
    "Transpose": ("x", {}, {"perm": [0, 2, 3, 1]}),
    "Unsqueeze": ("x a", {"a": ints(1, -1)}, {}),
}
SINGLE["Resize nearest"][2]["nearest_mode"] = "floor"
SINGLE["Resize corners"][2]["coordinate_transformation_mode"] = "align_corners"


@pytest.mark.parametrize("case", SINGLE)
def test_an_operator_computes_what_onnxruntime_computes(case: str, tmp_path: Path) -> None:
    text, constants, attributes = SINGLE[case]
    kind = case.split()[0]
    first = {"p": [node("Abs", "x", "p")], "one": [node("ReduceMax", "x axis", "one")]}
    from onnx import helper

    names = text.split(" ")  # two spaces: an input that is left out
    made = [*first.get(names[0], []), helper.make_node(kind, names, ["y"], **attributes)]
    extra = {"axis": ints(1)} if names[0] == "one" else {}
    path = save(tmp_path / "one.onnx", made, constants | extra, (1, 4, 6, 8))
    images = torch.from_numpy(numbers(3, 4, 6, 8, seed=9))
    alone = [of_runtime(path, image) for image in images.split(1)]
    graph = onnx_graph.read(path)
    for image, expected in zip(images.split(1), alone, strict=True):
        torch.testing.assert_close(graph.run(image), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(graph.run(images), torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Split", "x", "a b c", axis=3, num_outputs=3), node("Concat", "c a b", axis=3)], {}),
        ([node("Split", "x n", "a b", axis=2), node("Concat", "b a", axis=2)], {"n": ints(1, 5)}),
        ([node("TopK", "x k", "v i", axis=1), node("Cast", "i", "g", to=1), node("Add", "v g")], {"k": ints(2)}),
        ([node("Equal", "x z", "e"), node("Where", "e c x")], {"z": f(0.0), "c": f(2.0)}),
        ([node("Less", "x z", "e"), node("Not", "e", "n"), node("Where", "n c x")], {"z": f(0.0), "c": f(2.0)}),
        (
            [
                node("Shape", "x", "s"),
                node("Gather", "s two", "h"),
                node("Unsqueeze", "h zero", "u"),
                node("Concat", "one u tail", "t", axis=0),
                node("Reshape", "x t"),
            ],
            {"two": np.int64(2), "zero": ints(0), "one": ints(1), "tail": ints(-1)},
        ),
        (
            [
                node("Shape", "x", "s", start=2, end=3),
                node("ConstantOfShape", "s", "o"),
                node("Squeeze", "s", "n"),
                node("Cast", "n", "end", to=1),
                node("Range", "zero end one", "r"),
                node("Add", "o r", "q"),
                node("Unsqueeze", "q last", "v"),
                node("Mul", "x v"),
            ],
            {"zero": f(0.0), "one": f(1.0), "last": ints(1)},
        ),
        (
            [node("Flatten", "x", "t"), node("Gemm", "t w b", transB=1)],
            {"w": numbers(5, 192), "b": numbers(5)},
        ),
        (
            [node("Flatten", "x", "t"), node("Gemm", "t w b", alpha=0.5, beta=2.0)],
            {"w": numbers(192, 5), "b": numbers(1)},
        ),
        (
            [node("Reshape", "x s", "w"), node("Softmax", "w", "p"), node("Reshape", "p t")],
            {"s": ints(8, 3, 8), "t": ints(1, 4, 6, 8)},
        ),
        (
            [node("Expand", "c s", "t"), node("Concat", "t x", axis=2)],
            {"c": numbers(1, 1, 2, 8), "s": ints(1, 4, 2, 8)},
        ),
    ],
)
def test_operators_of_many_ends_compute_what_onnxruntime_computes(
    nodes: Sequence[Any], constants: dict[str, Any], tmp_path: Path
) -> None:
    path = save(tmp_path / "some.onnx", nodes, constants, (1, 4, 6, 8))
    images = torch.from_numpy(numbers(2, 4, 6, 8, seed=9))
    torch.testing.assert_close(onnx_graph.read(path).run(images), of_runtime(path, images), rtol=1e-4, atol=1e-4)


def test_gelu_of_later_opsets(tmp_path: Path) -> None:
    images = torch.from_numpy(numbers(2, 3))
    for how in ("none", "tanh"):
        path = save(tmp_path / "gelu.onnx", [node("Gelu", "x", approximate=how)], {}, (1, 3), opset=20)
        torch.testing.assert_close(onnx_graph.read(path).run(images), of_runtime(path, images), rtol=1e-4, atol=1e-5)


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "unknown.onnx", [node("Hardmax", "x")], {}, (1, 4))
    with pytest.raises(ExportError, match="operator Hardmax cannot be tuned"):
        onnx_graph.read(path)


@pytest.mark.parametrize("attributes", [{"mode": "cubic", "cubic_coeff_a": -0.5}, {"antialias": 1, "mode": "linear"}])
def test_an_interpolation_that_torch_lacks_is_refused(attributes: dict[str, Any], tmp_path: Path) -> None:
    nodes = [node("Resize", "x s s", **attributes)]
    nodes[0].input[1] = ""
    path = save(tmp_path / "resize.onnx", nodes, {"s": np.array([1, 1, 2, 2], f)}, (1, 4, 6, 8))
    with pytest.raises(ExportError, match="operator Resize"):
        onnx_graph.read(path)


def pair(source: str, scale: str, result: str) -> list[Any]:
    numbers = f"{scale} {scale}_zero"
    return [
        node("QuantizeLinear", f"{source} {numbers}", f"{result}_integers"),
        node("DequantizeLinear", f"{result}_integers {numbers}", result),
    ]


def test_a_tensor_that_is_read_both_ways_is_two(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", "x", "s"), *pair("s", "coarse", "q"), node("Sub", "s q")]
    path = save(tmp_path / "both.onnx", nodes, {"coarse": f(0.1), "coarse_zero": np.uint8(0)}, (1, 4, 6, 8))
    images = torch.from_numpy(numbers(2, 4, 6, 8))
    graph = onnx_graph.read(path)
    assert float(graph.run(images).abs().max()) > 0.04
    torch.testing.assert_close(graph.run(images), of_runtime(path, images))
    assert float(graph.run(images, quantized=False).abs().max()) == 0
    (name,) = graph.grids
    graph.grids[name].scale = torch.tensor(0.05)
    onnx_graph.write(graph, path)
    torch.testing.assert_close(graph.run(images), of_runtime(path, images))


def test_one_initializer_of_two_tensors_is_doubled_when_their_grids_part(tmp_path: Path) -> None:
    nodes = [*pair("x", "s", "a"), node("Neg", "a", "n"), *pair("n", "s", "b"), node("Neg", "b")]
    path = save(tmp_path / "shared.onnx", nodes, {"s": f(0.1), "s_zero": np.int8(0)}, (1, 4, 6, 8))
    graph = onnx_graph.read(path)
    assert graph.grids["x"] is graph.grids["n"]
    assert (graph.grids["x"].low, graph.grids["x"].high) == (-128, 127)
    graph.grids["n"] = grid_of(-3.0, 1.0, graph.grids["x"])
    onnx_graph.write(graph, path)
    images = torch.from_numpy(numbers(2, 4, 6, 8))
    torch.testing.assert_close(graph.run(images), of_runtime(path, images, plainly=True))
    again = onnx_graph.read(path)
    assert float(again.grids["x"].scale) == pytest.approx(0.1)
    assert float(again.grids["n"].scale) == pytest.approx(4 / 255)


def test_tensors_around_a_move_share_their_grid_where_the_numbers_are_equal(tmp_path: Path) -> None:
    move = node("Transpose", "a", "t", perm=[0, 2, 3, 1])
    numbers_ = {"s": f(0.1), "s_zero": np.uint8(9), "r": f(0.1), "r_zero": np.uint8(9)}
    for other in (9, 8):
        constants = numbers_ | {"r_zero": np.uint8(other)}
        nodes = [*pair("x", "s", "a"), move, *pair("t", "r", "b"), node("Relu", "b")]
        graph = onnx_graph.read(save(tmp_path / f"{other}.onnx", nodes, constants, (1, 4, 6, 8)))
        assert (graph.grids["x"] is graph.grids["t"]) == (other == 9)


@pytest.mark.parametrize("kind", ["int16", "uint16"])
def test_grids_of_sixteen_bits(kind: str, tmp_path: Path) -> None:
    constants = {"s": f(0.001), "s_zero": np.array(7, kind)}
    path = save(tmp_path / "wide.onnx", [*pair("x", "s", "a"), node("Neg", "a")], constants, (1, 4, 6, 8), opset=21)
    graph, images = onnx_graph.read(path), torch.from_numpy(numbers(2, 4, 6, 8))
    assert graph.grids["x"].high == np.iinfo(kind).max
    torch.testing.assert_close(graph.run(images), of_runtime(path, images))


def test_weights_of_four_bits_are_read_and_written(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [node("DequantizeLinear", "w_quantized s z", "w", axis=1), node("MatMul", "x w")]
    path = save(tmp_path / "four.onnx", nodes, {"s": np.array([0.1, 0.2], f)}, (1, 3), opset=21)
    model = onnx.load(str(path))
    for name, shape, values in (("w_quantized", [3, 2], [-7, 6, 5, -4, 3, 2]), ("z", [2], [0, 0])):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT4, shape, values))
    onnx.save(model, str(path))
    graph, x = onnx_graph.read(path), torch.from_numpy(numbers(2, 3))
    torch.testing.assert_close(graph.constants["w"], torch.tensor([[-0.7, 1.2], [0.5, -0.8], [0.3, 0.4]]))
    torch.testing.assert_close(graph.run(x), of_runtime(path, x, plainly=True))
    graph.constants["w"] = graph.constants["w"].flip(0)
    onnx_graph.write(graph, path)
    torch.testing.assert_close(graph.run(x), of_runtime(path, x, plainly=True))


def test_integers_that_an_operator_reads_are_refused(tmp_path: Path) -> None:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("Cast", "q", to=1)]
    path = save(tmp_path / "integers.onnx", nodes, {"s": f(0.1), "z": np.uint8(0)}, (1, 4))
    with pytest.raises(ExportError, match="expected QDQ form"):
        onnx_graph.read(path)


def test_a_float_constant_is_written_and_other_metadata_stays(tmp_path: Path) -> None:
    import onnx

    path = save(tmp_path / "mean.onnx", [node("Sub", "x mean")], {"mean": numbers(1, 4, 1, 1)}, (1, 4, 6, 8))
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {"edgepress": "a card", "theirs": "too"})
    onnx.save(model, str(path))
    graph = onnx_graph.read(path)
    graph.constants["mean"] = graph.constants["mean"] + 1
    graph.originals["mean"] = graph.constants["mean"]
    onnx_graph.write(graph, path)
    images = torch.from_numpy(numbers(2, 4, 6, 8))
    torch.testing.assert_close(graph.run(images), of_runtime(path, images))
    assert {p.key: p.value for p in onnx.load(str(path)).metadata_props} == {"edgepress": "a card", "theirs": "too"}
