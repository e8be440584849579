"""Rewrites of TFLite files change the graph and not one bit of its output."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from export import formats, tflite_graph
from export.artifact import Card, ExportSpec, Image
from export.parity import compare
from export.torch_session import TorchSession

SIDE = 8
CASES = {"x2": (2, 3), "x3": (3, 1), "x4": (4, 2)}
"""Scale, and channels after the shuffle."""


class Shuffled(nn.Module):
    """A convolution whose output channels differ much in size, and what is done with its output."""

    def __init__(self, outputs: int, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(outputs)
        self.conv = nn.Conv2d(3, outputs, 3, padding=1)
        self.then = then
        with torch.no_grad():
            self.conv.weight.mul_(torch.logspace(-2, 0, outputs).view(-1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.conv(x))


@pytest.fixture(scope="session")
def unfused(
    make_spec: Callable[..., ExportSpec], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, nn.Module], Path]:
    """``unfused(name, dtype, module)``: its file as the converter writes it, once for each name and dtype."""
    folder = tmp_path_factory.mktemp("unfused")

    def write(name: str, dtype: str, module: nn.Module) -> Path:
        path = folder / f"{name}-{dtype}.tflite"
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tflite_graph, "fuse_pixel_shuffle", lambda path: 0)
                spec = make_spec(module.eval(), dtype, input_size=(SIDE, SIDE))
                formats.write("tflite", spec, folder, path.stem)
            tflite_graph.write_card(path, spec.card.to_json())  # it will be free of its size once fused
        return path

    return write


@pytest.fixture(scope="session")
def shuffled(unfused: Callable[..., Path]) -> Callable[[str, str], Path]:
    """``shuffled(case, dtype)``: an unfused convolution and shuffle."""

    @functools.cache
    def write(case: str, dtype: str) -> Path:
        scale, channels = CASES[case]
        return unfused(case, dtype, Shuffled(channels * scale**2, lambda y: pixel_shuffle(y, scale)))

    return write


def run(path: Path, image: Image) -> Image:
    return formats.open_file(path, 1).run(image)


def assert_left_alone(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(path, tmp_path / "copy.tflite"))
    assert tflite_graph.fuse_pixel_shuffle(copy) == 0
    assert copy.read_bytes() == path.read_bytes()


def edit(path: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """The file with its object form changed."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    change(model)
    target.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return target


def the_convolution(model: Any) -> Any:
    conv_2d = 3  # in the schema's BuiltinOperator
    (graph,) = model.subgraphs
    return next(op for op in graph.operators if model.operatorCodes[op.opcodeIndex].builtinCode == conv_2d)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("case", CASES)
def test_fusing_changes_no_bit(
    shuffled: Callable[[str, str], Path], picture: Callable[..., Image], case: str, dtype: str, tmp_path: Path
) -> None:
    path, (scale, channels) = shuffled(case, dtype), CASES[case]
    fused = Path(shutil.copy(path, tmp_path))
    assert tflite_graph.fuse_pixel_shuffle(fused) == 1
    counts = tflite_graph.operators(fused)
    assert counts["DEPTH_TO_SPACE"] == counts["CONV_2D"] == 1
    assert not {"RESHAPE", "TRANSPOSE"} & set(counts)
    for seed in range(3):
        image = picture(SIDE, SIDE, seed)
        output = run(fused, image)
        assert output.shape == (scale * SIDE, scale * SIDE, channels)
        assert np.array_equal(output, run(path, image))


