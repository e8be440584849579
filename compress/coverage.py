"""How far each network gets: forward, files in every format, the same numbers, int8; each refusal with its reason.

Every network is tried in a process of its own, so that a converter that crashes or hangs costs one row.
``python -m compress.coverage`` reads a job as JSON on stdin and writes the row; :func:`cover` calls it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from compress import __version__
from compress.progress import Reporter
from export import formats
from export.errors import MissingRuntimeError
from export.files import atomic_write
from export.parity import compare
from targets.errors import EdgepressError

if TYPE_CHECKING:
    from compress.network import Network
    from compress.task import Task
    from export.artifact import ExportSpec

__all__ = ["INT8_DB", "Cell", "Entry", "Row", "attempt", "cover", "reached", "share", "stored"]

FLOAT_DB = 60.0
"""Least signal-to-noise ratio of a float32 file against the network."""
INT8_DB = 6.0
"""Least signal-to-noise ratio of an int8 file against the network: an error of half the amplitude.  Low, because most
networks here have random values, whose activations are wilder than trained ones; it says that a file works, not
that it is accurate."""
RUNTIMES = 2
"""In how many runtimes a network must work in int8 to count as covered."""
AS_FLOAT32 = "as float32"
"""The reason of an int8 file that was not tried."""
_SIZE = (64, 96)  # of images for networks of any size
_CALIBRATION = 8


@dataclass(frozen=True)
class Entry:
    """One network to try."""

    name: str
    kind: Literal["zoo", "spandrel", "timm"]
    model: str
    """As for ``--model``; of a spandrel family its name."""


@dataclass(frozen=True)
class Cell:
    """One file of one network."""

    status: Literal["ok", "differs", "refused", "missing"]
    """Works; works with other numbers; no file or none that runs; the format's packages are not installed."""
    snr_db: float | None
    """Power of the network's output (about its mean) over that of the difference; None without an output."""
    detail: str
    """The reason where it is not ok; the size of the file where it is."""
    seconds: float


@dataclass(frozen=True)
class Row:
    """What one network reached."""

    entry: Entry
    task: str
    parameters: int
    input_shape: tuple[int, ...]
    forward: str
    """Empty where it ran; else the reason why nothing more could be tried."""
    cells: Mapping[str, Cell]
    """By ``format-dtype``."""
    seconds: float
    version: str

    @property
    def int8_runtimes(self) -> int:
        """In how many formats float32 gives the network's numbers and int8 works."""
        return sum(
            self.cells[f"{name}-int8"].status == "ok" and self.cells[f"{name}-float32"].status == "ok"
            for name in {key.rsplit("-", 1)[0] for key in self.cells}
        )


def reached(row: Row) -> bool:
    """Whether the network works in int8 in enough runtimes."""
    return row.int8_runtimes >= RUNTIMES


def share(rows: Sequence[Row]) -> float:
    """The part of the networks that are covered, 0 to 1."""
    return sum(reached(row) for row in rows) / len(rows) if rows else 0.0


def cover(entries: Sequence[Entry], out: Path, seconds: float, jobs: int, reporter: Reporter) -> list[Row]:
    """Try every network, keeping each row in ``out/rows``; rows of this version that are there are kept.

    Args:
        entries: the networks.
        out: a folder.
        seconds: after which a network's process is stopped.
        jobs: processes at a time.
        reporter: shows progress.
    """
    folder = out / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    known = {entry: _kept(_path(folder, entry)) for entry in entries}
    todo = [entry for entry in entries if known[entry] is None]

    def work(entry: Entry) -> Row:
        row = _in_child(entry, seconds)
        atomic_write(_path(folder, entry), pydantic.TypeAdapter(Row).dump_json(row, indent=1))
        reporter.line(f"  {entry.name:<28} {row.forward[:60] or f'int8 in {row.int8_runtimes} runtimes'}")
        return row

    with reporter.bar("networks", len(entries)) as update, ThreadPoolExecutor(jobs) as pool:
        done = len(entries) - len(todo)
        for entry, found in zip(todo, pool.map(work, todo), strict=True):
            known[entry] = found
            done += 1
            update(done)
    return [row for entry in entries if (row := known[entry]) is not None]


