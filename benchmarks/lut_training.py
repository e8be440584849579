"""Look-up tables trained here: from scratch, and from the published tables of MuLUT; scores after every step.

T91 and half of BSDS200, official SPAN as the teacher.  Every row goes on where it stopped (--work); a row may run on
each core.  The tables lie in --work as .lut files.  Set5, Set14 and B100 are looked at once a step.
Writes results/lut_training.json after every row.
Usage: python benchmarks/lut_training.py [--work DIR] [ROW...]
"""

from __future__ import annotations

import argparse
import fcntl
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import record
from int8 import WEIGHTS, calibration

from compress import published_tables, source
from compress.cli import _options
from compress.data import folder
from compress.evaluate import score
from compress.methods.distil import Distil
from compress.methods.lut_diagonal import LutDiagonal
from compress.methods.lut_finetune import LutFinetune
from compress.methods.lut_samplers import LutSamplers
from compress.methods.reparameterize import Reparameterize
from compress.models._written import Written
from compress.network import Method, Network, WeightsSource
from compress.options import Options
from compress.progress import Reporter
from compress.registry import METHODS, TASKS
from compress.workshop import Workshop
from export.artifact import Card
from export.lut import container
from export.lut.native import runner

SETS = ("Set5", "Set14", "B100")
ROWS: dict[str, tuple[str, Sequence[Method]]] = {
    "MuLUT + DFC": ("published, its own teacher", (LutDiagonal(), LutFinetune(steps=1500, teacher_weight=1.0))),
    "MuLUT + AutoLUT": ("published", (LutSamplers(window=5, mix=True), LutFinetune(steps=2000))),
    "MuLUT, trained here": (
        "SPAN",
        (Distil("mulut", ("width=48", "depth=1"), steps=6000), Reparameterize(), LutFinetune(steps=1500)),
    ),
    "MuLUT + AutoLUT, trained here": (
        "SPAN",
        (
            Distil("mulut", ("width=48", "depth=1", "window=5", "mix=true"), steps=6000),
            Reparameterize(),
            LutFinetune(steps=1500),
        ),
    ),
    "ShiftLUT, 142 KiB, trained here": (
        "SPAN",
        (
            Distil("shift-lut", ("blocks=4",), steps=8000, learning_rate=5e-3, validate_every=500),
            Reparameterize(),
            LutFinetune(steps=1500),
        ),
    ),
    "SPF-Light, trained here": (
        "SPAN",
        (
            Distil("spf-lut", ("patterns=S", "width=32", "depth=1", "window=5", "mix=true", "band=true"), steps=6000),
            Reparameterize(),
            LutFinetune(steps=1500),
        ),
    ),
}


def scores(network: Network, data: Path) -> dict[str, float]:
    """Of the tables, in the engine of this machine."""
    tables = network.module.tables
    run = runner(tables() if callable(tables) else tables, 1)
    found = {}
    for name in SETS:
        values = []
        for pair in folder.pairs(data / "sr" / name, 4):
            small, large = pair.load()[:2]
            planes = [run(np.ascontiguousarray(small[..., c])) for c in range(small.shape[2])]
            values.append(score(np.stack(planes, -1), large, 4).psnr)
        found[name] = round(statistics.mean(values), 3)
    return found


def trained(title: str, data: Path, work: Path) -> dict[str, object]:
    """The scores before and after every step of a row, the minutes, and the curve of every training."""
    images = work / "calibration"
    if not images.exists():
        calibration(data, images)
    given = source.resolve(Options(str(data / "weights/sr" / WEIGHTS["SPAN, 48 channels"]), "mobile").request)
    begin, steps = ROWS[title]
    network = given
    if begin.startswith("published"):
        files = [data / f"weights/lut/mulut/LUT_ft_x4_4bit_int8_s{s}_{p}.npy" for s in (1, 2) for p in "sdy"]
        module = Written(published_tables.load(files, "mulut")).eval()
        network = Network("mulut", module, 4, 3, WeightsSource(None, "", builtin=False))
    task = TASKS[given.task](given, Options("", "", calibration=images).judged_on)
    place = work / title.replace(" ", "-").replace(",", "")
    rows = [{"step": "published tables", **scores(network, data)}] if network is not given else []
    teacher = network if begin.endswith("teacher") else given
    for number, step in enumerate(steps, start=1):
        begun = time.monotonic()
        network = step(network, task, Workshop(place / str(number), Reporter(), 0, teacher))
        minutes = round((time.monotonic() - begun) / 60, 1)
        tables = network.module.tables() if callable(network.module.tables) else network.module.tables
        log = place / str(number) / "log.jsonl"
        curve = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
        rows.append(
            {
                "step": next(name for name in METHODS if METHODS[name] is type(step)),
                **scores(network, data),
                "table_bytes": tables.table_bytes,
                "minutes": minutes,
                "curve": [[entry["step"], round(entry["validation"], 3)] for entry in curve],
            }
        )
        print(title, rows[-1], flush=True)
    container.write(tables, place.with_suffix(".lut"), Card("tables", 4, 3, tables.halo, "int8"))
    return {"steps": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/lut_training"))
    parser.add_argument("rows", nargs="*", default=list(ROWS))
    args = parser.parse_args()
    _options.use_threads(1)  # a row a core
    data = record.need_shared()
    args.work.mkdir(parents=True, exist_ok=True)
    for title in args.rows:
        row = trained(title, data, args.work)
        with (args.work / "lock").open("w") as lock:  # rows may run side by side
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = record.RESULTS / "lut_training.json"
            known = json.loads(path.read_text())["numbers"] if path.is_file() else {}
            record.write("lut_training", {**known, title: row}, seed=0)


if __name__ == "__main__":
    main()
