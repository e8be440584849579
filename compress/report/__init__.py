"""A run as people look at it: ``report.html`` (one file, pictures inside), ``report.md``, a terminal table."""

from __future__ import annotations

from pathlib import Path

from compress.network import Network
from compress.progress import Reporter
from compress.report import decisions, pictures, plot, table
from compress.report.pictures import Strip
from compress.result import Result
from compress.task import Task
from compress.tasks.classification import Classification
from compress.tasks.restoration import Restoration
from compress.tasks.super_resolution import SuperResolution
from export.files import atomic_write

__all__ = ["write"]


def write(result: Result, task: Task, network: Network, root: Path, reporter: Reporter) -> None:
    """Write both reports into the run folder."""
    with reporter.bar("report", 3) as update:
        strips = _strips(result, task, network, root)
        update(1)
        latency = plot.latency_svg(result)
        update(2)
        atomic_write(root / "report.html", table.html(result, strips, latency))
        atomic_write(root / "report.md", table.markdown(result))


def _strips(result: Result, task: Task, network: Network, root: Path) -> tuple[Strip, ...]:
    """What there is to see: crops side by side, or the images that are decided otherwise."""
    if isinstance(task, SuperResolution | Restoration):
        return pictures.strips(result, task, network, root)
    if isinstance(task, Classification):
        return decisions.strips(result, task, network, root)
    return ()
