"""The streams of a packed file, against slow twins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.packing.bound import entropy_bytes, position_bound, value_bound
from export.packing.streams import bytes_of_gaps, coded, decoded, gaps_of, joined, numbers, planes, varints

places = st.lists(st.integers(0, 3000), unique=True).map(sorted)


@given(places)
def test_gaps_are_those_of_the_slow_twin_and_come_back(reference, found):
    array = np.array(found, np.intp)
    stream = bytes_of_gaps(array)
    assert stream == reference("slow_packing").gaps(found)
    again, used = gaps_of(stream + b"\x07\xff\x01", len(found))
    assert again.tolist() == found and used == len(stream)


def test_gaps_by_hand():
    assert bytes_of_gaps(np.array([0, 1, 5, 261, 517])) == bytes([0, 0, 3, 255, 0, 255, 0])
    with pytest.raises(ValueError, match="gaps are missing"):
        gaps_of(bytes([3, 255]), 2)


@given(st.data(), st.sampled_from([8, 16, 32]), st.integers(0, 255))
def test_planes_are_those_of_the_slow_twin_and_come_back(reference, data, bits, middle):
    values = data.draw(st.lists(st.integers(0, 2**bits - 1)))
    parts = planes(np.array(values, np.uint32), bits // 8, middle)
    assert parts == reference("slow_packing").planes(values, bits, middle)
    assert joined(parts, middle).tolist() == values


def test_the_first_plane_of_a_float_is_its_exponent():
    values = np.array([1.0, -1.0, 0.25, -3.0], np.float32).view(np.uint32)
    assert list(planes(values, 4, 127)[0]) == [0, 0, 254, 1], "counted from that of 1"


@given(st.lists(st.integers(0, 2**40)))
def test_numbers_come_back(values):
    assert numbers(varints(values)) == values


def test_a_number_that_is_cut_off_is_refused():
    with pytest.raises(ValueError, match="cut off"):
        numbers(varints([5, 300])[:-1])


@given(st.binary(max_size=300), st.integers(1, 40))
def test_every_coder_gives_its_bytes_back(data, times):
    data *= times
    coder, packed = coded(data)
    assert decoded(coder, packed, len(data)) == data and len(packed) <= len(data)


@pytest.mark.parametrize(
    "data",
    [b"", bytes(range(256)), bytes(np.random.default_rng(0).integers(0, 4, 3000, np.uint8)), b"abcabd" * 900],
    ids=["empty", "raw", "deflate", "lzma"],
)
def test_the_coder_is_the_one_that_takes_least(data):
    coder, packed = coded(data)
    assert decoded(coder, packed, len(data)) == data
    with pytest.raises(ValueError, match="a stream has"):
        decoded(coder, packed, len(data) + 1)


def test_a_coder_of_another_number_is_refused():
    with pytest.raises(ValueError, match="unknown coder 9"):
        decoded(9, b"", 0)


@given(st.binary(max_size=200))
def test_entropy_is_that_of_the_slow_twin(reference, data):
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    assert entropy_bytes(counts) == pytest.approx(reference("slow_packing").entropy_bytes(data), abs=1e-9)
    assert value_bound({"a": data, "b": data}) == pytest.approx(2 * entropy_bytes(counts))


def test_bounds_by_hand():
    """One of four: H = 2 - 3/4 log2 3 = 0.8113 bits."""
    assert position_bound([(800, 200), (40, 0), (8, 8)]) == pytest.approx(800 * 0.811278 / 8, rel=1e-5)
    assert value_bound({"a": bytes([1, 2, 3, 4] * 8)}) == pytest.approx(8.0)