def stored(entries: Sequence[Entry], out: Path) -> list[Row]:
    """The rows of networks that were tried before, by this version."""
    found = (_kept(_path(out / "rows", entry)) for entry in entries)
    return [row for row in found if row is not None]


def _path(folder: Path, entry: Entry) -> Path:
    return folder / f"{entry.kind}-{entry.model.replace(':', '-')}.json"


def _kept(path: Path) -> Row | None:
    try:
        row = pydantic.TypeAdapter(Row).validate_json(path.read_bytes())
    except (OSError, pydantic.ValidationError):
        return None
    return row if row.version == __version__ else None


def _in_child(entry: Entry, seconds: float) -> Row:
    """The row of a network; a process that crashes or hangs costs the file it was at, and the rest is tried again."""
    start, cells = time.monotonic(), dict[str, Cell]()
    row = Row(entry, "", 0, (), "", {}, 0.0, __version__)
    while True:
        job = {"entry": asdict(entry), "cells": {name: asdict(cell) for name, cell in cells.items()}}
        lines, failure = _run(json.dumps(job), seconds)
        if not lines:
            failure = failure or "its process wrote no row"
            return replace(row, forward=failure[:300], seconds=time.monotonic() - start)
        row = pydantic.TypeAdapter(Row).validate_json(lines[-1])
        cells = dict(row.cells)
        left = [name for name in _files(formats.names()) if name not in cells]
        if not failure or not left or row.forward:
            return replace(row, seconds=time.monotonic() - start)
        cells[left[0]] = Cell("refused", None, failure, 0.0)


def _files(names: Sequence[str]) -> list[str]:
    return [f"{name}-{dtype}" for name in names for dtype in ("float32", "int8")]


