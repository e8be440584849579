"""Multiply-accumulates, counted one multiplication at a time."""

from collections.abc import Sequence
from itertools import product


def convolution(inputs: Sequence[int], weight: Sequence[int], stride: int, padding: int, groups: int = 1) -> int:
    """Of a (N, C_in, H, W) input and a (C_out, C_in / groups, kh, kw) kernel; taps on padding count."""
    n, _, height, width = inputs
    outputs, depth, kh, kw = weight
    rows = range(0, height + 2 * padding - kh + 1, stride)
    columns = range(0, width + 2 * padding - kw + 1, stride)
    count = 0
    for _image, _output, _top, _left in product(range(n), range(outputs), rows, columns):
        for _input, _i, _j in product(range(depth), range(kh), range(kw)):
            count += 1
    assert outputs % groups == 0
    return count


def transposed(inputs: Sequence[int], weight: Sequence[int]) -> int:
    """Of a (N, C_in, H, W) input and a (C_in, C_out / groups, kh, kw) kernel: every input pixel stamps its kernel."""
    count = 0
    for _pixel in product(*map(range, inputs)):
        for _tap in product(*map(range, weight[1:])):
            count += 1
    return count


def product_of_matrices(left: Sequence[int], right: Sequence[int]) -> int:
    """Of (..., m, k) and (..., k, n)."""
    *batch, m, k = left
    count = 0
    for _cell in product(*map(range, batch), range(m), range(right[-1])):
        for _term in range(k):
            count += 1
    return count
