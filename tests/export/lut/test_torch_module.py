"""The torch module gives the numpy engine's bytes for every network that can be made up, and refuses inexact sums."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from export.errors import ExportError
from export.formats.lut import _planes
from export.lut import numpy_engine
from export.lut.layout import stored
from export.lut.network import WHOLE, Band, Network, Source, Stage, Table, Tap, plain_taps, rows_of
from export.lut.torch_module import Lookup


def table(taps: tuple[Tap, ...], outputs: int, bits: int, band: Band | None = None, seed: int = 0) -> Table:
    """Entries of all values; of a sampler so small that sums of eight look-ups stay below 2^24."""
    low, high = (-60, 61) if any(len(tap) > 1 for tap in taps) else (-128, 128)
    shape = (rows_of(len(taps), bits, band), outputs)
    return Table(taps, np.random.default_rng(seed).integers(low, high, shape, dtype=np.int8), bits, band)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """One to three stages of any features; tables small enough to be made at once."""
    reach = draw(st.integers(0, 4))
    count = draw(st.integers(1, 3))
    stages, planes = [], 1
    for number in range(count):
        scale = draw(st.integers(1, 4)) if number == count - 1 else 1
        outputs = scale**2 if number == count - 1 else draw(st.integers(1, 3))
        sampled, bits = draw(st.booleans()), draw(st.integers(3, 7))
        tables = [draw(tables_of(planes, outputs, bits, sampled, reach)) for _ in range(draw(st.integers(1, 2)))]
        divisor, bias = draw(st.integers(1, 13)), draw(st.sampled_from([0, 127, -30]))
        stages.append(Stage(tuple(tables), divisor, bias, draw(st.sampled_from([1, 4])), scale))
        planes += outputs
    return Network("made up", tuple(stages), draw(st.sampled_from(["replicate", "reflect"])))


@st.composite
def tables_of(draw: st.DrawFn, planes: int, outputs: int, bits: int, sampled: bool, reach: int) -> Table:
    """A table over pixels of some planes."""
    taps = draw(st.integers(1, 4 if bits > 4 else 2))
    band = Band(draw(st.integers(1, 2)), draw(st.integers(bits + 1, 7))) if taps == 4 and 4 < bits < 7 else None
    band = band if draw(st.booleans()) else None
    place = st.tuples(st.integers(0, planes - 1), st.integers(-reach, reach), st.integers(-reach, reach))
    made: list[Tap] = []
    for number in range(taps):
        cuts = sorted(draw(st.lists(st.integers(0, WHOLE), max_size=3))) if sampled else []
        cuts = [100] if sampled and number == 0 and not cuts else cuts
        weights = np.diff([0, *cuts, WHOLE]).tolist()
        made.append(tuple(Source(*draw(place), weight) for weight in weights))
    return table(tuple(made), outputs, bits, band, draw(st.integers(0, 9)))


def pictures(height: int, width: int, seed: int) -> np.ndarray:
    """(2, 3, H, W): noise, and smooth parts whose neighbours lie near the diagonal."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (2, 3, height, width))
    smooth = np.clip(np.cumsum(random.integers(-9, 10, noise.shape), -1) + 128, 0, 255)
    return np.where(np.arange(width) % 4 < 3, smooth, noise).astype(np.uint8)


