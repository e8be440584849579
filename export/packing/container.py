"""The packed file: which bytes were weights, where they are not zero, their values, and all other bytes.

Layout: ``EDGEPACK``, version (2 bytes), CRC-32 of all that follows (4), SHA-256 of the file that went in (32), its
length (8), 1 where matrices are walked column by column (1); then each stream of :data:`_NAMES`: coder (1), length
before and after coding (LEB128), bytes.  Whole numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.errors import ExportError
from export.packing.bound import position_bound, value_bound
from export.packing.regions import Region
from export.packing.streams import (
    Words,
    bytes_of_gaps,
    coded,
    decoded,
    deflated,
    gaps_of,
    joined,
    numbers,
    planes,
    varints,
)

__all__ = ["SUFFIX", "Summary", "pack", "unpack"]

SUFFIX = ".packed"
_MAGIC, _VERSION = b"EDGEPACK", 1
_CHECK, _HEAD = struct.Struct("<8sHI"), struct.Struct("<32sQB")
_PLANES = tuple(f"{item}.{k}" for item in (1, 2, 4) for k in range(item))
_NAMES = ("table", "other", "bitmap", "gaps", *_PLANES)
_WORDS: dict[int, np.dtype[Any]] = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}
_FIELDS = 7  # numbers that the table holds for each tensor
Streams = dict[str, bytes]


@dataclass(frozen=True)
class Summary:
    """What went into a packed file, and how near it is to what its entropy allows."""

    file_bytes: int
    packed_bytes: int
    numbers: int
    """Of the tensors."""
    nonzeros: int
    minus_zeros: int
    """Of those: weights times a mask leave such zeros, each of which takes a place and a value."""
    position_bytes: int
    value_bytes: int
    position_bound: float
    """Sum over the tensors of n H(p), in bytes: coding each number by itself takes at least this."""
    value_bound: float
    """Entropy of the planes of the values, in bytes."""

    @property
    def bytes_per_nonzero(self) -> float:
        """Of positions and values."""
        return (self.position_bytes + self.value_bytes) / max(1, self.nonzeros)

    @property
    def bound_per_nonzero(self) -> float:
        """H(p)/p and the entropy of a value, in bytes."""
        return (self.position_bound + self.value_bound) / max(1, self.nonzeros)


def pack(data: bytes, regions: Sequence[Region]) -> tuple[bytes, Summary]:
    """The packed file of a file with these tensors."""
    ways = [(by_columns, _streams(data, regions, by_columns)) for by_columns in (False, True)]
    by_columns, streams = min(ways, key=lambda way: sum(len(deflated(way[1][name])) for name in _NAMES))
    parts = {name: coded(streams[name]) for name in _NAMES}
    body = _HEAD.pack(hashlib.sha256(data).digest(), len(data), by_columns)
    for name, (coder, part) in parts.items():
        body += bytes([coder]) + varints([len(streams[name]), len(part)]) + part
    packed = _CHECK.pack(_MAGIC, _VERSION, zlib.crc32(body)) + body
    table = np.array(numbers(streams["table"]), np.int64).reshape(-1, _FIELDS)
    tensors = [(int(row[1] * row[2]), int(row[5])) for row in table]
    return packed, Summary(
        file_bytes=len(data),
        packed_bytes=len(packed),
        numbers=sum(total for total, _ in tensors),
        nonzeros=sum(count for _, count in tensors),
        minus_zeros=sum(_minus_zeros(data, region) for region in regions),
        position_bytes=len(parts["bitmap"][1]) + len(parts["gaps"][1]),
        value_bytes=sum(len(parts[name][1]) for name in _PLANES),
        position_bound=position_bound(tensors),
        value_bound=value_bound({name: streams[name] for name in _PLANES}),
    )


def _streams(data: bytes, regions: Sequence[Region], by_columns: bool) -> Streams:
    """Every byte of the file in one of the streams."""
    streams: dict[str, list[bytes]] = {name: [] for name in _NAMES}
    end = 0
    for region in regions:
        matrix = np.frombuffer(data, _WORDS[region.item], region.count, region.start)
        words = matrix.reshape(region.rows, region.columns).T.ravel() if by_columns else matrix
        places = np.flatnonzero(words)
        gaps, bitmap = bytes_of_gaps(places), np.packbits(words != 0).tobytes()
        sparse = len(deflated(gaps)) < len(deflated(bitmap))
        streams["gaps" if sparse else "bitmap"].append(gaps if sparse else bitmap)
        values = words[places].astype(np.uint32)
        middle = _middle(values, region.item)
        for number, plane in enumerate(planes(values, region.item, middle)):
            streams[f"{region.item}.{number}"].append(plane)
        streams["other"].append(data[end : region.start])
        fields = (region.start - end, region.rows, region.columns, region.item, int(sparse), len(places), middle)
        streams["table"].append(varints(fields))
        end = region.end
    streams["other"].append(data[end:])
    return {name: b"".join(parts) for name, parts in streams.items()}


def _minus_zeros(data: bytes, region: Region) -> int:
    if region.item == 1:
        return 0
    words = np.frombuffer(data, _WORDS[region.item], region.count, region.start)
    return int(np.count_nonzero(words == 1 << (8 * region.item - 1)))


def _middle(values: Words, item: int) -> int:
    """The median exponent of floats, so that tensors of unlike size have like exponents."""
    if item == 1 or not len(values):
        return 0
    exponents = (values << 1) >> (8 * item - 8) & 255
    return int(np.partition(exponents, len(exponents) // 2)[len(exponents) // 2])


def unpack(packed: bytes, name: str) -> bytes:
    """The file that was packed, to the last byte.

    Args:
        packed: the file.
        name: what to call it in messages.

    Raises:
        ExportError: not a packed file, of a later version, cut short, changed, or not what was packed.
    """
    if packed[: len(_MAGIC)] != _MAGIC:
        raise ExportError(f"{name}: not a packed file, it does not begin with {_MAGIC.decode()}; give one of `pack`")
    if len(packed) < _CHECK.size + _HEAD.size:
        raise ExportError(f"{name}: cut short after {len(packed)} bytes, within its header; fetch it again")
    _, version, check = _CHECK.unpack_from(packed)
    if version != _VERSION:
        raise ExportError(f"{name}: packed as version {version}, this program reads {_VERSION}; update edgepress")
    body = packed[_CHECK.size :]
    if zlib.crc32(body) != check:
        raise ExportError(
            f"{name}: its {len(packed)} bytes are not those that were written (CRC-32), cut short or damaged; "
            "fetch it again"
        )
    digest, length, by_columns = _HEAD.unpack_from(body)
    try:
        data = _whole(_read_streams(body, _HEAD.size), bool(by_columns), length)
    except (ValueError, IndexError, OverflowError, MemoryError, zlib.error, lzma.LZMAError) as error:
        raise ExportError(f"{name}: made by something else than this program ({error}); pack the file anew") from None
    if len(data) != length or hashlib.sha256(data).digest() != digest:
        raise ExportError(f"{name}: gives a file that is not the one packed (SHA-256); pack the file anew")
    return data


def _read_streams(body: bytes, start: int) -> Streams:
    streams = {}
    for name in _NAMES:
        coder, lengths = body[start], []
        start += 1
        for _ in range(2):
            end = start + 1
            while body[end - 1] > 127:
                end += 1
            lengths += numbers(body[start:end])
            start = end
        streams[name] = decoded(coder, body[start : start + lengths[1]], lengths[0])
        start += lengths[1]
    return streams


def _whole(streams: Streams, by_columns: bool, length: int) -> bytes:
    """The file again."""
    at = dict.fromkeys(_NAMES, 0)

    def taken(name: str, count: int) -> bytes:
        at[name] += count
        return streams[name][at[name] - count : at[name]]

    parts: list[bytes] = []
    table = numbers(streams["table"])
    for first in range(0, len(table), _FIELDS):
        before, rows, columns, item, sparse, count, middle = table[first : first + _FIELDS]
        total = rows * columns
        if total * item > length or item not in _WORDS:
            raise ValueError(f"a tensor of {total} numbers of {item} bytes in a file of {length}")
        parts.append(taken("other", before))
        if sparse:
            places, used = gaps_of(streams["gaps"][at["gaps"] :], count)
            at["gaps"] += used
        else:
            bits = np.frombuffer(taken("bitmap", (total + 7) // 8), np.uint8)
            places = np.flatnonzero(np.unpackbits(bits, count=total))
        words = np.zeros(total, _WORDS[item])
        words[places] = joined([taken(f"{item}.{k}", count) for k in range(item)], middle)
        matrix = words.reshape(columns, rows).T if by_columns else words
        parts.append(matrix.tobytes())
    parts.append(streams["other"][at["other"] :])
    return b"".join(parts)
