"""What a person sees while work goes on: bars on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["SILENT", "Reporter"]

_LINE_EVERY_S = 10.0


class Reporter:
    """Prints to stderr, so that stdout holds results only; ``quiet`` prints nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._terminal = sys.stderr.isatty()

    def line(self, text: str) -> None:
        """One line of news."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)  # noqa: T201  (this is where printing lives)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar from 0 to ``total``; call what it yields with the number done so far."""
        if self.quiet:
            yield lambda done: None
        elif self._terminal:
            with self._rich(label, total) as update:
                yield update
        else:
            with self._plain(label, total) as update:
                yield update

    @contextmanager
    def _rich(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(label, total=total)
            yield lambda done: progress.update(task, completed=done)
            progress.update(task, completed=total)

    @contextmanager
    def _plain(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        start = last = time.monotonic()

        def update(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _LINE_EVERY_S and done < total:
                last = now
                self.line(f"  {label}: {done}/{total} ({now - start:.0f} s)")

        yield update
        self.line(f"  {label}: done, {time.monotonic() - start:.1f} s")


SILENT = Reporter(quiet=True)
