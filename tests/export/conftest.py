"""Tiny networks, and the files made of them once a session."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export import formats
from export.artifact import Card, ExportSpec, Image
from export.policy import QuantPolicy


class Plain(nn.Module):
    """x1, no shuffle: radius 2."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.last(torch.relu(self.first(x)))


class Averaging(nn.Module):
    """x2 with global average pooling: every output pixel looks at the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.gate = nn.Conv2d(12, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.first(x)
        gate = torch.sigmoid(self.gate(features.mean((2, 3), keepdim=True)))
        return nn.functional.pixel_shuffle(features * gate, 2)


@pytest.fixture(scope="session")
def plain() -> nn.Module:
    torch.manual_seed(1)
    return Plain().eval()


@pytest.fixture(scope="session")
def averaging() -> nn.Module:
    torch.manual_seed(2)
    return Averaging().eval()


@pytest.fixture(scope="session")
def picture(photo: Callable[..., NDArray[np.uint8]]) -> Callable[..., Image]:
    """``picture(height, width, seed=0)``: a made-up image in [0, 1]."""
    return lambda height, width, seed=0: photo(height, width, seed).astype(np.float32) / np.float32(255)


@pytest.fixture(scope="session")
def make_spec(picture: Callable[..., Image]) -> Callable[..., ExportSpec]:
    """``make_spec(module, dtype, scale=1, halo=2, input_size=(16, 20), ...)``, calibrated at the input's size."""

    def make(
        module: nn.Module,
        dtype: str,
        scale: int = 1,
        halo: int | None = 2,
        input_size: tuple[int, int] = (16, 20),
        calibration: Sequence[Image] | None = None,
    ) -> ExportSpec:
        card = Card("tiny", scale, 3, halo, dtype)
        if dtype == "float32":
            return ExportSpec(module, card, input_size)
        given = [picture(*input_size, seed) for seed in range(4)] if calibration is None else calibration
        return ExportSpec(module, card, input_size, QuantPolicy(), given)

    return make


@pytest.fixture(scope="session")
def plain_file(
    plain: nn.Module, make_spec: Callable[..., ExportSpec], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """``plain_file(format, dtype="float32")``: that network's file, written at the first request."""
    folder = tmp_path_factory.mktemp("plain")

    @functools.cache
    def write(name: str, dtype: str = "float32") -> Path:
        return formats.write(name, make_spec(plain, dtype), folder, f"plain-{dtype}").path(folder)

    return write


@pytest.fixture(scope="session")
def averaging_tflite(
    averaging: nn.Module, make_spec: Callable[..., ExportSpec], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A TFLite file of fixed size, 16x20: its pooling is followed by a shuffle that holds the size."""
    folder = tmp_path_factory.mktemp("averaging")
    return formats.write("tflite", make_spec(averaging, "float32", 2, None), folder, "averaging").path(folder)


def save_conv_onnx(path: Path, size: tuple[int, int] | None) -> Path:
    """One 3x3 convolution, three channels in and out (radius 1); a file of fixed size unless ``size`` is None."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.random.default_rng(3).normal(0, 0.3, (3, 3, 3, 3)).astype(np.float32)
    sides: list[int | str] = list(size) if size else ["height", "width"]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, *sides]) for n in ("image", "enlarged")]
    node = helper.make_node("Conv", ["image", "kernel"], ["enlarged"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "conv", ends[:1], ends[1:], [numpy_helper.from_array(kernel, "kernel")])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), str(path))
    return path


@pytest.fixture(scope="session")
def conv_onnx(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``conv_onnx(size=None)``: an ONNX file that is not ours; the same convolution at every size."""
    folder = tmp_path_factory.mktemp("conv")
    return functools.cache(lambda size=None: save_conv_onnx(folder / f"{size}.onnx", size))
