"""Published look-up tables in our engine: PSNR on the test sets, and the time of one 320x180 luma plane.

SR-LUT and MuLUT tables of shared/data/weights/lut.  Wants a quiet machine.  Writes results/lut_engine.json.
Usage: python benchmarks/lut_engine.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import record

from compress import published_tables
from compress.data import folder
from compress.data.images import read_rgb, to_channels
from compress.evaluate import score
from export.lut import native, numpy_engine
from export.lut.network import Network

TABLES = {
    "SR-LUT S x4": ["srlut/Model_S_x4_4bit_int8.npy"],
    "SR-LUT F x4": ["srlut/Model_F_x4_4bit_int8.npy"],
    "SR-LUT S x2": ["srlut/Model_S_x2_4bit_int8.npy"],
    "MuLUT-SDY-X2 x4": [f"mulut/LUT_ft_x4_4bit_int8_s{s}_{p}.npy" for s in (1, 2) for p in "sdy"],
}
SETS = ("Set5", "Set14", "B100")
REPEATS = 60


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The median."""
    samples = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        work()
        samples.append(time.perf_counter() - start)
    return round(1000 * statistics.median(samples[3:]), 3)


def psnr(network: Network, run: Callable[[np.ndarray], np.ndarray], images: Path) -> float:
    """On Y, every channel through the tables."""
    scores = []
    for pair in folder.pairs(images, network.scale):
        small, large = pair.load()[:2]
        found = np.stack([run(np.ascontiguousarray(small[..., c])) for c in range(small.shape[2])], -1)
        scores.append(score(found, large, network.scale).psnr)
    return round(statistics.mean(scores), 3)


def main() -> None:
    data = record.need_shared()
    photo = sorted((data / "sr/train/BSDS200_jpg_first100").iterdir())[0]
    grey = to_channels(read_rgb(photo), 1)[..., 0]
    plane = np.ascontiguousarray(np.pad(grey, [(0, 0), (0, 320)], "symmetric")[:180, :320])
    numbers = {}
    for title, files in TABLES.items():
        network = published_tables.load([data / "weights/lut" / f for f in files], title)
        engine = native.engine_of(network)
        assert engine is not None, "no C compiler"
        assert np.array_equal(engine.enlarge(plane), numpy_engine.enlarge(network, plane))
        one = milliseconds(lambda e=engine: e.enlarge(plane, 1), REPEATS)
        two = milliseconds(lambda e=engine: e.enlarge(plane, 2), REPEATS)
        reads = [(s.rotations * (len(t.taps) + 1), t.outputs) for s in network.stages for t in s.tables]
        pixels = plane.size * network.scale**2
        numbers[title] = {
            "psnr": {name: psnr(network, engine.enlarge, data / "sr" / name) for name in SETS},
            "table_bytes": network.table_bytes,
            "ms, one core": one,
            "ms, two cores": two,
            "ms, numpy": milliseconds(lambda n=network: numpy_engine.enlarge(n, plane), 3),
            "ns a pixel": round(1e6 * one / pixels, 2),
            "rows read a pixel": round(sum(rows for rows, _ in reads) / network.scale**2, 2),
            "GB/s of rows": round(plane.size * sum(rows * size for rows, size in reads) / (one * 1e6), 2),
        }
        print(title, numbers[title], flush=True)
    record.write("lut_engine", numbers, seed=0)


if __name__ == "__main__":
    main()
