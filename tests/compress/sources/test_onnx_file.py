"""An ONNX file as the model: what becomes of it, and what others are told."""

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import UsageError, WeightsError
from compress.network import CLASSIFICATION, RESTORATION, SUPER_RESOLUTION
from compress.pipeline import reach_of
from compress.sources.onnx_file import OnnxGraph
from export.receptive_field import Reach

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node


def in_onnxruntime(path, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def agrees(network, path, size=(19, 23)):
    """The module and the graph that is passed on both give what the user's file gives."""
    x = torch.rand(1, network.channels, *size)
    expected = in_onnxruntime(path, x)
    with torch.inference_mode():
        close = torch.allclose(network.module(x), expected, atol=1e-5)
    return close and torch.allclose(in_onnxruntime(network.graph, x), expected, atol=1e-5)


def pooled(classes=5):
    """Nodes and constants of a classifier of any size."""
    weight = np.random.default_rng(1).normal(0, 1, (classes, 3, 1, 1)).astype(np.float32)
    nodes = [
        node("Conv", ["image", "weight"], ["a"]),
        node("GlobalAveragePool", ["a"], ["b"]),
        node("Flatten", ["b"], ["out"]),
    ]
    return nodes, {"weight": weight}


def test_a_file_becomes_a_network_of_its_name_and_task(save_onnx, resolve):
    path = save_onnx(name="my_filter.onnx")
    network = resolve(path)
    assert (network.name, network.task, network.scale, network.channels) == ("my_filter", RESTORATION, 1, 3)
    assert (network.input_size, network.classes) == (None, None)
    assert network.graph == path.resolve() and network.weights.path == path and not network.weights.random
    assert agrees(network, path)
    assert isinstance(network.module, nn.Module) and not isinstance(network.module, OnnxGraph), "torch can trace it"


def test_depth_to_space_makes_it_super_resolution(save_onnx, resolve):
    kernel = np.random.default_rng(2).normal(0, 0.2, (12, 3, 3, 3)).astype(np.float32)
    nodes = [
        node("Conv", ["image", "kernel"], ["a"], pads=[1, 1, 1, 1]),
        node("DepthToSpace", ["a"], ["out"], blocksize=2, mode="CRD"),
    ]
    path = save_onnx(nodes, constants={"kernel": kernel})
    network = resolve(path, scale=2)
    assert (network.task, network.scale) == (SUPER_RESOLUTION, 2) and agrees(network, path)
    with pytest.raises(UsageError, match=r"net\.onnx enlarges by 2, --scale says 4; drop --scale"):
        resolve(path, scale=4)


def test_a_vector_makes_it_classification(save_onnx, resolve):
    nodes, constants = pooled()
    network = resolve(save_onnx(nodes, (1, 3, 20, 28), constants))
    assert (network.task, network.classes, network.input_size) == (CLASSIFICATION, 5, (20, 28))
    with pytest.raises(UsageError, match=r"--task restoration, but .* is classification"):
        resolve(save_onnx(nodes, (1, 3, 20, 28), constants), task=RESTORATION)


@pytest.mark.parametrize("batch", [1, "N", None])
def test_one_image_or_an_open_batch_is_taken(save_onnx, resolve, batch):
    assert agrees(resolve(save_onnx(shape=(batch, 3, "height", "width"))), save_onnx())


def test_one_channel_is_taken(save_onnx, resolve):
    path = save_onnx([node("Sigmoid", ["image"], ["out"])], (1, 1, "h", "w"), {})
    network = resolve(path)
    assert network.channels == 1 and agrees(network, path)


def test_sizes_are_tried_until_the_graph_runs(save_onnx, resolve):
    """Open sides that are not quite: its own matrix product wants 224 pixels."""
    weight = np.random.default_rng(3).normal(0, 1, (224, 4)).astype(np.float32)
    nodes = [node("ReduceMean", ["image", "axes"], ["a"], keepdims=0), node("MatMul", ["a", "weight"], ["out"])]
    path = save_onnx(nodes, constants={"weight": weight, "axes": np.array([1, 2], np.int64)})
    assert (resolve(path).classes, resolve(path).input_size) == (4, (224, 224))


def fixed(last="Relu"):
    """Nodes that hold their example's size, 16x24."""
    nodes = [node("Conv", ["image", "kernel"], ["a"], pads=[1, 1, 1, 1]), node("Reshape", ["a", "flat"], ["b"])]
    nodes += [node("Reshape", ["b", "whole"], ["c"]), node(last, ["c"], ["out"])]
    kernel = np.random.default_rng(0).normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)
    sizes = {"flat": np.array([1, 3, 384], np.int64), "whole": np.array([1, 3, 16, 24], np.int64)}
    return nodes, {"kernel": kernel, **sizes}


