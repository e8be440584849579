"""C99 source of a network of one-dimensional tables: runtime.c behind the network's numbers and its tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from export.lut.cpackage import GIVEN, Source, assembled, table_code, whole_code
from export.separable.network import Separable

__all__ = ["source_of", "stored"]

_FIELDS = "uint8_t *rows, *pixels;\n    int8_t *low, *outs;"
_KINDS = {"spread": 0, "depthwise": 1, "pointwise": 2}


def stored(network: Separable) -> list[NDArray[np.int8]]:
    """The tables as the C engine reads them: a layer's after the other, then the low bits'."""
    low = network.layers[0].low
    assert low is not None
    return [layer.entries for layer in network.layers] + [low]


def source_of(network: Separable, tables: bool = True) -> Source:
    """The source of a network.

    Args:
        network: any.
        tables: whether the entries are in the file; else NAME_part takes them, for hosts that hold them.
    """
    return assembled(network, len(network.layers), _FIELDS, tables, lambda name: _code(network, name, tables))


def _code(network: Separable, name: str, tables: bool) -> Iterator[str]:
    layers, channels = network.layers, network.channels
    reaches = [layer.reach for layer in layers]
    rings = [2 * reach + 1 for reach in reaches]  # of the rows that each layer reads
    planes = [2, *[4 * channels] * (len(layers) - 1)]
    starts = [0, *accumulate(ring * count for ring, count in zip(rings, planes, strict=True))]
    later = [sum(reaches[number + 1 :]) for number in range(len(layers))]
    numbers = {
        "LAYERS": len(layers),
        "CHANNELS": channels,
        "SCALE": network.scale,
        "JOINED": int(network.joined),
        "HALO": network.halo,
        "MARGIN": 64,
        "ROWS": starts[-1],
    }
    yield "enum {" + ", ".join(f" EP_{key} = {value}" for key, value in numbers.items()) + " };"
    yield _list("ep_kinds", [_KINDS[layer.kind] for layer in layers])
    yield _list("ep_reaches", reaches)
    yield _list("ep_rings", rings)
    yield _list("ep_starts", starts[:-1])
    yield _list("ep_later", later)
    moves = [layer.shifts or ((0, 0),) * channels for layer in layers]
    rows = ["{" + ", ".join(f"{{{row}, {column}}}" for row, column in each) + "}" for each in moves]
    yield f"static const signed char ep_shifts[{len(layers)}][{channels}][2] = {{{', '.join(rows)}}};\n"
    yield from table_code(stored(network) if tables else [])
    folder = resources.files("export.separable")
    text = "".join(folder.joinpath(file).read_text(encoding="utf-8") for file in ("lanes.c", "runtime.c"))
    words = {
        "NAME": name,
        "GIVEN": "" if tables else GIVEN,
        "TAKE": "" if tables else "    s.tables = tables;\n",
        "WHOLE": whole_code(name, tables),
    }
    for key, value in words.items():
        text = text.replace(f"@{key}@", value)
    yield text


def _list(name: str, values: Sequence[int]) -> str:
    return f"static const int {name}[{len(values)}] = {{{', '.join(map(str, values))}}};"
