"""Pruning of single weights: ISS-P and its rivals, the same iterations for each, on small EDSR and SPAN-28.

T91 and half of BSDS200, no teacher. All begin with the same random values of the seed: those of torch, or with
`--start family` the family's own, by which SPAN begins as bilinear enlargement (random masks cut the paths that
carry the image, so that scratch and RigL lose by it). ISS-P, RigL and scratch, a fixed random mask, take all
steps; magnitude, SRP and ASSL prune a dense network that took the first two fifths, the same for all three. Every
pruning phase takes three tenths of the steps (RigL moves for three quarters), the rest trains on. Set5, Set14 and
B100 are looked at once a row; rows also tell the bytes of `compress pack`. Intervals are Student's over the
seeds, also of the differences between ISS-P and each rival on the same seed.

Rows are kept one by one in results/sparsity.json and not measured again; a row that is cut goes on where it stopped
(--work).  Several processes may run side by side: each takes rows that no other holds.
Usage: python benchmarks/sparsity.py [--steps N] [--seeds 0 1 2] [--networks NAME...] [--scales 4 2]
       [--sparsities 0.9 0.95 0.99] [--methods NAME...] [--start torch|family] [--work DIR] [--threads N]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import record
from int8 import calibration

from compress import pipeline, zoo
from compress.cli import _options
from compress.measure import through
from compress.methods._sparsity import restarted
from compress.methods.assl import Assl
from compress.methods.iss_p import IssP
from compress.methods.magnitude import Magnitude
from compress.methods.reparameterize import merged
from compress.methods.rigl import Rigl
from compress.methods.srp import Srp
from compress.network import Network
from compress.progress import Reporter
from compress.registry import TASKS
from compress.task import Data, Task
from compress.train import TrainRecipe, train
from compress.train.shaping import Beginning
from compress.weights import load_into, read, write
from compress.workshop import Workshop
from export.packing.container import pack
from export.packing.regions import regions_of
from export.torch_session import TorchSession

NETWORKS: Mapping[str, tuple[str, dict[str, int]]] = {
    "EDSR, 32 channels, 5 blocks": ("edsr", {"width": 32, "blocks": 5}),
    "SPAN, 28 channels": ("span", {"channels": 28}),
}
SETS = ("Set5", "Set14", "B100")
SPARSITIES = (0.9, 0.95, 0.99)
DENSE, PRUNING = 0.4, 0.3  # shares of the steps
SETTINGS: dict[str, Any] = {"batch": 16, "crop": 32, "loss": "l1", "learning_rate": 5e-4, "teacher_weight": 0.0}
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}  # 97.5 %, by the number of seeds
Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One training."""

    network: str
    scale: int
    sparsity: float
    method: str
    seed: int
    steps: int
    start: str

    @property
    def group(self) -> str:
        """All seeds of it."""
        own = "" if self.start == "torch" else ", started by the family"
        return f"{self.network}{own}, x{self.scale}, {self.sparsity:g}, {self.method}"

    @property
    def title(self) -> str:
        """Its key among the rows."""
        return f"{self.group}, seed {self.seed}, {self.steps} steps"

    @property
    def folder(self) -> str:
        """Where it works."""
        return self.title.replace(", ", "_").replace(" ", "-")


def method_of(row: Row) -> Callable[[Network, Task, Workshop], Network]:
    """The step of a recipe."""
    after = row.steps - round(DENSE * row.steps)  # what is left where a dense network comes first
    pruning = max(1, round(PRUNING * row.steps))
    scratch = row.start == "torch"
    whole = {**SETTINGS, "steps": row.steps, "validate_every": row.steps, "scratch": scratch}
    rest = {**SETTINGS, "steps": after, "validate_every": after}
    methods: dict[str, Callable[[Network, Task, Workshop], Network]] = {
        "scratch": Rigl(row.sparsity, share=0.0, **whole),
        "magnitude": Magnitude(row.sparsity, **rest),
        "srp": Srp(row.sparsity, prune_steps=pruning, **rest),
        "assl": Assl(row.sparsity, prune_steps=pruning, **rest),
        "rigl": Rigl(row.sparsity, **whole),
        "iss-p": IssP(row.sparsity, prune_steps=pruning, **whole),
    }
    return methods[row.method]


METHODS = ("scratch", "magnitude", "srp", "assl", "rigl", "iss-p")
FROM_DENSE = ("magnitude", "srp", "assl")


def dense(row: Row, given: Network, images: Path, work: Path) -> Network:
    """The network after the first steps, trained once for all that begin with it; it starts where the others do."""
    plain = merged(given.module)
    start = restarted(plain, row.seed) if row.start == "torch" else plain
    name = replace(row, sparsity=0.0, method="dense").folder
    folder, steps = work / name, max(1, round(DENSE * row.steps))
    with in_turn(work / f"{name}.lock"):
        done = folder / "weights.safetensors"
        if not done.is_file():
            recipe = TrainRecipe(
                model=given.name, scale=row.scale, steps=steps, validate_every=steps, seed=row.seed, **SETTINGS
            )
            known = (folder / "recipe.json").is_file()
            begin = Beginning(replace(given, module=start))
            train(recipe, [images], folder, None, known, Reporter(quiet=True), begin)
            shutil.rmtree(folder / "images", ignore_errors=True)
    load_into(plain, read(done), done)
    return replace(given, module=plain.eval())


