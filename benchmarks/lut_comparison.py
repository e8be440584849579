"""Look-up tables beside small convolutional networks in int8, all in one run: dB, ms, bytes, arithmetic.

RGB 320x180 to 1280x720.  Tables: published SR-LUT and MuLUT, and what benchmarks/lut_training.py left in --tables.
ESPCN, FSRCNN and ABPN are trained here on T91 and half of BSDS200 towards official SPAN, as the tables are, for --steps
steps, and quantized by int8-tuned; SPAN-28 has its official weights.  Scores through each file's own runtime.
Trainings go on where they stopped (--work).  Wants a quiet machine for the times.  Writes results/lut_comparison.json.
Usage: python benchmarks/lut_comparison.py [--tables runs/lut_training] [--work runs/lut_comparison] [--steps 8000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import record
from int8 import SETS, SIZE, WEIGHTS, calibration
from lut_engine import TABLES

from compress import cost, pipeline, published_tables, recipe, source
from compress.cli import _options
from compress.measure import through
from compress.methods.distil import Distil
from compress.network import Network
from compress.options import Options
from compress.progress import Reporter
from compress.registry import TASKS
from compress.workshop import Workshop
from export import formats, timing
from export.artifact import Card
from export.lut import container
from export.receptive_field import Reach
from export.separable.network import Separable

TRAINED = {
    "ESPCN, ReLU": ("espcn", ("colours=1", "activation=relu")),
    "FSRCNN": ("fsrcnn", ("colours=1",)),
    "ABPN": ("abpn", ()),
}
RUNTIMES = ("tflite", "openvino")
REPEATS = 30


def networks(data: Path, work: Path, steps: int) -> dict[str, Network]:
    """The convolutional networks, trained where that is not done yet."""
    images = work / "calibration"
    if not images.exists():
        calibration(data, images)
    options = Options(str(data / "weights/sr" / WEIGHTS["SPAN, 48 channels"]), "mobile", calibration=images)
    teacher = source.resolve(options.request)
    task = TASKS[teacher.task](teacher, options.judged_on)
    found = {}
    for title, (model, sizes) in TRAINED.items():
        method = Distil(model, sizes, steps=steps, batch=16, planes="all", learning_rate=1e-3, float32_share=0.1)
        found[title] = method(teacher, task, Workshop(work / model, Reporter()))
    options = replace(options, model=str(data / "weights/sr" / WEIGHTS["SPAN, 28 channels"]))
    return {**found, "SPAN, 28 channels": source.resolve(options.request)}


def int8_files(title: str, network: Network, work: Path) -> dict[str, Path]:
    """The network's int8 files, written where they are not there yet."""
    out = work / "files" / title.replace(" ", "-").replace(",", "")
    known = {kind: path for kind in RUNTIMES for path in out.glob(f"{kind}/*{formats.by_name(kind).SUFFIX}")}
    if len(known) == len(RUNTIMES):
        return known
    options = Options("", "mobile", calibration=work / "calibration", input_size=SIZE)
    task, reach = TASKS[network.task](network, options.judged_on), pipeline.reach_of(network)
    made = recipe.load("int8-tuned").apply(network, task)
    spec = pipeline.specs_of(made, task, reach, SIZE, options)[-1]
    return {kind: pipeline.write_one(spec, kind, out / kind).path(out / kind) for kind in RUNTIMES}


def table_files(data: Path, work: Path, tables: Path) -> dict[str, Path]:
    """Published tables and those that were trained here."""
    found = {}
    (work / "files").mkdir(parents=True, exist_ok=True)
    for title, files in TABLES.items():
        if title.endswith("x4"):
            network = published_tables.load([data / "weights/lut" / file for file in files], "tables")
            found[title] = work / "files" / f"{title.replace(' ', '-')}.lut"
            container.write(network, found[title], Card("tables", 4, 3, network.halo, "int8"))
    return {**found, **{path.stem.replace("-", " "): path for path in sorted(tables.glob("*.lut"))}}


def scores(path: Path, network: Network, data: Path) -> dict[str, float]:
    """Through the file's own runtime."""
    card = formats.read_card(path)
    assert card is not None
    session, found = formats.open_file(path, 2), {}
    for name in SETS:
        task = TASKS[network.task](network, Options("", "", data=data / "sr" / name).judged_on)
        run = through(session, network, Reach(card.halo, card.unit))
        found[name] = round(task.judge(run, lambda done: None).mean, 3)
    return found


def apart(path: Path) -> dict[str, float]:
    """Scores of an OpenVINO file, in a process of its own that leaves AMX alone.

    OpenVINO 2026.4 crashes in its AMX kernels on FSRCNN's int8 file where the image has some heights, 57 for one.
    """
    command = [sys.executable, __file__, "--score", str(path)]
    around = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
    done = subprocess.run(command, env=around, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def arithmetic(network: Network) -> dict[str, float]:
    """Multiplications for each output pixel of three channels."""
    macs = cost.measure(network.module, (1, 3, *SIZE)).macs
    return {"products a pixel": round(macs / (16 * SIZE[0] * SIZE[1]), 1)}


def look_ups(path: Path) -> dict[str, float]:
    """Rows read and products for each output pixel of three channels."""
    network = container.read(path)
    if isinstance(network, Separable):
        return {"rows read a pixel": 3 * network.lookups / network.scale**2, "products a pixel": 0}
    rows = products = 0
    for stage in network.stages:
        for table in stage.tables:
            corners = stage.rotations * (len(table.taps) + 1)
            rows += corners
            products += corners * table.outputs + stage.rotations * len(table.sources) * table.sampled
    pixels = network.scale**2 / 3
    return {"rows read a pixel": round(rows / pixels, 1), "products a pixel": round(products / pixels, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, default=Path("runs/lut_training"))
    parser.add_argument("--work", type=Path, default=Path("runs/lut_comparison"))
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--score", type=Path, help="print the scores of one file as JSON, and do nothing else")
    args = parser.parse_args()
    _options.use_threads(None)
    data = record.need_shared()
    if args.score:
        weights = data / "weights/sr" / WEIGHTS["SPAN, 28 channels"]
        print(json.dumps(scores(args.score, source.resolve(Options(str(weights), "mobile").request), data)))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    found = networks(data, args.work, args.steps)
    span = found["SPAN, 28 channels"]
    files: dict[str, tuple[Path, Mapping[str, float]]] = {}
    for title, path in table_files(data, args.work, args.tables).items():
        files[f"{title} | lut"] = (path, look_ups(path))
    for title, network in found.items():
        for kind, path in int8_files(title, network, args.work).items():
            files[f"{title} | {kind} int8"] = (path, arithmetic(network))
    paths = [path for path, _ in files.values()]
    timed = {n: timing.measure(paths, SIZE, 3, n, REPEATS) for n in (1, 2) if n <= timing.cores()}
    numbers = {}
    for place, (title, (path, work)) in enumerate(files.items()):
        size = sum(part.stat().st_size for part in path.parent.glob(f"{path.stem}.*"))
        times = {f"ms, {n} threads": round(found[place].median_ms, 2) for n, found in timed.items()}
        reached = apart(path) if "openvino" in title else scores(path, span, data)
        numbers[title] = {**reached, "bytes": size, **times, **work}
        print(title, numbers[title], flush=True)
    record.write("lut_comparison", numbers, seed=0)


if __name__ == "__main__":
    main()
