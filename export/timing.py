"""Latency of files on this host: own process, warm-up, interleaved repeats, median and spread.

The files are run in turn, A B C A B C ..., so that a change of the machine's speed hits all of them alike.
``python -m export.timing`` reads a job as JSON on stdin and prints samples as JSON; :func:`measure` calls it.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError

__all__ = ["Host", "Latency", "busy", "cores", "host", "measure", "peak_memory", "resident_peak"]

_WARM_UP = 3
_BUSY = 0.15  # above this share of other work, a result carries a warning
_PAUSE_S = 0.05  # lets the threads of the runtime before stop spinning; without it ONNX Runtime loses a quarter


@dataclass(frozen=True)
class Host:
    """The machine that measured."""

    cpu: str
    architecture: str
    cores: int
    busy_before: float
    """Share of all cores' time that other work took just before the measurement, 0 to 1."""
    warning: str
    """Why the numbers may be off; empty when nothing was noticed."""


@dataclass(frozen=True)
class Latency:
    """Time of one inference, milliseconds."""

    height: int
    width: int
    threads: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    samples_ms: tuple[float, ...]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host() -> Host:
    """This machine, and a warning where other work would disturb a measurement."""
    share, count = busy(), cores()
    others = f"{share:.0%} of the processor was busy with other work before timing, which may slow it"
    return Host(_cpu_model(), platform.machine(), count, share, others if share > _BUSY else "")


def busy(seconds: float = 0.5) -> float:
    """Share of all cores' time that is in use while this process waits; 0 where the system does not tell."""
    before = _jiffies()
    time.sleep(seconds)
    after = _jiffies()
    total = sum(after) - sum(before)
    return 1.0 - (after[3] + after[4] - before[3] - before[4]) / total if total > 0 else 0.0


def _jiffies() -> list[int]:
    """The first line of /proc/stat: user, nice, system, idle, iowait, ..."""
    stat = Path("/proc/stat")
    return [int(n) for n in stat.read_text().split("\n", 1)[0].split()[1:9]] if stat.is_file() else [0] * 8


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def measure(
    paths: Sequence[Path], size: tuple[int, int], channels: int, threads: int, repeats: int = 20
) -> list[Latency]:
    """Time files against each other, in a process of their own.

    Args:
        paths: the files.
        size: input (height, width); a file of fixed size is timed at its own.
        channels: of the input.
        threads: of each runtime.
        repeats: rounds over all files.

    Returns:
        One result for each file, in order.

    Raises:
        ExportError: the process failed; its last line is in the message.
    """
    rounds = _child(_Job([str(p) for p in paths], size, channels, threads, repeats))
    return [_summary(item["size"], threads, item["samples_ms"]) for item in rounds["files"]]


def _summary(size: Sequence[int], threads: int, samples: Sequence[float]) -> Latency:
    p10, median, p90 = (float(np.percentile(samples, q)) for q in (10, 50, 90))
    return Latency(size[0], size[1], threads, median, p10, p90, tuple(samples))


def peak_memory(path: Path, size: tuple[int, int], channels: int, threads: int) -> int:
    """Bytes that opening the file and running it once add to a process that has its runtime loaded.

    Raises:
        ExportError: the process failed.
    """
    return int(_child(_Job([str(path)], size, channels, threads, repeats=1))["added_bytes"])


@dataclass(frozen=True)
class _Job:
    """What the child process is asked for."""

    paths: Sequence[str]
    size: tuple[int, int]
    channels: int
    threads: int
    repeats: int


def _child(job: _Job) -> Any:
    command = [sys.executable, "-m", "export.timing"]
    done = subprocess.run(command, input=json.dumps(asdict(job)), capture_output=True, text=True, check=False)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ExportError(f"timing process was killed by {name}; too little memory, or a runtime that crashed")
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ExportError(f"timing process failed: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def resident_peak() -> int:
    """Highest resident memory of this process so far, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would give the parent's peak after a fork
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _work(job: _Job) -> dict[str, object]:
    """What the child process does."""
    from export import formats

    for path in job.paths:  # import each runtime before memory is read: its code is not the network's
        importlib.import_module(formats.by_name(formats.of_file(Path(path))).RUNTIME_MODULE)
    image = _picture(*job.size, job.channels)
    before = resident_peak()
    calls, sizes = [], []
    for path in job.paths:
        session = formats.open_file(Path(path), job.threads)
        sizes.append(session.input_size or job.size)
        calls.append(session.prepare(np.resize(image, (*sizes[-1], job.channels))))
    for call in calls:
        for _ in range(_WARM_UP):
            call()
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(job.repeats):
        for call, times in zip(calls, samples, strict=True):
            time.sleep(_PAUSE_S)
            start = time.perf_counter()
            call()
            times.append((time.perf_counter() - start) * 1e3)
    files = [{"size": list(s), "samples_ms": t} for s, t in zip(sizes, samples, strict=True)]
    return {"files": files, "added_bytes": resident_peak() - before}


def _picture(height: int, width: int, channels: int) -> NDArray[np.float32]:
    """Noise with the spectrum of photographs, amplitudes as 1 / frequency (Field, JOSA A 1987), values 0 to 1.

    Look-up tables read rows that lie as near to each other as neighbouring pixels are alike.
    """
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = 1 / np.maximum(frequency, 1 / max(height, width))
    base = np.fft.irfft2(np.fft.rfft2(random.normal(size=(height, width))) * amplitude, s=(height, width))
    base = base / max(float(base.std()), 1e-9)
    colours = base[..., None] * 0.2 + random.normal(0, 0.01, (height, width, channels)) + 0.5
    return np.clip(colours, 0, 1).astype(np.float32)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_work(_Job(**json.load(sys.stdin)))) + "\n")
