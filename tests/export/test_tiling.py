"""Tiles cover, keep their distance, and give the bits of the whole image (files of every format: tests/contract)."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from export import formats
from export.artifact import Image, Prepared
from export.errors import ExportError
from export.tiling import MAX_TILE, WHOLE_PIXELS, Tile, enlarge, plan


class BoxSum:
    """A network of known radius: the sum over a zero-padded window, repeated ``scale`` times a side.

    On whole numbers its float32 sums are exact, so that equal means equal.
    """

    def __init__(self, radius: int, scale: int = 1, input_size: tuple[int, int] | None = None) -> None:
        self.radius, self.scale, self.input_size = radius, scale, input_size
        self.seen: list[tuple[int, int]] = []

    def run(self, image: Image) -> Image:
        assert self.input_size in (None, image.shape[:2])
        self.seen.append(image.shape[:2])
        r, (height, width) = self.radius, image.shape[:2]
        padded = np.pad(image, [(r, r), (r, r), (0, 0)])
        side = range(2 * r + 1)
        total = sum(padded[i : i + height, j : j + width] for i in side for j in side)
        return np.asarray(total).repeat(self.scale, 0).repeat(self.scale, 1)

    def prepare(self, image: Image) -> Prepared:
        return lambda: self.run(image)


class GlobalSum(BoxSum):
    """Looks at the whole image."""

    def run(self, image: Image) -> Image:
        return super().run(image) + image.sum()


def whole_numbers(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32)


lengths = st.integers(1, 60)
sides = st.integers(1, 40)
halos = st.integers(0, 10)


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, int, tuple[int, int], int, list[Tile]]:
    height, width, tile, halo = draw(lengths), draw(lengths), (draw(sides), draw(sides)), draw(halos)
    assume(all(length <= side or side > 2 * halo for length, side in zip((height, width), tile, strict=True)))
    return height, width, tile, halo, plan(height, width, tile, halo)


@given(plans())
def test_plan_keeps_every_pixel_exactly_once(reference: Callable[[str], ModuleType], planned) -> None:
    height, width, _, _, tiles = planned
    assert (reference("slow_tiling").times_kept(height, width, tiles) == 1).all()


@given(plans())
def test_tiles_have_one_size_and_lie_inside_the_image(planned) -> None:
    height, width, tile, _, tiles = planned
    assert {(t.height, t.width) for t in tiles} == {(min(tile[0], height), min(tile[1], width))}
    for t in tiles:
        assert 0 <= t.top <= t.top + t.height <= height
        assert 0 <= t.left <= t.left + t.width <= width


@given(plans())
def test_what_is_kept_is_a_halo_away_from_tile_edges_inside_the_image(planned) -> None:
    height, width, _, halo, tiles = planned
    for t in tiles:
        assert t.top == 0 or t.keep_top - t.top >= halo
        assert t.left == 0 or t.keep_left - t.left >= halo
        assert t.top + t.height == height or t.top + t.height - t.keep_bottom >= halo
        assert t.left + t.width == width or t.left + t.width - t.keep_right >= halo


@given(lengths, lengths, sides, sides, halos)
@example(60, 5, 8, 8, 4)  # twice the halo exactly
def test_plan_refuses_exactly_the_tiles_that_keep_nothing(
    height: int, width: int, tall: int, wide: int, halo: int
) -> None:
    possible = all(length <= side or side > 2 * halo for length, side in ((height, tall), (width, wide)))
    if possible:
        assert plan(height, width, (tall, wide), halo)
    else:
        with pytest.raises(ExportError, match=f"tile of {tall}x{wide} keeps nothing.*export with an input of at least"):
            plan(height, width, (tall, wide), halo)


def test_an_image_no_larger_than_the_tile_runs_in_one_piece_whatever_the_halo() -> None:
    assert plan(8, 9, (8, 9), 100) == [Tile(0, 0, 8, 9, 0, 0, 8, 9)]


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2), st.integers(1, 3)
)
def test_tiled_is_whole_and_the_slow_twin(
    reference: Callable[[str], ModuleType], height: int, width: int, tall: int, wide: int, radius: int, scale: int
) -> None:
    assume(all(length <= side or side > 2 * radius for length, side in ((height, tall), (width, wide))))
    session, image = BoxSum(radius, scale), whole_numbers(height, width)
    tiled = enlarge(session, image, scale, radius, (tall, wide))
    assert tiled.dtype == np.float32
    assert np.array_equal(tiled, session.run(image))
    assert np.array_equal(tiled, reference("slow_tiling").enlarge(session, image, scale, radius))


def test_a_halo_too_small_by_one_shows() -> None:
    session, image = BoxSum(radius=3), whole_numbers(30, 40)
    assert not np.array_equal(enlarge(session, image, 1, 2, (16, 16)), session.run(image))


@given(lengths, lengths)
def test_the_tile_bounds_what_a_session_of_any_size_sees(height: int, width: int) -> None:
    session = BoxSum(radius=2)
    enlarge(session, whole_numbers(height, width), 1, 2, (13, 17))
    assert all(h <= 13 and w <= 17 for h, w in session.seen)


def test_by_default_the_tile_is_max_tile() -> None:
    session = BoxSum(radius=2)
    enlarge(session, whole_numbers(MAX_TILE[0] + 1, MAX_TILE[1] + 1), 1, 2)
    assert set(session.seen) == {MAX_TILE}


@given(st.integers(14, 50), st.integers(17, 50))
def test_a_session_of_fixed_size_runs_larger_images_whole(height: int, width: int) -> None:
    session, image = BoxSum(radius=2, scale=2, input_size=(14, 17)), whole_numbers(height, width)
    tiled = enlarge(session, image, 2, 2, max_tile=(1, 1))  # max_tile is for sessions of any size
    assert set(session.seen) == {(14, 17)}
    assert np.array_equal(tiled, BoxSum(radius=2, scale=2).run(image))


@pytest.mark.parametrize("size", [(5, 40), (40, 6), (13, 16), (1, 1), (3, 17), (14, 2)])
def test_an_image_smaller_than_a_session_of_fixed_size_is_mirrored_on(size: tuple[int, int]) -> None:
    session, image = BoxSum(radius=2, scale=2, input_size=(14, 17)), whole_numbers(*size)
    output = enlarge(session, image, 2, 2)
    mirrored = np.pad(image, [(0, max(0, 14 - size[0])), (0, max(0, 17 - size[1])), (0, 0)], "symmetric")
    whole = BoxSum(radius=2, scale=2)
    assert np.array_equal(output, whole.run(mirrored)[: 2 * size[0], : 2 * size[1]])
    rows = 2 * (size[0] if size[0] >= 14 else max(0, size[0] - 2))
    columns = 2 * (size[1] if size[1] >= 17 else max(0, size[1] - 2))
    assert np.array_equal(output[:rows, :columns], whole.run(image)[:rows, :columns])


def test_a_global_network_runs_in_one_piece_beyond_the_tile() -> None:
    session, image = GlobalSum(radius=1), whole_numbers(50, 60)
    assert np.array_equal(enlarge(session, image, 1, None, (16, 16)), session.run(image))
    assert session.seen == [(50, 60)] * 2


def test_a_global_network_of_fixed_size_takes_that_size() -> None:
    session, image = GlobalSum(radius=1, input_size=(14, 17)), whole_numbers(14, 17)
    assert np.array_equal(enlarge(session, image, 1, None), session.run(image))


@pytest.mark.parametrize("size", [(15, 17), (14, 18), (40, 40), (10, 40)])
def test_a_global_network_of_fixed_size_runs_other_sizes_in_overlapping_tiles(size: tuple[int, int]) -> None:
    session = BoxSum(radius=1, input_size=(14, 17))  # local, so that the overlap of 3 makes it exact
    image = whole_numbers(*size)
    output = enlarge(session, image, 1, None)
    assert output.shape == image.shape and set(session.seen) == {(14, 17)}
    if size[0] >= 14:
        assert np.array_equal(output, BoxSum(radius=1).run(image))


def test_a_global_network_on_an_image_too_large_for_one_piece_is_tiled() -> None:
    session = BoxSum(radius=1)
    tall = whole_numbers(WHOLE_PIXELS // 64 + 8, 64)
    assert np.array_equal(enlarge(session, tall, 1, None), BoxSum(radius=1).run(tall))
    assert all(h <= MAX_TILE[0] and w <= MAX_TILE[1] for h, w in session.seen)


class Blocks(BoxSum):
    """The mean over cells of 4 x 4 pixels, then a box sum: takes multiples of 4 and is exact on its own grid only."""

    def run(self, image: Image) -> Image:
        assert image.shape[0] % 4 == 0 and image.shape[1] % 4 == 0
        cells = image.reshape(image.shape[0] // 4, 4, -1, 4, image.shape[2]).sum((1, 3))
        return super().run(cells.repeat(4, 0).repeat(4, 1))


@given(st.integers(1, 15), st.integers(1, 15), st.integers(6, 10), st.integers(6, 10))
def test_tiles_of_a_network_with_a_unit_start_on_its_grid(height: int, width: int, tall: int, wide: int) -> None:
    session, image = Blocks(radius=2), whole_numbers(4 * height, 4 * width)
    assert np.array_equal(enlarge(session, image, 1, 5, (4 * tall, 4 * wide), unit=4), session.run(image))


@given(st.integers(1, 40), st.integers(1, 40))
def test_sides_that_are_no_multiple_of_the_unit_are_mirrored_on_and_cut_again(height: int, width: int) -> None:
    session, image = Blocks(radius=2), whole_numbers(height, width)
    full = np.pad(image, [(0, -height % 4), (0, -width % 4), (0, 0)], "symmetric")
    assert np.array_equal(enlarge(session, image, 1, 5, (24, 28), unit=4), session.run(full)[:height, :width])


def test_a_global_tflite_file_runs_other_sizes_in_tiles(averaging_tflite: Path, picture: Callable[..., Image]) -> None:
    session = formats.open_file(averaging_tflite, 1)
    assert session.input_size == (16, 20)
    assert enlarge(session, picture(16, 20), 2, None).shape == (32, 40, 3)
    assert enlarge(session, picture(17, 20), 2, None).shape == (34, 40, 3)
    with pytest.raises(ExportError, match=r"takes \(16, 20\) only, got \(17, 20\)"):
        session.run(picture(17, 20))


@pytest.mark.parametrize("size", [(24, 20), (57, 43), (25, 20), (24, 61), (90, 81)])
def test_a_static_onnx_file_gives_the_bits_of_the_dynamic_one(
    conv_onnx: Callable[..., Path], picture: Callable[..., Image], size: tuple[int, int]
) -> None:
    session, image = formats.open_file(conv_onnx((24, 20)), 1), picture(*size)
    assert session.input_size == (24, 20)
    whole = formats.open_file(conv_onnx(None), 1)
    assert whole.input_size is None
    assert np.array_equal(enlarge(session, image, 1, 1), whole.run(image))


def test_a_static_onnx_file_takes_smaller_images(conv_onnx: Callable[..., Path], picture: Callable[..., Image]) -> None:
    session, image = formats.open_file(conv_onnx((24, 20)), 1), picture(11, 33)
    output = enlarge(session, image, 1, 1)
    assert output.shape == image.shape
    assert np.array_equal(output[:-1], formats.open_file(conv_onnx(None), 1).run(image)[:-1])