def test_a_file_of_one_size_keeps_it(save_onnx, resolve):
    nodes, constants = fixed()
    network = resolve(save_onnx(nodes, (1, 3, 16, 24), constants))
    assert (network.input_size, network.task) == ((16, 24), RESTORATION)
    assert reach_of(network) == Reach(None, 1), "no other size can be tried"
    free = resolve(save_onnx(shape=(1, 3, 16, 24)))
    assert free.input_size == (16, 24) and reach_of(free) == Reach(1, 1), "its torch form can"


def test_what_torch_cannot_rebuild_runs_behind_onnxruntime(save_onnx, resolve):
    path = save_onnx([node("Mish", ["image"], ["out"])], constants={})
    network = resolve(path)
    assert isinstance(network.module, OnnxGraph) and agrees(network, path)
    with pytest.raises(Exception, match="this ONNX graph has no torch form"):
        torch.export.export(network.module, (torch.rand(1, 3, 8, 8),))


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_old_operators_are_converted_for_the_other_formats(save_onnx, resolve, opset):
    path = save_onnx(opset=opset)
    network = resolve(path)
    assert agrees(network, path)
    assert network.graph != path.resolve() and network.graph.name == path.name
    assert onnx.load(str(network.graph)).opset_import[0].version >= 13
    assert onnx.load(str(path)).opset_import[0].version == opset, "the user's file is left alone"


def test_weights_in_a_file_of_their_own_are_brought_in(save_onnx, resolve):
    path = save_onnx(external=True, name="apart/net.onnx")
    network = resolve(path)
    assert agrees(network, path)
    alone = onnx.load(str(network.graph), load_external_data=False)
    assert not any(map(onnx.external_data_helper.uses_external_data, alone.graph.initializer))
    data = path.with_name("net.data")
    data.write_bytes(bytes(reversed(data.read_bytes())))
    assert resolve(path).weights.sha256 != network.weights.sha256, "the hash is over both files"


def test_missing_weights_of_their_own_are_named(save_onnx, resolve):
    path = save_onnx(external=True, name="apart/net.onnx")
    path.with_name("net.data").unlink()
    with pytest.raises(
        WeightsError, match=r"lie in a file of their own that is missing \(.*net\.data.*\); put it beside"
    ):
        resolve(path)


@pytest.mark.parametrize("content", [b"not a model", b"\x08", b"PK\x03\x04" * 20])
def test_a_file_that_is_no_onnx_is_named(tmp_path, resolve, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=r"model .*net\.onnx: (not a readable ONNX file|holds no graph)"):
        resolve(tmp_path / "net.onnx")


def test_a_cut_file_is_named(save_onnx, resolve):
    path = save_onnx()
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(WeightsError, match=r"net\.onnx: not a readable ONNX file"):
        resolve(path)


def test_a_missing_or_empty_file_is_named(tmp_path, resolve):
    with pytest.raises(WeightsError, match=r"none\.onnx: no such file"):
        resolve(tmp_path / "none.onnx")
    (tmp_path / "net.onnx").touch()
    with pytest.raises(WeightsError, match=r"net\.onnx: holds no graph; export it again"):
        resolve(tmp_path / "net.onnx")


