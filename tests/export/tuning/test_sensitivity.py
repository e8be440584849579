"""Which tensors the loss comes from, of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export import formats
from export.artifact import Card, ExportSpec
from export.errors import UntunableError
from export.policy import QuantPolicy
from export.tuning import sensitivity


class Gate(nn.Module):
    """A sigmoid between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.sigmoid(self.first(x)))
        return y


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((4, 16, 16, 3)).astype(np.float32))


@pytest.fixture(scope="module", params=["tflite", "onnx"])
def pair(
    request: pytest.FixtureRequest, images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    out, net = tmp_path_factory.mktemp("gate"), Gate().eval()
    card = Card("gate", 1, 3, 2, "float32")
    plain = formats.write(request.param, ExportSpec(net, card, (16, 16)), out, "float32")
    quantized = formats.write(request.param, ExportSpec(net, card, (16, 16), QuantPolicy(), images), out, "int8")
    return quantized.path(out), plain.path(out)


def test_a_file_of_either_layout_is_looked_at(pair: tuple[Path, Path], images: list[np.ndarray]) -> None:
    parts = sensitivity.of_file(*pair, images)
    assert [part.share for part in parts] == sorted((part.share for part in parts), reverse=True)
    assert sum(part.name.startswith("weights of") for part in parts) == 2
    assert not any(part.end or part.fixed for part in parts if part.name.startswith("weights of"))


def test_the_ends_and_the_prescribed_grids_are_marked(pair: tuple[Path, Path], images: list[np.ndarray]) -> None:
    parts = sensitivity.of_file(*pair, images)
    ends = {part.name for part in parts if part.end}
    assert "input" in ends and len(ends) == 2
    prescribed = ["LOGISTIC 1"] if pair[0].suffix == ".tflite" else []
    assert [part.name for part in parts if part.fixed] == prescribed


def test_a_file_that_holds_no_graph_is_refused(tmp_path: Path, images: list[np.ndarray]) -> None:
    with pytest.raises(UntunableError, match=r"graphs are read of \.tflite"):
        sensitivity.of_file(tmp_path / "net.xml", tmp_path / "plain.xml", images)
