"""Images fitted to a network's input, as timm's evaluation transform does it."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from PIL import Image

from compress.data.images import read_rgb
from compress.data.labelled import find, fit

SIDES = st.integers(1, 70)
SIZES = st.tuples(st.integers(1, 48), st.integers(1, 48))


@pytest.fixture(scope="session")
def timm_transform(timm):
    """``timm_transform(size, crop_share)``: timm's transform of a Pillow image to (C, H, W) uint8."""
    create = timm.data.create_transform

    def make(size, crop_share, **options):
        return create((3, *size), interpolation="bicubic", crop_pct=crop_share, **{"normalize": False, **options})

    return make


def agrees(transform, image, channels, size, crop_share):
    """Whether ours equals timm's to the bit."""
    pillow = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("L" if channels == 1 else "RGB")
    theirs = transform(size, crop_share)(pillow).numpy().transpose(1, 2, 0)
    ours = fit(image, channels, size, crop_share)
    return ours.dtype == np.float32 and np.array_equal(ours, theirs.astype(np.float32) / np.float32(255))


@given(
    height=SIDES, width=SIDES, size=SIZES, share=st.floats(0.5, 1), channels=st.sampled_from([(1, 1), (1, 3), (3, 3)])
)
def test_it_is_timms_transform(photo, timm_transform, height, width, size, share, channels):
    assume((height, width) != size and max(height, width) < 20 * min(height, width))
    assert agrees(timm_transform, photo(height, width)[..., : channels[0]].copy(), channels[1], size, share)


@pytest.mark.parametrize("share", [0.875, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("size", [(224, 224), (160, 160), (299, 299), (96, 128)])
def test_it_is_timms_transform_at_the_usual_sizes(photo, timm_transform, size, share):
    for height, width in ((375, 500), (500, 333), (224, 225), (64, 64)):
        assert agrees(timm_transform, photo(height, width), 3, size, share)


def test_the_values_are_those_of_timms_tensor(photo, timm_transform):
    """Division included; timm's mean and deviation are what the network does itself."""
    to_tensor = timm_transform((224, 224), 0.875, normalize=True, mean=(0.0,) * 3, std=(1.0,) * 3)
    theirs = to_tensor(Image.fromarray(photo(375, 500))).numpy().transpose(1, 2, 0)
    assert np.array_equal(fit(photo(375, 500), 3, (224, 224), 0.875), theirs)


@pytest.mark.parametrize(
    ("size", "share", "resized", "corner"),
    [
        ((224, 224), 0.875, (256, 341), (16, 58)),  # half of 117 to even: 58
        ((224, 224), 1.0, (224, 298), (0, 37)),
        ((96, 64), 0.9, (106, 141), (5, 38)),  # the sides 106 and 71 just covered
    ],
)
def test_the_steps_by_hand(photo, size, share, resized, corner):
    large = Image.fromarray(photo(375, 500)).resize(resized[::-1], Image.Resampling.BICUBIC)
    expected = np.asarray(large)[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
    assert np.array_equal(fit(photo(375, 500), 3, size, share), expected / np.float32(255))


@given(height=SIDES, width=SIDES, size=SIZES, share=st.floats(0.1, 1), channels=st.sampled_from([1, 3]))
def test_whatever_comes_in_the_size_comes_out_in_0_to_1(photo, height, width, size, share, channels):
    assume(max(height, width) < 20 * min(height, width))
    out = fit(photo(height, width), channels, size, share)
    assert out.shape == (*size, channels) and out.dtype == np.float32
    assert out.min() >= 0 and out.max() <= 1


@given(height=SIDES, width=SIDES, share=st.floats(0.1, 1))
def test_an_image_of_the_size_is_not_resampled(photo, height, width, share):
    image = photo(height, width)
    assert np.array_equal(fit(image, 3, (height, width), share), image / np.float32(255))
    assert np.array_equal(fit(image[..., :1], 1, (height, width), share), image[..., :1] / np.float32(255))


def test_grey_is_repeated_and_comes_back(photo):
    grey = photo(9, 8)[..., :1]
    colour = fit(grey, 3, (9, 8), 1.0)
    assert np.array_equal(colour, np.repeat(grey, 3, axis=2) / np.float32(255))
    assert np.array_equal(fit(np.repeat(grey, 3, axis=2), 1, (9, 8), 1.0), grey / np.float32(255))


def test_colour_to_grey_is_luma():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    out = fit(colours, 1, (1, 4), 1.0)[0, :, 0] * 255
    assert out == pytest.approx([0.299 * 255, 0.587 * 255, 0.114 * 255, 255], abs=0.51)


def test_the_image_that_came_in_is_left_alone(photo):
    image = photo(40, 50)
    image.flags.writeable = False
    fit(image[::2, ::2], 3, (10, 10), 0.875)[...] = 0
    assert np.array_equal(image, photo(40, 50))


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    ids=["flat", "two channels", "float", "empty"],
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match=r"fit takes uint8 \(H, W, 1\) or \(H, W, 3\), got "):
        fit(image, 3, (4, 4), 1.0)


@pytest.mark.parametrize(
    ("channels", "size", "share"), [(4, (4, 4), 1.0), (3, (0, 4), 1.0), (3, (4, 4), 0.0), (3, (4, 4), 1.1)]
)
def test_what_no_network_takes_is_refused(photo, channels, size, share):
    with pytest.raises(ValueError, match="cannot fit to"):
        fit(photo(4, 4), channels, size, share)


def test_photographs_of_imagenet_are_fitted_as_by_timm(shared, timm_transform):
    found = find(shared / "data/cls/imagenet-samples", "evaluation")
    for index in range(0, found.count, 8):
        image = found.load(index)
        assert np.array_equal(image, read_rgb(found.files()[index]))
        assert agrees(timm_transform, image, 3, (224, 224), 0.875)
