"""What only ONNX does: U8S8, and dynamic sizes."""

from collections.abc import Callable
from pathlib import Path


def test_int8_has_unsigned_activations_and_signed_weights(plain_file: Callable[..., Path]) -> None:
    import onnx
    from onnx import TensorProto

    graph = onnx.load(str(plain_file("onnx", "int8"))).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    quantize = {types[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}
    stored = {
        types[node.input[0]] for node in graph.node if node.op_type == "DequantizeLinear" if node.input[0] in types
    }
    assert quantize == {TensorProto.UINT8}
    assert stored == {TensorProto.INT8, TensorProto.INT32}  # weights, biases


def test_one_input_and_one_output_of_dynamic_size(plain_file: Callable[..., Path]) -> None:
    import onnx

    for dtype in ("float32", "int8"):
        graph = onnx.load(str(plain_file("onnx", dtype))).graph
        (given,), (result,) = graph.input, graph.output
        assert (given.name, result.name) == ("image", "output")
        sides = [axis.dim_param for axis in given.type.tensor_type.shape.dim[2:]]
        assert all(sides)
        assert len(set(sides)) == 2


def test_a_file_is_one_file(plain_file: Callable[..., Path]) -> None:
    path = plain_file("onnx", "int8")
    assert [p.name for p in path.parent.glob(f"{path.stem}*.onnx*")] == [path.name]
