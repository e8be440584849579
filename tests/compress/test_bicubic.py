"""MATLAB's bicubic: against a slow twin, and against the published LR images."""

from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from compress.data.bicubic import downscale, resize, upscale
from compress.data.images import read_rgb
from compress.evaluate import modcrop

SIDE = st.integers(1, 14)


def random_image(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


@settings(max_examples=100)
@given(factor=st.sampled_from([2, 4]), height=st.integers(1, 6), width=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_equals_the_exact_twin_at_scales_2_and_4(reference, factor, height, width, seed):
    """At powers of two the weights are binary fractions, so that double precision is exact, too."""
    twin = reference("slow_bicubic")
    small, large = random_image(seed, height, width), random_image(seed, height * factor, width * factor)
    assert np.array_equal(downscale(large, factor), twin.resize(large, height, width))
    assert np.array_equal(upscale(small, factor), twin.resize(small, height * factor, width * factor))


@settings(max_examples=100)
@given(height=SIDE, width=SIDE, out_height=SIDE, out_width=SIDE, seed=st.integers(0, 10**6))
def test_each_pass_rounds_the_exact_value_at_any_size(reference, height, width, out_height, out_width, seed):
    """A value that lies exactly at .5 may go either way, because its weights are not exact in double precision."""
    twin = reference("slow_bicubic")
    image = random_image(seed, height, width)
    tall = resize(image, out_height, width)
    done = resize(image, out_height, out_width)
    assert np.array_equal(done, resize(tall, out_height, out_width))
    for found, exact in ((tall, twin.resize_rows(image, out_height)), (done.T, twin.resize_rows(tall.T, out_width))):
        for row, exact_row in zip(found, exact, strict=True):
            assert all(abs(int(v) - e) <= Fraction(1, 2) for v, e in zip(row, exact_row, strict=True))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_published_lr_images_of_set5_come_out_identical(shared, scale):
    folder = shared / "data/sr/Set5"
    for path in sorted((folder / "HR").glob("*.png")):
        made = downscale(modcrop(read_rgb(path), scale), scale)
        assert np.array_equal(made, read_rgb(folder / f"LRbicx{scale}" / path.name)), path.name


@given(value=st.integers(0, 255), height=SIDE, width=SIDE, out_height=SIDE, out_width=SIDE)
def test_a_constant_image_stays_constant(value, height, width, out_height, out_width):
    image = np.full((height, width, 3), value, np.uint8)
    assert np.array_equal(resize(image, out_height, out_width), np.full((out_height, out_width, 3), value))


@given(height=SIDE, width=SIDE, seed=st.integers(0, 1000))
def test_the_same_size_changes_nothing(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(resize(image, height, width), image)


@given(scale=st.integers(2, 4), seed=st.integers(0, 1000))
def test_turning_by_180_degrees_commutes_with_resizing(scale, seed):
    image = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    turned, plain = upscale(image[::-1, ::-1], scale)[::-1, ::-1], upscale(image, scale)
    # one level: the taps are added in the other order, so a value at .5 may round the other way
    assert np.abs(turned.astype(int) - plain).max() <= 1


def test_colour_planes_are_resized_apart(photo):
    image = photo(12, 20)
    planes = [resize(np.ascontiguousarray(image[..., c]), 5, 9) for c in range(3)]
    assert np.array_equal(resize(image, 5, 9), np.stack(planes, 2))


def test_a_grey_step_overshoots_but_stays_in_range():
    image = np.zeros((1, 8), np.uint8)
    image[:, 4:] = 255
    enlarged = upscale(image, 4)
    assert enlarged.dtype == np.uint8 and enlarged.shape == (4, 32)
    assert enlarged[:, :8].max() <= 20 and enlarged[:, -8:].min() >= 235


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (-1, 4)])
def test_a_size_below_one_is_refused(photo, shape):
    with pytest.raises(ValueError, match="at least 1"):
        resize(photo(8, 8), *shape)


def test_a_float_image_is_refused():
    with pytest.raises(ValueError, match=r"uint8.*float32"):
        resize(np.zeros((8, 8, 3), np.float32), 4, 4)


def test_downscale_refuses_sides_that_are_no_multiple_and_names_the_cure(photo):
    with pytest.raises(ValueError, match=r"9x8.*multiple of 4.*modcrop"):
        downscale(photo(9, 8), 4)
