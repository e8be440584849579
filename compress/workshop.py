"""Where a method works: a folder for what it must not lose, a place to report to, and a seed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compress.progress import SILENT, Reporter

if TYPE_CHECKING:
    from compress.network import Network

__all__ = ["ALONE", "Workshop"]


@dataclass(frozen=True)
class Workshop:
    """What a method that works for long needs beside the network and the task."""

    folder: Path | None = None
    """Kept from run to run, so that work goes on where it was stopped; None: nothing is kept."""
    reporter: Reporter = SILENT
    seed: int = 0
    teacher: Network | None = None
    """The network as it was given, for methods that train what became of it."""

    def part(self, name: str) -> Workshop:
        """The workshop of one step."""
        return self if self.folder is None else replace(self, folder=self.folder / name)

    @contextmanager
    def place(self) -> Iterator[Path]:
        """The folder, or one that goes away afterwards."""
        if self.folder is not None:
            yield self.folder
        else:
            with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
                yield Path(folder)


ALONE = Workshop()
"""Nothing is kept or shown."""
