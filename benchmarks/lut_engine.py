"""Published look-up tables in our engine: PSNR on the test sets, and the time of one 320x180 luma plane.

SR-LUT and MuLUT tables of shared/data/weights/lut; MuLUT also near its diagonal (as cut, not trained on), and with
samplers of 5x5 pixels that have no work left out (time alone).  Beside each the time that its row reads alone would
take: the same number of 16-byte rows at random places of as many bytes.  Wants a quiet machine.
Writes results/lut_engine.json.
Usage: python benchmarks/lut_engine.py
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import record
from numpy.typing import NDArray

from compress import published_tables
from compress.data import folder
from compress.data.images import read_rgb, to_channels
from compress.evaluate import score
from compress.methods.lut_diagonal import LutDiagonal
from compress.methods.lut_samplers import LutSamplers
from compress.models._written import Written
from compress.network import Network as Network_
from compress.network import WeightsSource
from export.compiled import library
from export.errors import MissingRuntimeError
from export.lut import native, numpy_engine
from export.lut.network import WHOLE, Network, Table, Tables

TABLES = {
    "SR-LUT S x4": ["srlut/Model_S_x4_4bit_int8.npy"],
    "SR-LUT F x4": ["srlut/Model_F_x4_4bit_int8.npy"],
    "SR-LUT S x2": ["srlut/Model_S_x2_4bit_int8.npy"],
    "MuLUT-SDY-X2 x4": [f"mulut/LUT_ft_x4_4bit_int8_s{s}_{p}.npy" for s in (1, 2) for p in "sdy"],
}
SETS = ("Set5", "Set14", "B100")
REPEATS = 60
PROBE = """
#include <stdint.h>
#include <string.h>
int64_t probe(const int8_t *table, const int32_t *rows, long count) {
    int64_t a = 0, b = 0, part[2];
    for (long i = 0; i < count; ++i) { memcpy(part, table + (long)rows[i] * 16, 16); a += part[0]; b ^= part[1]; }
    return a ^ b;
}
"""


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The median."""
    samples = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        work()
        samples.append(time.perf_counter() - start)
    return round(1000 * statistics.median(samples[3:]), 3)


def row_nanoseconds(table_bytes: int) -> float:
    """Of an independent read of 16 bytes at a random place of a working set."""
    made = library({"probe.c": PROBE})
    assert made is not None
    random, count = np.random.default_rng(0), 1_000_000
    table = np.zeros(max(table_bytes, 16), np.int8)
    rows = random.integers(0, len(table) // 16, count, dtype=np.int32)
    places = ctypes.c_void_p(table.ctypes.data), ctypes.c_void_p(rows.ctypes.data)
    return milliseconds(lambda: made.probe(*places, ctypes.c_long(count)), 20) * 1e6 / count


def networks(weights: Path) -> dict[str, Network]:
    """Published tables, and what the methods make of them."""
    found = {title: published_tables.load([weights / f for f in files], title) for title, files in TABLES.items()}
    mulut = list(found)[-1]
    given = Network_("mulut", Written(found[mulut]).eval(), 4, 3, WeightsSource(None, "", builtin=False))
    near = LutDiagonal()(given, None).module.tables  # type: ignore[arg-type]
    sampled = LutSamplers(window=5)(given, None).module.tables  # type: ignore[arg-type]
    stages = tuple(replace(s, tables=tuple(busy(t) for t in s.tables)) for s in sampled.stages)
    return {**found, "MuLUT + DFC x4, raw": near, "MuLUT + AutoLUT x4, time": replace(sampled, stages=stages)}


def busy(table: Table) -> Table:
    """No source of a tap weighs nothing."""
    taps = []
    for tap in table.taps:
        spread = [replace(source, weight=2) for source in tap]
        taps.append((replace(spread[0], weight=WHOLE - 2 * (len(tap) - 1)), *spread[1:]))
    return replace(table, taps=tuple(taps))


def psnr(network: Tables, run: Callable[[np.ndarray], np.ndarray], images: Path) -> float:
    """On Y, every channel through the tables."""
    scores = []
    for pair in folder.pairs(images, network.scale):
        small, large = pair.load()[:2]
        found = np.stack([run(np.ascontiguousarray(small[..., c])) for c in range(small.shape[2])], -1)
        scores.append(score(found, large, network.scale).psnr)
    return round(statistics.mean(scores), 3)


def of_numba(network: Network, plane: np.ndarray) -> dict[str, float]:
    """The time of the numba engine on one core, where numba is installed."""
    try:
        run = native.runner(network, 1, "numba")
    except MissingRuntimeError:
        return {}
    assert np.array_equal(run(plane), numpy_engine.enlarge(network, plane))
    return {"ms, numba": milliseconds(lambda: run(plane), REPEATS)}


def luma(data: Path) -> NDArray[np.uint8]:
    """320x180 pixels of a photograph."""
    photo = sorted((data / "sr/train/BSDS200_jpg_first100").iterdir())[0]
    grey = to_channels(read_rgb(photo), 1)[..., 0]
    return np.ascontiguousarray(np.pad(grey, [(0, 0), (0, 320)], "symmetric")[:180, :320])


def main() -> None:
    data = record.need_shared()
    plane = luma(data)
    numbers = {}
    for title, network in networks(data / "weights/lut").items():
        engine = native.engine_of(network)
        assert engine is not None, "no C compiler"
        assert np.array_equal(engine.enlarge(plane), numpy_engine.enlarge(network, plane))
        one = milliseconds(lambda e=engine: e.enlarge(plane, 1), REPEATS)
        two = milliseconds(lambda e=engine: e.enlarge(plane, 2), REPEATS)
        reads = [(s.rotations * (len(t.taps) + 1), t.outputs) for s in network.stages for t in s.tables]
        pixels = plane.size * network.scale**2
        numbers[title] = {
            "psnr": {} if "time" in title else {n: psnr(network, engine.enlarge, data / "sr" / n) for n in SETS},
            "table_bytes": network.table_bytes,
            "ms, one core": one,
            "ms, two cores": two,
            **of_numba(network, plane),
            "ms, numpy": milliseconds(lambda n=network: numpy_engine.enlarge(n, plane), 3),
            "ns a pixel": round(1e6 * one / pixels, 2),
            "rows read a pixel": round(sum(rows for rows, _ in reads) / network.scale**2, 2),
            "ns a row": round(1e6 * one / (plane.size * sum(rows for rows, _ in reads)), 2),
            "ns a row, reads alone": round(row_nanoseconds(network.table_bytes), 2),
        }
        print(title, numbers[title], flush=True)
    record.write("lut_engine", numbers, seed=0)


if __name__ == "__main__":
    main()