def measured(row: Row, data: Path, work: Path) -> dict[str, Any]:
    """Scores, bytes and minutes."""
    family, sizes = NETWORKS[row.network]
    given = zoo.fresh(family, row.scale, row.seed, **sizes)
    images, folder = work / "calibration", work / row.folder
    begun = time.monotonic()
    if row.method in FROM_DENSE:
        given = dense(row, given, images, work)
    task = TASKS[given.task](given, Data(data / "sr/Set5", images))
    after = method_of(row)(given, task, Workshop(folder, Reporter(quiet=True), row.seed))
    minutes = (time.monotonic() - begun) / 60
    reach = pipeline.reach_of(after)
    run = through(TorchSession(after.module), after, reach)
    scores = {
        name: TASKS[after.task](after, Data(data / "sr" / name, images)).judge(run, lambda done: None).mean
        for name in SETS
    }
    plain = folder / "plain.safetensors"
    write(plain, after.module.state_dict(), {})
    content = plain.read_bytes()
    _, summary = pack(content, regions_of(plain, content))
    for name in ("images", "checkpoint.pt"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return {
        **{name: round(value, 4) for name, value in scores.items()},
        "zeros": round(1 - summary.nonzeros / summary.numbers, 5),
        "file_bytes": summary.file_bytes,
        "packed_bytes": summary.packed_bytes,
        "bytes_per_nonzero": round(summary.bytes_per_nonzero, 3),
        "bound_per_nonzero": round(summary.bound_per_nonzero, 3),
        "minutes": round(minutes, 2),
    }


def interval(values: Sequence[float]) -> list[float | None]:
    """The mean, and half the length of Student's 95 % interval; none for one value."""
    half = None
    if len(values) > 1:
        half = round(_STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5, 3)
    return [round(statistics.mean(values), 3), half]


def summary(rows: Rows) -> dict[str, dict[str, Any]]:
    """Each group of seeds: scores with intervals, what ISS-P has more on the same seeds, and bytes."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows.values():
        groups.setdefault(f"{row['group']}, {row['steps']} steps", {})[row["seed"]] = row
    found: dict[str, dict[str, Any]] = {}
    for title, seeds in groups.items():
        method = next(iter(seeds.values()))["method"]
        ours = groups.get(title.replace(f", {method}, ", ", iss-p, "), {})
        both = sorted(seeds.keys() & ours.keys())
        found[title] = {"seeds": len(seeds)}
        for name in SETS:
            found[title][name] = interval([row[name] for row in seeds.values()])
            if method != "iss-p" and both:
                found[title][f"iss-p - this, {name}"] = interval([ours[s][name] - seeds[s][name] for s in both])
        found[title]["packed_bytes"] = round(statistics.mean(row["packed_bytes"] for row in seeds.values()))
    return found


def keep(row: Row, values: Mapping[str, Any], work: Path) -> None:
    """Add a row to the results; processes side by side take turns."""
    with in_turn(work / "results.lock"):
        rows = _read()
        about = {"group": row.group, "method": row.method, "seed": row.seed, "steps": row.steps}
        rows[row.title] = {**about, **values}
        record.write("sparsity", {"settings": SETTINGS, "summary": summary(rows), "rows": rows}, seed=row.seed)


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Alone among the processes that name this file."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def known(work: Path) -> Rows:
    """The rows that were measured."""
    with in_turn(work / "results.lock"):
        return _read()


def _read() -> Rows:
    path = record.RESULTS / "sparsity.json"
    rows: Rows = json.loads(path.read_text())["numbers"]["rows"] if path.is_file() else {}
    return rows


def log(work: Path, text: str) -> None:
    """Print a line, and add it to the log."""
    line = f"{time.strftime('%H:%M:%S')} {text}"
    print(line, flush=True)
    with (work / "progress.log").open("a") as file:
        file.write(line + "\n")


def work_through(rows: Sequence[Row], data: Path, work: Path) -> None:
    """Measure every row that is not there and that no other process holds."""
    spent: list[float] = []
    for number, row in enumerate(rows, start=1):
        with (work / f"{row.folder}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if row.title in known(work):
                continue
            begun = time.monotonic()
            values = measured(row, data, work)
            keep(row, values, work)
            spent.append(time.monotonic() - begun)
            done = known(work)
            left = float(np.mean(spent)) * sum(other.title not in done for other in rows[number:]) / 3600
            scores = " / ".join(f"{values[name]:.2f}" for name in SETS)
            log(
                work,
                f"{number}/{len(rows)} {row.title}: {scores} dB, {values['packed_bytes']} bytes; {left:.1f} h left",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="pruning of single weights: ISS-P and its rivals")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--scales", type=int, nargs="+", default=[4, 2], choices=[2, 3, 4])
    parser.add_argument("--sparsities", type=float, nargs="+", default=list(SPARSITIES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--start", default="torch", choices=["torch", "family"])
    parser.add_argument("--work", type=Path, default=Path("runs/sparsity"))
    parser.add_argument("--threads", type=int, default=1, help="of torch; one lets a process run on each core")
    args = parser.parse_args()
    if len(args.seeds) > max(_STUDENT):
        sys.exit(f"--seeds: {len(args.seeds)} of them, intervals are known for up to {max(_STUDENT)}")
    _options.use_threads(args.threads)
    data = record.need_shared()
    args.work.mkdir(parents=True, exist_ok=True)
    with in_turn(args.work / "calibration.lock"):
        if not (args.work / "calibration").is_dir():
            calibration(data, args.work / "calibration")
    order = itertools.product(args.networks, args.scales, args.sparsities, args.seeds, args.methods)
    work_through([Row(n, s, p, m, seed, args.steps, args.start) for n, s, p, seed, m in order], data, args.work)


if __name__ == "__main__":
    main()
