"""A latency model of this machine: small networks of every kind of operator, written, timed, and a roofline fitted.

The files are those that the exporters write, so the kernels are the ones that whole networks run.  Every time is
appended to a journal; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import datetime
import itertools
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.operators import workload
from compress.progress import Reporter
from export import formats, timing
from export.artifact import Card, ExportSpec, digest
from export.errors import ExportError
from export.policy import QuantPolicy
from targets.fitting import DEFAULT, Measured, fit
from targets.judging import half_width, score
from targets.latency import VERSION
from targets.roofline import columns, predict_ms
from targets.support import supported
from targets.workload import Workload

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FORMATS", "Plan", "fit_host", "plans"]

FORMATS = ("tflite", "onnx", "openvino")
DTYPES = ("float32", "int8")
_KINDS = ("conv", "pointwise", "depthwise", "add", "mul", "concat", "resize", "shuffle", "pool", "activation")
_START = replace(
    DEFAULT,
    fixed_us=30.0,
    dense_gmacs=40.0,
    depthwise_gmacs=8.0,
    grouped_gmacs=15.0,
    product_gmacs=20.0,
    vector_gnumbers=2.0,
    complex_gnumbers=0.5,
    concat_gnumbers=2.0,
    on_chip_gbytes=30.0,
    off_chip_gbytes=15.0,
    weight_gbytes=15.0,
    on_chip_mbytes=1.0,
    align_out=8,
)
"""The order of magnitude of one core of a desktop processor."""
_REPEATS = 10
_FEWEST = 4


@dataclass(frozen=True)
class Plan:
    """One small network: a convolution from RGB, ``depth`` operators of one kind, a convolution back."""

    kind: str
    width: int
    depth: int
    side: int
    kernel: int

    @property
    def name(self) -> str:
        """Unique among the plans."""
        return f"{self.kind}{self.kernel}-w{self.width}-d{self.depth}-{self.side}"

    def build(self) -> nn.Module:
        """The network, with random values."""
        from compress.models import _micro  # torch stays out of the command line's start

        return _micro.build(self.kind, self.width, self.depth, self.kernel)


def plans(seed: int = 0) -> list[Plan]:
    """Every kind at several widths and frames, in an order that spreads the kinds, so that a part is of use too."""
    found = []
    for kind, width, side in itertools.product(_KINDS, (8, 16, 32, 64), (32, 96)):
        for kernel in (3, 5) if kind in ("conv", "depthwise") else (1,):
            found.append(Plan(kind, width, 2 if kind == "conv" and kernel == 5 else 4, side, kernel))
    random.Random(seed).shuffle(found)
    return found


def fit_host(
    journal: Path, asked: Sequence[Plan], names: Sequence[str], threads: int, progress: Reporter
) -> dict[str, object]:
    """Measure what the journal lacks, and fit a model for every format and dtype; the models as JSON.

    Raises:
        ExportError: nothing could be measured in any format.
    """
    nets = {p.name: workload(p.build(), (1, 3, p.side, p.side), p.name) for p in asked}
    done = _read(journal)
    jobs = [(p, f, d) for p in asked for f in names for d in DTYPES]
    with progress.bar("timing small networks", len(jobs)) as update:
        for count, (plan, name, dtype) in enumerate(jobs):
            if (plan.name, name, dtype, threads) not in done:
                done[plan.name, name, dtype, threads] = _measured(plan, name, dtype, threads, journal)
            update(count + 1)
    models = list(_models(nets, done, names, threads))
    if not models:
        raise ExportError(f"fewer than {_FEWEST} networks were timed in each of {', '.join(names)}; see {journal}")
    return {
        "version": VERSION,
        "command": "compress targets fit --host",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "data": {f"{journal.name} of {timing.host().cpu}": digest(journal)},
        "models": models,
    }


Times = dict[tuple[str, str, str, int], float | None]


def _read(journal: Path) -> Times:
    """What was measured before; the last line may be cut off."""
    found: Times = {}
    for line in journal.read_text().splitlines() if journal.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row["network"], row["format"], row["dtype"], row["threads"]] = row["ms"]
    return found


def _measured(plan: Plan, name: str, dtype: str, threads: int, journal: Path) -> float | None:
    """The median, noted in the journal; None where the format does not take the network."""
    card = Card(plan.name, 1, 3, None, dtype)
    images = [np.random.default_rng(n).random((plan.side, plan.side, 3), np.float32) for n in range(4)]
    quantized = QuantPolicy() if dtype == "int8" else None
    spec = ExportSpec(plan.build(), card, (plan.side, plan.side), quantized, images if quantized else ())
    found: float | None = None
    reason = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            artifact = formats.write(name, spec, Path(folder), plan.name)
            path = Path(folder) / artifact.files[0]
            found = timing.measure([path], (plan.side, plan.side), 3, threads, _REPEATS)[0].median_ms
        except ExportError as error:
            reason = str(error)
    row = {"network": plan.name, "format": name, "dtype": dtype, "threads": threads, "ms": found, "reason": reason}
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a") as file:
        file.write(json.dumps({**row, "busy": round(timing.busy(0.1), 2)}) + "\n")
    return found


def _models(nets: dict[str, Workload], done: Times, names: Sequence[str], threads: int) -> Iterator[dict[str, object]]:
    """A model for every format and dtype with enough networks, judged on networks left out."""
    for name, dtype in itertools.product(names, DTYPES):
        times = {n: done.get((n, name, dtype, threads)) for n in nets}
        points = [Measured(n, columns(nets[n]), ms) for n, ms in times.items() if ms is not None]
        if len(points) < _FEWEST:
            continue
        whole = fit(points, dtype, _START)
        guesses = []
        for point in points:
            line = fit([p for p in points if p is not point], dtype, _START, begin=whole)
            guesses.append(float(predict_ms(line, point.columns, dtype)[0]))
        judged = score(guesses, [p.ms for p in points])
        yield {
            "device": "host",
            "runtime": name,
            "dtype": dtype,
            "roofline": asdict(whole),
            "support": supported([nets[p.model] for p in points]).to_json(),
            "half_width": half_width(np.log([p.ms / g for p, g in zip(points, guesses, strict=True)])),
            "judged": asdict(judged),
        }
