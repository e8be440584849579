"""Numbers as streams of bytes that compress well, and their coders: deflate and LZMA of the standard library.

Positions of what is not zero are a bitmap or gaps.  Floats are turned by one bit, so that the exponent is a byte of its
own, and cut into planes: exponents repeat themselves, the lower planes hardly do.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Words",
    "bytes_of_gaps",
    "coded",
    "decoded",
    "deflated",
    "gaps_of",
    "joined",
    "numbers",
    "planes",
    "varints",
]

Words = NDArray[np.uint32]
"""Numbers as their bits."""
_RAW, _DEFLATE, _LZMA = 0, 1, 2
_LONGEST = 255  # a byte of a gap; more of the gap follows
_WINDOW = 1 << 24  # of LZMA, bytes: its encoder takes about ten times as much memory
_LEAST_WINDOW = 4096


def bytes_of_gaps(places: NDArray[np.intp]) -> bytes:
    """Zeros before each place, a byte each; 255 says that 255 zeros passed and the gap goes on."""
    gaps = np.diff(places, prepend=-1) - 1
    whole, rest = np.divmod(gaps, _LONGEST)
    ends = np.cumsum(whole + 1)
    found = np.full(int(ends[-1]) if len(ends) else 0, _LONGEST, np.uint8)
    found[ends - 1] = rest
    return found.tobytes()


def gaps_of(data: bytes, count: int) -> tuple[NDArray[np.intp], int]:
    """The places that :func:`bytes_of_gaps` was given, and how many bytes they took.

    Raises:
        ValueError: there are fewer than ``count``.
    """
    stream = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(stream != _LONGEST)[:count]
    if len(ends) < count:
        raise ValueError("gaps are missing")
    used = int(ends[-1]) + 1 if count else 0
    return np.cumsum(stream[:used], dtype=np.intp)[ends] + np.arange(count), used


def planes(values: Words, item: int, middle: int) -> list[bytes]:
    """The bytes of each number of ``item`` bytes, the most telling first; the first counts from ``middle``.

    Numbers of two and four bytes are turned left by one bit, which puts a float's exponent before its sign.
    """
    bits = 8 * item
    turned = values if item == 1 else (values << 1) | (values >> (bits - 1))
    parts = [((turned >> shift) & 255).astype(np.uint8) for shift in range(bits - 8, -1, -8)]
    return [(parts[0] - np.uint8(middle)).tobytes(), *(part.tobytes() for part in parts[1:])]


def joined(parts: list[bytes], middle: int) -> Words:
    """The numbers whose :func:`planes` these are."""
    turned = (np.frombuffer(parts[0], np.uint8) + np.uint8(middle)).astype(np.uint32)
    for part in parts[1:]:
        turned = (turned << np.uint32(8)) | np.frombuffer(part, np.uint8)
    bits = 8 * len(parts)
    if bits == 8:
        return turned
    return ((turned >> np.uint32(1)) | (turned << np.uint32(bits - 1))) & np.uint32(2**bits - 1)


def varints(values: Iterable[int]) -> bytes:
    """Whole numbers from 0 on, seven bits a byte, the lowest first; the high bit says that more follow (LEB128)."""
    found = bytearray()
    for value in values:
        while value > 127:
            found.append(value & 127 | 128)
            value >>= 7
        found.append(value)
    return bytes(found)


def numbers(data: bytes) -> list[int]:
    """What :func:`varints` was given.

    Raises:
        ValueError: the last number is cut off.
    """
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(value)
            value = shift = 0
    if shift:
        raise ValueError("a number is cut off")
    return found


def deflated(data: bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """Deflate without a header (RFC 1951)."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
    return coder.compress(data) + coder.flush()


def _lzma_filters(length: int) -> list[dict[str, int]]:
    """For bytes that stand for numbers: no context of the last byte, none of the position."""
    window = max(_LEAST_WINDOW, min(_WINDOW, length))
    preset = 9 | lzma.PRESET_EXTREME
    return [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": window, "lc": 0, "lp": 0, "pb": 0}]


def coded(data: bytes) -> tuple[int, bytes]:
    """The number of the coder that takes least, and its output; LZMA is tried where deflate found anything to gain."""
    found = [(_RAW, data)]
    found += [(_DEFLATE, deflated(data, s)) for s in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED)]
    if min(len(part) for _, part in found) < len(data):
        found.append((_LZMA, lzma.compress(data, lzma.FORMAT_RAW, filters=_lzma_filters(len(data)))))
    return min(found, key=lambda each: len(each[1]))


def decoded(coder: int, data: bytes, length: int) -> bytes:
    """What :func:`coded` was given.

    Raises:
        ValueError: not ``length`` bytes, or no coder of this number.
        zlib.error: bytes that deflate never writes.
        lzma.LZMAError: bytes that LZMA never writes.
    """
    if coder == _RAW:
        found = data
    elif coder == _DEFLATE:
        found = zlib.decompressobj(-15).decompress(data, length) if length else b""
    elif coder == _LZMA:
        found = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_lzma_filters(length)).decompress(data, length)
    else:
        raise ValueError(f"unknown coder {coder}")
    if len(found) != length:
        raise ValueError(f"a stream has {len(found)} bytes of {length}")
    return found