def test_operators_of_a_foreign_domain_are_named(save_onnx, resolve):
    nodes = [node("Magic", ["image"], ["a"], domain="acme"), node("Wonder", ["a"], ["out"], domain="acme")]
    with pytest.raises(WeightsError, match=r"domains that no runtime here knows: acme\.Magic, acme\.Wonder; expected"):
        resolve(save_onnx(nodes, constants={}))


def test_an_operator_that_does_not_exist_is_named(save_onnx, resolve):
    with pytest.raises(WeightsError, match=r"net\.onnx \(opset 18\): onnxruntime refuses it \(.*Magic.*\); export it"):
        resolve(save_onnx([node("Magic", ["image"], ["out"])], constants={}))


@pytest.mark.parametrize(("opset", "reason"), [(6, r"Add\(6\)"), (99, "opset 99 is under development")])
def test_an_opset_that_the_runtime_does_not_know_is_named(save_onnx, resolve, opset, reason):
    path = save_onnx([node("Add", ["image", "image"], ["out"])], (1, 3, 16, 16), {}, opset)
    with pytest.raises(WeightsError, match=rf"(?i)\(opset {opset}\): onnxruntime refuses it \(.*{reason}") as caught:
        resolve(path)
    assert "onnxruntime_src" not in str(caught.value)


def test_a_file_that_is_quantized_already_is_told_what_to_do(save_onnx, resolve):
    nodes = [
        node("QuantizeLinear", ["image", "scale", "zero"], ["a"]),
        node("DequantizeLinear", ["a", "scale", "zero"], ["out"]),
    ]
    constants = {"scale": np.float32(0.01), "zero": np.uint8(3)}
    with pytest.raises(WeightsError, match=r"is quantized already; give the float file, or .* `compress validate`"):
        resolve(save_onnx(nodes, constants={k: np.array(v) for k, v in constants.items()}))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (2, 3, 16, 16),
            r"input image is 2x3x16x16, expected one NCHW image of 1 or 3 channels .*; export it with batch 1",
        ),
        ((1, 4, 16, 16), r"input image is 1x4x16x16, expected one NCHW image of 1 or 3 channels"),
        ((1, 16, 16, 3), r"input image is 1x16x16x3, expected one NCHW image"),
        ((1, 3, 16, "width"), r"input 1x3x16x\? has one open side, expected both or none"),
        ((1, 3, None, 16), r"input 1x3x\?x16 has one open side, expected both or none"),
        ((1, 3, 16), r"input image is FLOAT 1x3x16, expected FLOAT 1xCxHxW in \[0, 1\]"),
    ],
)
def test_an_input_that_is_no_single_image_is_named(save_onnx, resolve, shape, message):
    with pytest.raises(WeightsError, match=message):
        resolve(save_onnx(shape=shape))


def test_an_input_of_bytes_is_named(save_onnx, resolve):
    with pytest.raises(WeightsError, match=r"input image is UINT8 1x3x\?x\?, expected FLOAT 1xCxHxW in \[0, 1\]"):
        resolve(save_onnx(kind=onnx.TensorProto.UINT8))


def test_two_inputs_are_named(save_onnx, resolve):
    second = onnx.helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, [1])
    with pytest.raises(WeightsError, match=r"2 inputs \(image, noise\), expected one image; export it with one input"):
        resolve(save_onnx(inputs=(second,)))


def test_a_graph_that_runs_on_no_image_says_why(save_onnx, resolve):
    nodes, constants = fixed()
    with pytest.raises(WeightsError, match=r"net\.onnx: runs on no image \(3x64x64: .*; 3x224x224: .*fixed size"):
        resolve(save_onnx(nodes, constants=constants))


@pytest.mark.parametrize("given", [{"random": True}, {"arguments": {"width": "4"}}, {"scale": 3}])
def test_flags_that_make_no_sense_with_a_file_are_refused(save_onnx, resolve, given):
    with pytest.raises(UsageError, match="drop --"):
        resolve(save_onnx(), **given)


def test_weights_beside_the_file_are_refused(save_onnx, resolve, tmp_path):
    with pytest.raises(UsageError, match=r"net\.onnx holds its weights: drop --weights"):
        resolve(save_onnx(), weights=tmp_path / "w.pth")
