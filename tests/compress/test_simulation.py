"""The graph that is tuned predicts the score of the file, in each runtime; simulators that lie are a known plague."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress import pipeline, recipe, source
from compress.data import labelled
from compress.measure import through
from compress.options import Options
from compress.registry import TASKS
from compress.tasks.classification import Classification
from export import formats, graph
from export.graph.ir import Graph
from export.policy import QuantPolicy

POLICIES = {
    "stock": QuantPolicy(),
    "tuned": QuantPolicy(clipping="mse", rounding="gptq", correction="bias", exact=True),
    "four bits": QuantPolicy(clipping="mse", rounding="gptq", correction="bias", weight_bits=4),
}
BOUNDS = {"super-resolution": 0.03, "classification": 0.3}
"""In dB, and in points of top-1."""


class Simulated:
    """The graph as a session."""

    input_size = None

    def __init__(self, read: Graph) -> None:
        self._graph = read

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """One image, as a runtime takes it."""
        x = torch.from_numpy(image)[None]
        with torch.no_grad():
            y = self._graph.run(x if self._graph.layout == "nhwc" else x.permute(0, 3, 1, 2).contiguous())[0]
        if y.dim() < 3:
            return y.reshape(-1).numpy()
        return y.numpy() if self._graph.layout == "nhwc" else y.permute(1, 2, 0).contiguous().numpy()


def compare(options: Options, kind: str, policy: QuantPolicy, folder: Path, size: tuple[int, int]) -> None:
    """Scores of the graph and of the file are alike."""
    network = source.resolve(options.request)
    task = TASKS[network.task](network, options.judged_on)
    if isinstance(task, Classification):
        task = replace(task, evaluation=labelled.subset(task.evaluation, np.arange(2000)))
    network = replace(recipe.load("float32").apply(network, task), policy=policy)
    reach = pipeline.reach_of(network)
    spec = pipeline.specs_of(network, task, reach, size, options)[-1]
    session = formats.open_file(pipeline.write_one(spec, kind, folder).path(folder), 1)
    readable = "onnx" if kind == "openvino" else kind  # which is made of the ONNX graph
    simulated = Simulated(graph.read(pipeline.write_one(spec, readable, folder).path(folder)))
    found, expected = (task.judge(through(s, network, reach), lambda done: None).mean for s in (simulated, session))
    assert found == pytest.approx(expected, abs=BOUNDS[network.task])


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["tflite", "onnx", "openvino"])
def test_super_resolution(kind: str, policy: str, tmp_path: Path) -> None:
    compare(Options("span", ""), kind, POLICIES[policy], tmp_path, (64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["tflite", "onnx", "openvino"])
def test_classification(kind: str, policy: str, shared: Path, tmp_path: Path) -> None:
    weights = shared / "data/weights/cls/cifar10_resnet/resnet20-12fca82f.th"
    data = shared / "data/cls/cifar10"
    compare(Options(str(weights), "", data=data), kind, POLICIES[policy], tmp_path, (32, 32))
