"""The numbers of a comparison, by hand."""

import numpy as np
import pytest

from export.parity import FLOAT_TOLERANCE, Parity, compare

GREY = np.full((4, 5, 3), 0.5, np.float32)


def test_equal_outputs_are_capped_at_200_db() -> None:
    assert compare(GREY, GREY.copy()) == Parity(0.0, 200.0)


def test_a_tenth_everywhere_is_20_db() -> None:
    parity = compare(GREY + np.float32(0.1), GREY)
    assert parity.max_abs == pytest.approx(0.1, abs=1e-7)  # half an ulp of 0.6 in float32 is 3e-8
    assert parity.psnr_db == pytest.approx(20.0, abs=1e-5)


def test_one_pixel_sets_the_maximum_and_the_mean_sets_the_psnr() -> None:
    output = GREY.copy()
    output[1, 2, 0] = 0.0
    parity = compare(output, GREY)
    assert parity.max_abs == 0.5
    assert parity.psnr_db == pytest.approx(-10 * np.log10(0.25 / GREY.size), abs=1e-9)  # float64 throughout


def test_the_sign_does_not_matter() -> None:
    assert compare(GREY * 0, GREY) == compare(GREY, GREY * 0)


def test_a_float_file_may_differ_by_the_tolerance_and_no_more() -> None:
    assert Parity(FLOAT_TOLERANCE, 80.0).as_float
    assert not Parity(FLOAT_TOLERANCE * 1.01, 80.0).as_float


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sides", [(0,), (1,), (0, 1)])
def test_a_value_that_is_not_finite_is_as_far_as_can_be(value: float, sides: tuple[int, ...]) -> None:
    pair = [GREY.copy(), GREY.copy()]
    for side in sides:
        pair[side][0, 0, 0] = value
    parity = compare(*pair)
    assert parity == Parity(1e9, -1e9)
    assert not parity.as_float


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"output is \(4, 4, 3\), expected \(4, 5, 3\)"):
        compare(GREY[:, :4], GREY)
