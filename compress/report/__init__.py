"""A run as people look at it: ``report.html`` (one file, pictures inside), ``report.md``, a terminal table."""

from __future__ import annotations

from pathlib import Path

from compress.progress import Reporter
from compress.report import pictures, plot, table
from compress.result import Result
from compress.task import Task
from export.files import atomic_write

__all__ = ["write"]


def write(result: Result, task: Task, root: Path, reporter: Reporter) -> None:
    """Write both reports into the run folder."""
    with reporter.bar("report", 3) as update:
        strips = pictures.strips(result, task, root)
        update(1)
        latency = plot.latency_svg(result)
        update(2)
        atomic_write(root / "report.html", table.html(result, strips, latency))
        atomic_write(root / "report.md", table.markdown(result))
