"""The protocol's numbers: against slow twins, by hand, and against published baselines."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from compress.data.bicubic import upscale
from compress.data.folder import pairs
from compress.evaluate import luma, modcrop, protocol, psnr, score, ssim, to_uint8


def noisy(image, sigma, seed=1):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@given(height=st.integers(15, 20), width=st.integers(15, 20), scale=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_score_equals_the_slow_twin(reference, height, width, scale, seed):
    random = np.random.default_rng(seed)
    image, other = (random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
    slow = reference("slow_metrics")
    a, b = (slow.crop(slow.luma(i), scale) for i in (image, other))
    found = score(image, other, scale)
    # double precision on both sides, sums in another order
    assert found.psnr == pytest.approx(slow.psnr(a, b), abs=1e-9)
    if min(len(a), len(a[0])) < 11:
        assert math.isnan(found.ssim)
    else:
        assert found.ssim == pytest.approx(slow.ssim(a, b), abs=1e-9)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((0, 0, 0), 16.0),
        ((255, 255, 255), 235.0),
        ((255, 0, 0), 16 + 65.481),
        ((0, 255, 0), 16 + 128.553),
        ((0, 0, 255), 16 + 24.966),
        ((51, 102, 204), 16 + (65.481 + 2 * 128.553 + 4 * 24.966) / 5),
    ],
)
def test_luma_by_hand(rgb, expected):
    # 1e-9: double precision; a rounded luma would be off by up to 0.5
    assert luma(np.array([[rgb]], np.uint8))[0, 0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("offset", [1.0, 5.0, 255.0])
def test_psnr_of_a_constant_offset_by_hand(offset):
    a = np.zeros((12, 12))
    assert psnr(a, a + offset) == pytest.approx(20 * math.log10(255 / offset), abs=1e-9)


def test_equal_images_have_infinite_psnr_and_ssim_one(photo):
    found = score(photo(24, 24), photo(24, 24), 4)
    assert found.psnr == math.inf
    assert found.ssim == pytest.approx(1.0, abs=1e-12)


def test_ssim_of_two_constants_by_hand():
    """Without variance only the luminance term is left: (2ab + c1) / (a² + b² + c1)."""
    c1 = 2.55**2
    found = ssim(np.full((11, 11), 100.0), np.full((11, 11), 120.0))
    # 1e-8: a variance that is zero comes out as a difference of numbers near 1e4
    assert found == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1), abs=1e-8)


@given(seed=st.integers(0, 10**6), sigma=st.floats(0, 80))
def test_ssim_is_symmetric_and_at_most_one(photo, seed, sigma):
    a = luma(photo(20, 24, 3))
    b = luma(noisy(photo(20, 24, 3), sigma, seed))
    assert ssim(a, b) == pytest.approx(ssim(b, a), abs=1e-12)
    assert ssim(a, b) <= 1 + 1e-12


def test_more_noise_lowers_both_scores(photo):
    clean = photo(48, 48)
    scores = [score(noisy(clean, sigma), clean, 4) for sigma in (2, 5, 10, 20, 40)]
    assert [s.psnr for s in scores] == sorted((s.psnr for s in scores), reverse=True)
    assert [s.ssim for s in scores] == sorted((s.ssim for s in scores), reverse=True)


def test_ssim_is_unknown_for_images_smaller_than_the_window():
    assert math.isnan(ssim(np.zeros((10, 30)), np.zeros((10, 30))))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_what_happens_in_the_border_does_not_count(photo, scale):
    image, broken = photo(32, 32), photo(32, 32)
    for side in (slice(None, scale), slice(-scale, None)):
        broken[side] = 0
        broken[:, side] = 0
    assert score(broken, image, scale).psnr == math.inf
    broken[scale, scale] ^= 255
    assert score(broken, image, scale).psnr < math.inf


def test_the_protocol_is_named_by_scale():
    assert protocol(4) == "sr-x4-y601-crop4-uint8-matlab-bicubic"
    assert len({protocol(scale) for scale in (2, 3, 4)}) == 3


def test_every_grey_level_survives_the_way_through_float32():
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_uint8(levels.astype(np.float32) / 255.0), levels)


def test_to_uint8_clamps_and_rounds_half_up():
    values = np.array([-1.0, 0.4 / 255, 0.5 / 255, 1.5 / 255, 254.4 / 255, 1.0, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 1, 2, 254, 255, 255]


def test_to_uint8_survives_a_network_that_went_wrong():
    values = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert to_uint8(values).tolist() == [0, 255, 0]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_modcrop_cuts_the_bottom_and_the_right(photo, scale):
    image = photo(13, 18)
    cut = modcrop(image, scale)
    assert cut.shape[0] % scale == cut.shape[1] % scale == 0
    assert np.array_equal(cut, image[: cut.shape[0], : cut.shape[1]])
    assert 13 - cut.shape[0] < scale and 18 - cut.shape[1] < scale


def test_modcrop_refuses_an_image_smaller_than_the_scale(photo):
    with pytest.raises(ValueError, match=r"3x9.*smaller than scale 4"):
        modcrop(photo(3, 9), 4)


def test_images_of_different_size_are_not_scored(photo):
    with pytest.raises(ValueError, match=r"\(16, 16, 3\).*\(16, 20, 3\)"):
        score(photo(16, 16), photo(16, 20), 4)


def test_an_image_that_is_all_border_is_not_scored(photo):
    with pytest.raises(ValueError, match="nothing of 8x20 is left"):
        score(photo(8, 20), photo(8, 20), 4)


@pytest.mark.parametrize(("name", "expected"), [("Set5", 28.43), ("Set14", 26.09), ("B100", 25.96)])
def test_bicubic_x4_scores_what_the_literature_states(shared, name, expected):
    found = []
    for pair in pairs(shared / "data/sr" / name, 4):
        lr, hr = pair.load()
        found.append(score(upscale(lr, 4), hr, 4).psnr)
    assert np.mean(found) == pytest.approx(expected, abs=0.005)  # the tables give two decimals