def test_fusing_twice_does_nothing_more(shuffled: Callable[[str, str], Path], tmp_path: Path) -> None:
    once = Path(shutil.copy(shuffled("x2", "float32"), tmp_path))
    tflite_graph.fuse_pixel_shuffle(once)
    assert_left_alone(once, tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_fused_file_takes_any_size_and_an_unfused_one_its_own(
    shuffled: Callable[[str, str], Path], picture: Callable[..., Image], dtype: str, tmp_path: Path
) -> None:
    path = shuffled("x2", dtype)
    fused = Path(shutil.copy(path, tmp_path))
    tflite_graph.fuse_pixel_shuffle(fused)
    assert not tflite_graph.is_resizable(path)
    assert tflite_graph.is_resizable(fused)
    assert formats.open_file(path, 1).input_size == (SIDE, SIDE)
    large = picture(SIDE + 5, SIDE + 2)
    part = run(fused, np.ascontiguousarray(large[:SIDE, :SIDE]))
    # the pixel next to a cut sees padding where the larger image goes on
    assert np.array_equal(run(fused, large)[: 2 * SIDE - 2, : 2 * SIDE - 2], part[:-2, :-2])


def test_any_order_of_channels_is_a_depth_to_space(
    unfused: Callable[..., Path], picture: Callable[..., Image], tmp_path: Path
) -> None:
    def columns_first(y: Tensor) -> Tensor:  # (c, j, i) where PyTorch's shuffle has (c, i, j)
        parts = y.view(1, 3, 2, 2, SIDE, SIDE).permute(0, 1, 4, 3, 5, 2)
        return parts.reshape(1, 3, 2 * SIDE, 2 * SIDE)

    path = unfused("columns-first", "float32", Shuffled(12, columns_first))
    fused = Path(shutil.copy(path, tmp_path))
    assert tflite_graph.fuse_pixel_shuffle(fused) == 1
    assert np.array_equal(run(fused, picture(SIDE, SIDE)), run(path, picture(SIDE, SIDE)))


def test_a_file_without_a_shuffle_is_left_alone(plain_file: Callable[..., Path], tmp_path: Path) -> None:
    for dtype in ("float32", "int8"):
        assert_left_alone(plain_file("tflite", dtype), tmp_path)


def test_a_transposition_that_is_no_depth_to_space_is_left_alone(unfused: Callable[..., Path], tmp_path: Path) -> None:
    def mirrored_at_the_diagonal(y: Tensor) -> Tensor:  # same shapes as a shuffle, height and width exchanged
        parts = y.view(1, 3, 2, 2, SIDE, SIDE).permute(0, 1, 5, 2, 4, 3)
        return parts.reshape(1, 3, 2 * SIDE, 2 * SIDE)

    assert_left_alone(unfused("diagonal", "float32", Shuffled(12, mirrored_at_the_diagonal)), tmp_path)


def test_a_convolution_read_twice_is_left_alone(shuffled: Callable[[str, str], Path], tmp_path: Path) -> None:
    def read_again(model: Any) -> None:
        (graph,) = model.subgraphs
        output = the_convolution(model).outputs[0]
        graph.operators.extend([op for op in graph.operators if output in op.inputs])

    assert_left_alone(edit(shuffled("x2", "float32"), tmp_path / "read-twice.tflite", read_again), tmp_path)


def test_a_convolution_that_is_an_output_as_well_is_left_alone(
    shuffled: Callable[[str, str], Path], tmp_path: Path
) -> None:
    def add_output(model: Any) -> None:
        (graph,) = model.subgraphs
        graph.outputs = [*graph.outputs, the_convolution(model).outputs[0]]

    assert_left_alone(edit(shuffled("x2", "float32"), tmp_path / "two-outputs.tflite", add_output), tmp_path)


def test_a_convolution_whose_weights_others_read_is_left_alone(
    shuffled: Callable[[str, str], Path], tmp_path: Path
) -> None:
    def share_weights(model: Any) -> None:
        (graph,) = model.subgraphs
        graph.tensors.append(graph.tensors[the_convolution(model).inputs[1]])

    assert_left_alone(edit(shuffled("x2", "float32"), tmp_path / "shared.tflite", share_weights), tmp_path)


def test_operators_are_counted_by_name(shuffled: Callable[[str, str], Path], plain_file: Callable[..., Path]) -> None:
    assert tflite_graph.operators(plain_file("tflite")) == {"ADD": 1, "CONV_2D": 2}
    counts = tflite_graph.operators(shuffled("x2", "float32"))
    assert counts["CONV_2D"] == 1
    assert counts["TRANSPOSE"] > 0
    assert list(counts) == sorted(counts)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_resizing_changes_the_declared_size_and_nothing_else(
    shuffled: Callable[[str, str], Path], picture: Callable[..., Image], dtype: str, tmp_path: Path
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = Path(shutil.copy(shuffled("x3", dtype), tmp_path))
    tflite_graph.fuse_pixel_shuffle(path)
    image = picture(9, 14)
    before = run(path, image)
    assert tflite_graph.resize_input(path, 11, 13)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 11, 13, 3]
    assert interpreter.get_output_details()[0]["shape"].tolist() == [1, 33, 39, 1]
    assert np.array_equal(run(path, image), before)
    assert tflite_graph.is_resizable(path)


def test_resizing_leaves_a_file_that_holds_its_size_alone(averaging_tflite: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(averaging_tflite, tmp_path))
    assert not tflite_graph.resize_input(copy, 11, 13)
    assert copy.read_bytes() == averaging_tflite.read_bytes()


def test_a_card_replaces_the_earlier_one_and_changes_no_bit_of_the_output(
    plain_file: Callable[..., Path], picture: Callable[..., Image], tmp_path: Path
) -> None:
    path = Path(shutil.copy(plain_file("tflite"), tmp_path))
    before = run(path, picture(16, 20))
    first, second = (Card(name, 1, 3, 2, "float32").to_json() for name in ("first", "second"))
    tflite_graph.write_card(path, first)
    tflite_graph.write_card(path, second)
    assert tflite_graph.read_card(path) == second
    assert np.array_equal(run(path, picture(16, 20)), before)


def test_a_replaced_card_is_gone_from_the_file(plain_file: Callable[..., Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(plain_file("tflite"), tmp_path))
    tflite_graph.write_card(path, "the first card")
    tflite_graph.write_card(path, "the second card")
    assert b"the first card" not in path.read_bytes()


def test_other_metadata_stays(plain_file: Callable[..., Path], tmp_path: Path) -> None:
    def names(path: Path) -> list[str]:
        found: list[str] = []
        edit(path, tmp_path / "unused.tflite", lambda m: found.extend(entry.name.decode() for entry in m.metadata))
        return found

    path = Path(shutil.copy(plain_file("tflite"), tmp_path))
    before = names(path)
    tflite_graph.write_card(path, "another")
    assert sorted(names(path)) == sorted(before)
    assert len(before) > 1  # the converter's own, and ours


def test_a_file_without_a_card_has_none(plain_file: Callable[..., Path], tmp_path: Path) -> None:
    path = edit(plain_file("tflite"), tmp_path / "foreign.tflite", lambda model: setattr(model, "metadata", None))
    assert tflite_graph.read_card(path) is None
    assert formats.read_card(path) is None


def test_a_shuffle_after_a_grouped_convolution_is_left_alone(
    make_spec: Callable[..., ExportSpec], picture: Callable[..., Image], tmp_path: Path
) -> None:
    """Its output channels cannot change places: each reads its own group of inputs."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, padding=1, groups=2), nn.PixelShuffle(2)).eval()
    spec = make_spec(module, "float32", scale=2, halo=1)
    path = formats.write("tflite", spec, tmp_path, "grouped").path(tmp_path)
    assert "DEPTH_TO_SPACE" not in tflite_graph.operators(path)
    image = picture(16, 20)
    assert compare(run(path, image), TorchSession(module).run(image)).as_float


class Anchored(nn.Module):
    """The image repeated, added to a convolution's output before the shuffle, as ABPN does, and a second sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second, self.repeat = (nn.Conv2d(3, 12, side, padding=side // 2) for side in (3, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle(torch.relu(self.first(x) + self.repeat(x)) + self.second(x), 2)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_shuffle_behind_sums_of_convolutions_is_fused_to_the_bit(
    unfused: Callable[..., Path], picture: Callable[..., Image], dtype: str, tmp_path: Path
) -> None:
    path = unfused("anchored", dtype, Anchored())
    fused = Path(shutil.copy(path, tmp_path))
    assert tflite_graph.fuse_pixel_shuffle(fused) == 1
    assert tflite_graph.operators(fused)["DEPTH_TO_SPACE"] == 1
    assert np.array_equal(run(path, picture(SIDE, SIDE)), run(fused, picture(SIDE, SIDE)))
