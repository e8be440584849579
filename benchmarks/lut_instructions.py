"""Instructions that the exported C of look-up tables takes for each output pixel, on aarch64 and x86-64.

The program of `compress export --format c`, compiled by gcc -O3 (aarch64: Armv8-A with NEON, counted by a plugin of
qemu-aarch64; x86-64-v3: AVX2, and x86-64 without, counted by valgrind), enlarges 320x180 and 320x90 pixels of a
photograph by four; the difference leaves out what starting costs.  The number does not depend on the machine's load.
Needs gcc, aarch64-linux-gnu-gcc, qemu-user and valgrind.  Writes results/lut_instructions.json.
Usage: python benchmarks/lut_instructions.py
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import record
from lut_engine import networks

from compress.data.images import read_rgb, to_channels
from export.lut import cpackage, native
from export.lut.network import Tables

HERE = Path(__file__).resolve().parent
MACHINES = {
    "aarch64, NEON": ("aarch64-linux-gnu-gcc", ["-O3", "-static"]),
    "x86-64-v3, AVX2": ("gcc", ["-O3", "-march=x86-64-v3"]),
    "x86-64": ("gcc", ["-O3"]),
}
ROWS = (180, 90)
WIDTH = 320


def counted(program: Path, picture: bytes, machine: str, plugin: Path) -> int:
    """Instructions of one run."""
    emulated = machine.startswith("aarch64")
    command: Sequence[str] = ["qemu-aarch64", "-plugin", str(plugin)] if emulated else _valgrind(program)
    done = subprocess.run([*command, str(program)], input=picture, capture_output=True, check=True)
    said = done.stderr.decode()
    found = re.search(r"instructions (\d+)" if emulated else r"Collected : (\d+)", said)
    assert found is not None, said[-500:]
    return int(found[1])


def _valgrind(program: Path) -> list[str]:
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={program.parent / 'out'}"]


def each_machine(network: Tables, scratch: Path) -> dict[str, float]:
    """Instructions for each output pixel."""
    plugin = scratch / "count.so"
    flags = ["-shared", "-fPIC", "-O2", str(HERE / "count_instructions.c"), "-o", str(plugin)]
    subprocess.run(["gcc", *flags], check=True)
    photo = sorted((record.need_shared() / "sr/train/BSDS200_jpg_first100").iterdir())[0]
    grey = np.ascontiguousarray(to_channels(read_rgb(photo), 1)[: ROWS[0], :WIDTH, 0])
    pictures = [f"P5\n{WIDTH} {rows}\n255\n".encode() + grey[:rows].tobytes() for rows in ROWS]
    found = {}
    for machine, (compiler, options) in MACHINES.items():
        folder = scratch / machine.split(",")[0]
        cpackage.write(native.source_of(replace(network, name="net")), folder)
        subprocess.run([compiler, "-std=c99", *options, "net.c", "net_example.c", "-o", "net"], cwd=folder, check=True)
        whole, half = (counted(folder / "net", picture, machine, plugin) for picture in pictures)
        found[machine] = round((whole - half) / (WIDTH * (ROWS[0] - ROWS[1]) * network.scale**2), 1)
    return found


def main() -> None:
    numbers: dict[str, dict[str, float]] = {}
    for title, network in networks(record.need_shared() / "weights/lut").items():
        with tempfile.TemporaryDirectory() as scratch:
            numbers[title] = each_machine(network, Path(scratch))
        print(title, numbers[title], flush=True)
    record.write("lut_instructions", numbers, seed=0)


if __name__ == "__main__":
    main()
