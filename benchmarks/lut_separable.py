"""One-dimensional tables in our engine: PSNR, time for each instruction set, instructions.

ShiftLUT's published tables (--shiftlut: LUT_test/LUTs of github.com/Sailor-t/ShiftLUT, not in shared/; rows that
are there already stay without it), and what benchmarks/lut_training.py left in --tables.  320x180 luma to x4.
Wants a quiet machine.  Writes results/lut_separable.json.
Usage: python benchmarks/lut_separable.py [--shiftlut DIR] [--tables runs/lut_training]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import record
from lut_engine import REPEATS, SETS, luma, milliseconds, psnr
from lut_instructions import each_machine

from compress import published_folders
from export.lut import container, native
from export.separable import csource
from export.separable.network import Separable

PUBLISHED = {
    f"ShiftLUT-{size}, published": f"ShiftLUT_sr_s{blocks}_int" for size, blocks in (("S", 0), ("M", 1), ("L", 7))
}
MACHINES = {"AVX-512 VBMI": "-march=native", "AVX2": "-march=x86-64-v3", "plain C": "-march=x86-64"}


def networks(shiftlut: Path | None, tables: Path) -> dict[str, Separable]:
    """Published ones and those that were trained here."""
    found = {}
    if shiftlut is not None:
        found = {title: published_folders.load(shiftlut / name, name) for title, name in PUBLISHED.items()}
    for path in sorted(tables.glob("*.lut")):
        network = container.read(path)
        if isinstance(network, Separable):
            found[path.stem.replace("-", " ")] = network
    return found


def engine_for(network: Separable, flags: str, folder: Path) -> native.Engine:
    """Of the C that is compiled by some flags."""
    source = csource.source_of(replace(network, name="net"), tables=False)
    (folder / "net.c").write_text(source.code)
    (folder / "net.h").write_text(source.header)
    made = folder / f"{flags.strip('-')}.so"
    subprocess.run(
        ["gcc", "-O3", "-std=c99", flags, "-shared", "-fPIC", "net.c", "-o", str(made)], cwd=folder, check=True
    )
    return native.Engine(ctypes.CDLL(str(made)), "net", network.scale, csource.stored(network))


def row(network: Separable, data: Path, scratch: Path) -> dict[str, object]:
    """What is measured of one network."""
    plane = luma(data)
    engines = {machine: engine_for(network, flags, scratch) for machine, flags in MACHINES.items()}
    expected = native.enlarged(network, plane)
    assert all(np.array_equal(engine.enlarge(plane), expected) for engine in engines.values())
    best = engines[next(iter(MACHINES))]
    return {
        "psnr": {name: psnr(network, best.enlarge, data / "sr" / name) for name in SETS},
        "table_bytes": network.table_bytes,
        "ms": {
            machine: milliseconds(lambda e=engine: e.enlarge(plane, 1), REPEATS) for machine, engine in engines.items()
        },
        "ms, two cores": milliseconds(lambda: best.enlarge(plane, 2), REPEATS),
        "ms, numpy": milliseconds(lambda: native.enlarged(network, plane), 1),
        "look-ups a pixel": network.lookups / network.scale**2,
        "instructions a pixel": each_machine(network, scratch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shiftlut", type=Path)
    parser.add_argument("--tables", type=Path, default=Path("runs/lut_training"))
    args = parser.parse_args()
    data = record.need_shared()
    earlier = record.RESULTS / "lut_separable.json"
    numbers = json.loads(earlier.read_text())["numbers"] if earlier.is_file() else {}
    for title, network in networks(args.shiftlut, args.tables).items():
        with tempfile.TemporaryDirectory() as scratch:
            numbers[title] = row(network, data, Path(scratch))
        print(title, numbers[title], flush=True)
    record.write("lut_separable", numbers, seed=0)


if __name__ == "__main__":
    main()
