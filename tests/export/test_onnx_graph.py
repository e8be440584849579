"""Rewrites of ONNX files change no value, and let onnxruntime run the integers as integers."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export import formats, onnx_graph
from export.artifact import Card, ExportSpec
from export.policy import QuantPolicy


class Gated(nn.Module):
    """Differences, products and sums between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x - 0.45)
        gated = y * (torch.sigmoid(y) - 0.5)
        out: Tensor = self.last(torch.cat([y + gated, gated], 1))
        return out


@pytest.fixture(scope="module")
def spec() -> ExportSpec:
    card = Card("gated", 1, 3, 1, "float32", task="restoration")
    random = np.random.default_rng(0)
    inputs = [(random.integers(0, 256, (16, 16, 3)) / np.float32(255)).astype(np.float32) for _ in range(4)]
    return ExportSpec(Gated().eval(), card, (16, 16), None, inputs)


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def test_differences_with_constants_are_sums_of_the_same_value(spec: ExportSpec, tmp_path: Path) -> None:
    artifact = formats.write("onnx", spec, tmp_path, "gated")
    path = artifact.path(tmp_path)
    assert kinds(path)["Sub"] == 0 and kinds(path)["Add"] == 3
    assert onnx_graph.sums_for_differences(path) == 0
    with torch.no_grad():
        wanted = spec.module(torch.from_numpy(spec.calibration[0]).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    found = formats.open_file(path, 1).run(spec.calibration[0])
    assert float(np.abs(found - wanted.numpy()).max()) < 1e-5


def test_a_difference_of_two_tensors_stays(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Sub", ["x", "x"], ["y"])], "g", ends[:1], ends[1:])
    path = tmp_path / "sub.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), str(path))
    before = path.read_bytes()
    assert onnx_graph.sums_for_differences(path) == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("policy", [QuantPolicy(), QuantPolicy(clipping="mse", exact=True)])
def test_onnxruntime_runs_every_operator_in_integers(spec: ExportSpec, policy: QuantPolicy, tmp_path: Path) -> None:
    whole = replace(spec, policy=policy, card=replace(spec.card, dtype="int8"))
    path = formats.write("onnx", whole, tmp_path, "gated").path(tmp_path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ran = kinds(tmp_path / "optimized.onnx")
    assert not {"Add", "Sub", "Mul", "Sigmoid", "Conv", "Concat"} & set(ran)
    assert ran["QLinearMul"] == 1 and ran["QLinearAdd"] == 3
    assert ran["QuantizeLinear"] == ran["DequantizeLinear"] == 1
