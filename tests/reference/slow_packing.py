"""Gaps, planes and entropies, number by number."""

import math
from fractions import Fraction


def gaps(places):
    """A byte for each gap; 255 and on."""
    found, last = [], -1
    for place in places:
        gap = place - last - 1
        while gap >= 255:
            found.append(255)
            gap -= 255
        found.append(gap)
        last = place
    return bytes(found)


def planes(values, bits, middle):
    """Each number's bits as text, its first moved to the end, cut in eights."""
    rows = []
    for value in values:
        text = format(value, f"0{bits}b")
        if bits > 8:
            text = text[1:] + text[0]
        row = [int(text[k : k + 8], 2) for k in range(0, bits, 8)]
        row[0] = (row[0] - middle) % 256
        rows.append(row)
    return [bytes(row[k] for row in rows) for k in range(bits // 8)]


def entropy_bytes(data):
    """Of a text of symbols: the sum over them of log2 of how rare each is."""
    rare = [Fraction(len(data), data.count(symbol)) for symbol in data]
    return sum(math.log2(each) for each in rare) / 8
