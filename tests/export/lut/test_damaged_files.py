"""Files of tables that are cut, changed or made up: refused with the project's error, or a network that runs."""

import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export import formats
from export.artifact import Card
from export.errors import ExportError
from export.lut import container, native
from export.lut.network import Band, Network, Source, Stage, Table, Tables, plain_taps, rows_of
from export.separable.network import HIGH, LOW, Layer, Separable

fuzzed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD: list[Any] = [
    *[None, True, 1.5, "", "x", "0.0", [], [[]], [0], [1, 2], [0, 0, 0, 256], {}, {"a": 1}],
    *[-(2**63), -17, -1, 0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 64, 255, 256, 2**31, 2**64, int("9" * 4000)],
    *["BF16", "F16", "F8_E4M3", "F4", "F64", "U8", "BOOL", "I64", "pointwise", "reflect", "\ud800", "\0"],
]
"""What stands in the place of something else."""


def entries(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, shape, dtype=np.int8)


def interpolated() -> Network:
    """Two stages, a band, samplers over two planes."""
    band = Band(1, 7)
    first = Table(plain_taps("S"), entries(rows_of(4, 6, band), 1), 6, band)
    mean = tuple((Source(0, 0, k, 56), Source(1, k, 1, 200)) for k in range(2))
    return Network("net", (Stage((first,), 4, 127), Stage((Table(mean, entries(25, 4), 6),), 1, scale=2)), "reflect")


def separable() -> Separable:
    moves = ((0, 1), (-1, 0), (0, 0), (1, 2))
    first, inner = Layer("spread", entries(9, 4, HIGH), entries(9, 4, LOW)), Layer("depthwise", entries(9, 4, HIGH))
    return Separable("net", (first, inner, Layer("pointwise", entries(4, 4, HIGH), None, moves)))


CARD = Card("net", 2, 3, 3, "int8")
WHOLE = {"lut": container.dumped(interpolated(), CARD), "separable": container.dumped(separable(), CARD)}
both = pytest.mark.parametrize("kind", WHOLE)


def outcome(folder: Path, data: bytes) -> Tables | None:
    """The network of a file, which then gives a picture of the right size; None: refused."""
    path = folder / "damaged.lut"
    path.unlink(missing_ok=True)  # some disks take milliseconds to write over a file
    path.write_bytes(data)
    with suppress(ExportError):
        formats.read_card(path)
    try:
        found = container.read(path)
    except ExportError as error:
        assert str(path) in str(error) or str(error).startswith("tables "), error
        return None
    assert native.enlarged(found, np.zeros((2, 3), np.uint8)).shape == (2 * found.scale, 3 * found.scale)
    return found


def taken_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def put_together(header: Any, tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object in JSON with each of its keys."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from places(tree[key])


def odd(draw: Any, *more: Any) -> Any:
    return deepcopy(draw(st.sampled_from([*ODD, *more])))


def change(draw: Any, tree: Any) -> None:
    """Replace, leave out or repeat something in JSON."""
    found = list(places(tree))
    if not found:
        return
    holder, key = found[draw(st.integers(0, len(found) - 1))]
    action = draw(st.sampled_from(["replace", "replace", "nudge", "drop", "more"]))
    if action == "drop":
        del holder[key]
    elif action == "more" and isinstance(holder, list):
        holder.append(odd(draw, holder[key]))
    elif action == "more":
        holder[draw(st.sampled_from(["x", "2", "low", "1.0"]))] = deepcopy(holder[key])
    elif action == "nudge" and isinstance(holder[key], int):
        holder[key] += draw(st.integers(-3, 3))
    else:
        holder[key] = odd(draw)


def kinds_of_places(tree: Any) -> list[tuple[Any, ...]]:
    """A path to the first and to the last of each kind of field: lists of many alike count as one."""
    found: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}

    def walk(part: Any, path: tuple[Any, ...]) -> None:
        for key in list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            kind = tuple("*" if isinstance(step, int) else step for step in (*path, key))
            found.setdefault(kind, []).append((*path, key))
            walk(part[key], (*path, key))

    walk(tree, ())
    return sorted({path for paths in found.values() for path in (paths[0], paths[-1])}, key=str)


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = deepcopy(tree)
    *before, last = path
    reduce(lambda part, step: part[step], before, made)[last] = value
    return made


@both
def test_every_field_with_every_odd_value(kind: str, tmp_path: Path) -> None:
    header, tensors = taken_apart(WHOLE[kind])
    about = json.loads(header["__metadata__"][kind])
    for path in kinds_of_places(about):
        for value in ODD:
            text = json.dumps(replaced(about, path, value))
            outcome(tmp_path, put_together(replaced(header, ("__metadata__", kind), text), tensors))
    for path in kinds_of_places(header):
        for value in ODD:
            outcome(tmp_path, put_together(replaced(header, path, value), tensors))


@both
@fuzzed
@given(st.data())
def test_bytes_that_are_changed_cut_or_added(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    broken = bytearray(WHOLE[kind][: data.draw(st.integers(0, len(WHOLE[kind])))])
    for _ in range(data.draw(st.integers(0, 4)) if broken else 0):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    outcome(tmp_path, bytes(broken) + data.draw(st.binary(max_size=9)))


@both
@fuzzed
@given(st.data())
def test_headers_that_say_something_else(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    header, tensors = taken_apart(WHOLE[kind])
    about = json.loads(header["__metadata__"][kind])
    for _ in range(data.draw(st.integers(1, 3))):
        change(data.draw, about)
    header["__metadata__"][kind] = json.dumps(about)
    outcome(tmp_path, put_together(header, tensors))


@both
@fuzzed
@given(st.data())
def test_tensors_of_other_names_types_and_sizes(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    header, tensors = taken_apart(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        change(data.draw, header)
    outcome(tmp_path, put_together(header, tensors))


@fuzzed
@given(st.binary(max_size=200), st.booleans())
def test_bytes_that_were_never_tables(tmp_path: Path, data: bytes, counted: bool) -> None:
    assert outcome(tmp_path, len(data).to_bytes(8, "little") + data if counted else data) is None


@both
def test_the_files_are_networks_before_they_are_damaged(kind: str, tmp_path: Path) -> None:
    assert outcome(tmp_path, WHOLE[kind]) is not None
    assert outcome(tmp_path, put_together(*taken_apart(WHOLE[kind]))) is not None