def _run(job: str, seconds: float) -> tuple[list[str], str]:
    """What a child wrote line by line, and why it did not get to its end (empty: it did)."""
    command = [sys.executable, "-W", "ignore", "-m", "compress.coverage"]
    try:
        done = subprocess.run(
            command, input=job, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as late:
        written = late.stdout or b""
        text = written.decode(errors="replace") if isinstance(written, bytes) else written
        return _whole(text), f"stopped after {seconds:.0f} s"
    if done.returncode < 0:
        return _whole(done.stdout), f"its process was killed by {signal.Signals(-done.returncode).name}"
    if done.returncode > 0:
        return _whole(done.stdout), (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return _whole(done.stdout), ""


def _whole(text: str) -> list[str]:
    """The rows among the lines; converters print too, and the last line may be cut."""
    return [line for line in text.splitlines() if line.startswith('{"entry"') and line.endswith("}")]


def attempt(entry: Entry, names: Sequence[str], known: Mapping[str, Cell], emit: Callable[[Row], None]) -> None:
    """Try one network in this process, in the formats of those names.

    Args:
        entry: the network.
        names: of the formats.
        known: cells that need not be tried again.
        emit: gets the row so far, first without cells, then after each.
    """
    from compress.methods.reparameterize import Reparameterize

    row = Row(entry, "", 0, (), "", dict(known), 0.0, __version__)
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        scratch = Path(folder)
        try:
            network = _network(entry, scratch)
            task, specs = _specs(network)
            network = Reparameterize()(network, task)
            image = _image(network, specs[0].input_size)
            expected = _expected(network, image)
        except EdgepressError as error:
            emit(replace(row, forward=str(error)[:300]))
            return
        parameters = sum(p.numel() for p in network.module.parameters())
        shape = (1, network.channels, *specs[0].input_size)
        row = replace(row, task=network.task, parameters=parameters, input_shape=shape)
        emit(row)
        for name in _files(names):
            spec = replace(specs[name.endswith("int8")], module=network.module)
            if name not in row.cells:
                cell = _as_float32(row, name) or _cell(name.rsplit("-", 1)[0], spec, image, expected, scratch)
                row = replace(row, cells={**row.cells, name: cell})
                emit(row)


def _as_float32(row: Row, name: str) -> Cell | None:
    """An int8 file that need not be tried, because not even the float32 one is there."""
    plain = row.cells.get(name.replace("-int8", "-float32"))
    if plain is None or plain.status not in ("refused", "missing"):
        return None
    return replace(plain, detail=AS_FLOAT32, seconds=0.0)


def _network(entry: Entry, scratch: Path) -> Network:
    from compress import source
    from compress.weights import write

    if entry.kind != "spandrel":
        return source.resolve(source.Request(entry.model, random=True))
    from compress import spandrel_families

    path = scratch / f"{entry.model}.safetensors"
    member = next(member for member in spandrel_families.FAMILIES if member.name == entry.model)
    write(path, spandrel_families.state_of(member), {})
    return source.resolve(source.Request(str(path)))  # as a user's unseen checkpoint


def _specs(network: Network) -> tuple[Task, list[ExportSpec]]:
    from compress import pipeline
    from compress.methods.quantize import Quantize
    from compress.options import Options
    from compress.registry import TASKS
    from compress.task import Data
    from export.receptive_field import Reach

    task = TASKS[network.task](network, Data())
    quantized = Quantize(calibration_crops=_CALIBRATION)(network, task)
    reach = Reach(None, network.unit)  # nothing is tiled here
    size = pipeline.input_size_of(network, reach, _SIZE)
    return task, pipeline.specs_of(quantized, task, reach, size, Options("", ""))


def _image(network: Network, size: tuple[int, int]) -> NDArray[np.float32]:
    """A photograph that is not among the calibration images, at an input size."""
    from compress.data import builtin, labelled
    from compress.data.images import read_rgb

    return labelled.fit(read_rgb(builtin.evaluation_images()[0]), network.channels, size, 1.0)


def _expected(network: Network, image: NDArray[np.float32]) -> NDArray[np.float32]:
    from compress.errors import CompressError
    from export.torch_session import TorchSession

    try:
        output = TorchSession(network.module).run(image)
    except Exception as error:  # a foreign network raises anything
        raise CompressError(f"forward raised {type(error).__name__}: {str(error)[:200]}") from error
    if not np.isfinite(output).all():
        raise CompressError("its output is not finite")
    return output


def _cell(
    name: str, spec: ExportSpec, image: NDArray[np.float32], expected: NDArray[np.float32], scratch: Path
) -> Cell:
    start, stem = time.monotonic(), f"{name}-{spec.card.dtype}"
    try:
        artifact = formats.write(name, spec, scratch / stem, stem)
        output = formats.open_file(artifact.path(scratch / stem), 1).run(image)
        compare(output, expected)  # the shapes agree
    except MissingRuntimeError as error:
        return Cell("missing", None, str(error), time.monotonic() - start)
    except (EdgepressError, RuntimeError, ValueError, OSError) as error:
        return Cell("refused", None, _short(str(error)), time.monotonic() - start)
    snr, least = _snr_db(output, expected), INT8_DB if spec.policy is not None else FLOAT_DB
    took = time.monotonic() - start
    if not snr >= least:
        return Cell("differs", snr, f"{snr:.1f} dB, at least {least:.0f} expected", took)
    return Cell("ok", snr, f"{artifact.file_bytes / 1024:.0f} KiB", took)


def _short(text: str) -> str:
    """Without what the table says anyway."""
    return text.removesuffix("; its output is in conversion.log").split("failed on ", 1)[-1][:240]


def _snr_db(output: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Signal-to-noise ratio, dB; -100 for outputs that are not finite, 200 for equal ones."""
    if not np.isfinite(output).all():
        return -100.0
    signal_power = float(np.var(expected.astype(np.float64)))
    noise = float(np.mean((output.astype(np.float64) - expected) ** 2))
    if noise == 0.0:
        return 200.0
    return max(-100.0, min(200.0, 10.0 * float(np.log10(max(signal_power, 1e-30) / noise))))


def _emit(row: Row) -> None:
    sys.stdout.write(pydantic.TypeAdapter(Row).dump_json(row).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    job = json.load(sys.stdin)
    done_before = pydantic.TypeAdapter(dict[str, Cell]).validate_python(job["cells"])
    attempt(Entry(**job["entry"]), formats.names(), done_before, _emit)