def output(network: Network, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found = Lookup(network)(torch.from_numpy(images.astype(np.float32) / np.float32(255)))
    levels = np.rint(found.numpy() * 255)
    assert np.array_equal(levels.astype(np.float32) * np.float32(1 / 255), found.numpy()), "multiples of 1/255"
    return levels


def of_engine(network: Network, images: np.ndarray) -> np.ndarray:
    return np.stack([[numpy_engine.enlarge(network, channel) for channel in image] for image in images])


@given(networks(), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(0, 99))
def test_it_gives_the_engines_bytes(network: Network, size: tuple[int, int], seed: int) -> None:
    images = pictures(*size, seed)
    np.testing.assert_array_equal(output(network, images), of_engine(network, images))
    np.testing.assert_array_equal(output(network, images[:1]), of_engine(network, images[:1]))


@pytest.mark.parametrize(
    "network",
    [
        Network("most rows", (Stage((table(plain_taps("S"), 1, 3),), 1),)),
        Network("most of a band", (Stage((table(plain_taps("S"), 4, 4, Band(4, 5)),), 1, scale=2),)),
        Network("published", (Stage((table(plain_taps("S"), 16, 4),), 1, scale=4),), "reflect"),
    ],
    ids=lambda n: n.name,
)
def test_it_gives_the_engines_bytes_of_large_tables(network: Network) -> None:
    images = pictures(8, 30, 1)
    np.testing.assert_array_equal(output(network, images), of_engine(network, images))


@pytest.mark.parametrize("entry", [-128, 127])
@pytest.mark.parametrize("divisor", [1, 3, 7, 48, 4095, 4096])
def test_sums_at_their_limits_are_exact(entry: int, divisor: int) -> None:
    """Samplers of 1/256 between nodes 16 apart: sums of 23 bits."""
    taps = tuple((Source(0, 0, k, 131), Source(0, 1, 0, 125)) for k in range(4))
    entries = np.full((17**4, 1), entry, np.int8)
    entries[::2] += -1 if entry > 0 else 1
    network = Network("limits", (Stage((Table(taps, entries, 4),) * (7 if divisor < 100 else 3), divisor, 3),))
    images = pictures(5, 7, 0)
    np.testing.assert_array_equal(output(network, images), of_engine(network, images))


@given(st.lists(st.floats(-2, 3, width=32), min_size=1, max_size=20))
@example([0.5 / 255, 1.5 / 255, 254.5 / 255, -0.0, 1.0])
def test_values_are_rounded_as_the_file_format_rounds_them(values: list[float]) -> None:
    """A table that gives back what it is given."""
    ramp = Table(plain_taps("1x2")[:1], (np.arange(3)[:, None] * 64).clip(0, 127).astype(np.int8), 7)
    network = Network("ramp", (Stage((ramp, ramp), 1, rotations=1),))
    image = np.array(values, np.float32)[None, :, None]
    wanted = numpy_engine.enlarge(network, _planes(image)[0])
    found = Lookup(network)(torch.from_numpy(image.transpose(2, 0, 1)[None]))
    np.testing.assert_array_equal(np.rint(found[0, 0].numpy() * 255), wanted)


def test_entries_are_int8_and_nothing_is_trained() -> None:
    network = Network("plain", (Stage((table(plain_taps("S"), 16, 4),), 1, scale=4),))
    module = Lookup(network)
    assert module.tables is network and module.scale == 4
    assert not list(module.parameters())
    sizes = {name: b.nbytes for name, b in module.named_buffers() if b.dtype == torch.int8}
    assert sum(sizes.values()) == network.table_bytes
    assert sum(b.nbytes for b in module.buffers()) < network.table_bytes + 8000


def test_a_copy_gives_the_same() -> None:
    network = Network("plain", (Stage((table(plain_taps("Y"), 4, 6),), 1, scale=2),))
    module = Lookup(network)
    x = torch.rand(1, 3, 6, 5)
    assert torch.equal(copy.deepcopy(module)(x), module(x))


def test_a_bands_rows_lie_where_their_nodes_say() -> None:
    """The row of nodes a, b, c, d: 5^3 a + 25 (b-a+2) + 5 (c-a+2) + (d-a+2), and one of the coarse table behind."""
    banded = table(plain_taps("S"), 2, 5, Band(2, 6))
    rows = stored(banded)
    near = [(a, b, c, d) for a in range(9) for b in range(9) for c in range(9) for d in range(9)]
    near = [n for n in near if max(abs(k - n[0]) for k in n) <= 2]
    for entry, (a, b, c, d) in zip(banded.entries, near, strict=False):
        np.testing.assert_array_equal(rows[125 * a + 25 * (b - a + 2) + 5 * (c - a + 2) + d - a + 2], entry)
    np.testing.assert_array_equal(rows[9 * 125 :], banded.entries[len(near) :])


def means(count: int) -> tuple[Tap, ...]:
    """Taps that are means of two pixels."""
    return tuple((Source(0, 0, k, 100), Source(0, 1, k, 156)) for k in range(count))


HEAVY = Table(means(2), np.full((9, 1), 60, np.int8), 7)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        # 3 tables, 4 rotations, 60 at most, 128 * 256 of a node to the next; and half a divisor
        (
            Stage((HEAVY,) * 3, 1),
            "tables big, stage 0: sums up to 23609344, which float32 does not hold exactly, expected at most 16777216; "
            "write it as lut or c",
        ),
        (Stage((table(means(4), 1, 3),), 1, rotations=1), "tables big, stage 0: keys up to 67108864"),
    ],
)
def test_what_float32_cannot_hold_is_refused(stage: Stage, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        Lookup(Network("big", (stage,)))
