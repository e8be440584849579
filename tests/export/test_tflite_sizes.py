"""Only operators that compute the same without a size are exchanged, and then the file runs at other sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from export import tflite_graph, tflite_sizes

SIDES = (6, 7)


class Rows(nn.Module):
    """Rows of a table for each value, and sides of 1 that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(12, dtype=torch.int8).reshape(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = functional.embedding(x.squeeze(-1).to(torch.int32), self.table).to(torch.float32)
        return found * (x.squeeze(-1) + 1.0).unsqueeze(-1)


class Parts(nn.Module):
    """Channels cut out, and the batch for channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, two, three = torch.split(x, 1, 3)
        return (one * two - three).transpose(0, 3)


class Shuffled(nn.Module):
    """Pixels of a block out of channels, nothing else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pixel_shuffle((x + 1.0).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class Folded(nn.Module):
    """Sides that are really reshaped."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, SIDES[1], SIDES[0], 4) * 2.0


def written(module: nn.Module, channels: int, folder: Path) -> Path:
    litert_torch = pytest.importorskip("litert_torch")
    path = folder / "net.tflite"
    litert_torch.convert(module.eval(), (torch.zeros(1, *SIDES, channels),)).export(str(path))
    return path


def ran(path: Path, x: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found: np.ndarray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return found


@pytest.mark.parametrize(
    ("module", "channels", "kinds"),
    [
        (Rows(), 1, {"GATHER", "SQUEEZE", "EXPAND_DIMS"}),
        (Parts(), 3, {"SLICE", "TRANSPOSE"}),
        (Shuffled(), 4, {"DEPTH_TO_SPACE"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_file_runs_at_other_sizes_with_the_same_values(
    module: nn.Module, channels: int, kinds: set[str], tmp_path: Path
) -> None:
    path = written(module, channels, tmp_path)
    tflite_sizes.open_sides(path)
    found = set(tflite_graph.operators(path))
    assert "RESHAPE" not in found and kinds & found
    for sides in (SIDES, (1, 1), (3, 1), (9, 5)):
        x = np.random.default_rng(0).integers(0, 4, (1, *sides, channels)).astype(np.float32)
        with torch.inference_mode():
            np.testing.assert_array_equal(ran(path, x), module(torch.from_numpy(x)).numpy())


def test_a_true_reshape_stays(tmp_path: Path) -> None:
    path = written(Folded(), 4, tmp_path)
    before = tflite_graph.operators(path)
    tflite_sizes.open_sides(path)
    assert tflite_graph.operators(path) == before and before["RESHAPE"] == 1
    x = np.random.default_rng(0).random((1, *SIDES, 4)).astype(np.float32)
    np.testing.assert_array_equal(ran(path, x), x.reshape(1, SIDES[1], SIDES[0], 4) * 2)
