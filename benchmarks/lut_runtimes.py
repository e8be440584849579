"""Published look-up tables as files of every format: the engine's bytes, the size, and the time of one luma plane.

320x180 to 1280x720 in each runtime, on one and on two threads, all files in turn.  Wants a quiet machine, and a C
compiler.  Writes results/lut_runtimes.json.
Usage: python benchmarks/lut_runtimes.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import record
from lut_engine import TABLES

from compress import published_tables
from compress.data.images import read_rgb, to_channels
from export import formats
from export.artifact import Card, ExportSpec, Session
from export.lut import numpy_engine
from export.lut.network import Network
from export.lut.torch_module import Lookup

TITLES = ("SR-LUT S x4", "MuLUT-SDY-X2 x4")
THREADS = (1, 2)
ROUNDS = 40
PAUSE_S = 0.05  # lets the threads of the runtime before stop spinning


def photo_plane(data: Path) -> np.ndarray:
    """180x320 levels of a photograph."""
    photo = sorted((data / "sr/train/BSDS200_jpg_first100").iterdir())[0]
    return np.ascontiguousarray(np.pad(to_channels(read_rgb(photo), 1)[..., 0], [(0, 0), (0, 320)])[:180, :320])


def files_of(network: Network, folder: Path) -> dict[str, Path]:
    """One file in every format."""
    spec = ExportSpec(Lookup(network).eval(), Card("net", network.scale, 1, network.halo, "int8"), (180, 320))
    names = formats.names(tables=True)
    return {name: formats.write(name, spec, folder / name, "net").path(folder / name) for name in names}


def times(sessions: dict[str, Session], image: np.ndarray) -> dict[str, list[float]]:
    """Milliseconds of each round, by name."""
    calls = {name: session.prepare(image) for name, session in sessions.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 3):
        for name, call in calls.items():
            time.sleep(PAUSE_S)
            start = time.perf_counter()
            call()
            if number >= 3:
                found[name].append(1000 * (time.perf_counter() - start))
    return found


def measured(network: Network, folder: Path, plane: np.ndarray) -> dict[str, dict[str, object]]:
    """Every format's numbers."""
    paths = files_of(network, folder)
    image = (plane.astype(np.float32) / np.float32(255))[..., None]
    wanted = numpy_engine.enlarge(network, plane)
    numbers: dict[str, dict[str, object]] = {}
    for threads in THREADS:
        sessions = {name: formats.open_file(path, threads) for name, path in paths.items()}
        for name, samples in times(sessions, image).items():
            low, high = np.percentile(samples, (10, 90)).tolist()
            found = numbers.setdefault(name, {"equal": True, "bytes": _bytes(paths[name])})
            same = np.array_equal(np.rint(sessions[name].run(image)[..., 0] * 255), wanted)
            found["equal"] = bool(found["equal"]) and same
            found[f"ms, {threads}"] = round(statistics.median(samples), 2)
            found[f"p10-p90, {threads}"] = [round(low, 2), round(high, 2)]
    return numbers


def _bytes(path: Path) -> int:
    """Of a file and, for OpenVINO, its weights."""
    return sum(p.stat().st_size for p in path.parent.glob(f"{path.stem}.*"))


def main() -> None:
    data = record.need_shared()
    plane, numbers = photo_plane(data), {}
    for title in TITLES:
        network = published_tables.load([data / "weights/lut" / f for f in TABLES[title]], title)
        with tempfile.TemporaryDirectory() as folder:
            files = measured(network, Path(folder), plane)
        numbers[title] = {"table_bytes": network.table_bytes, "files": files}
        print(title, numbers[title], flush=True)
    record.write("lut_runtimes", numbers, seed=0)


if __name__ == "__main__":
    main()
