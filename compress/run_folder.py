"""A run is a folder: steps that survive a kill, one run at a time, nothing half-written.

``steps/NAME.json`` appears by rename when a step is done and holds what it returned.  A resumed run takes
those and does the rest.  ``inputs.json`` holds what the run was made from; another run's folder is refused.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import pydantic

from compress.errors import RunFolderError
from compress.options import Options
from export.files import atomic_write

__all__ = ["RunFolder", "next_free", "stored_options"]

T = TypeVar("T")


def next_free(parent: Path, stem: str) -> Path:
    """``parent/stem``, or ``parent/stem-2`` and so on where that exists."""
    candidate, number = parent / stem, 1
    while candidate.exists():
        number += 1
        candidate = parent / f"{stem}-{number}"
    return candidate


def stored_options(root: Path) -> Options | None:
    """The options that the run in a folder was started with; None where it was killed before it wrote them.

    Raises:
        RunFolderError: the file is damaged.
    """
    path = root / "options.json"
    if not path.is_file():
        return None
    try:
        return pydantic.TypeAdapter(Options).validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        raise RunFolderError(f"{path}: damaged ({error.errors()[0]['msg']}); start again with another --out") from None


class RunFolder:
    """Use as a context; holds the folder's lock, which the system drops when the process dies."""

    def __init__(self, root: Path, resume: bool) -> None:
        self.root = root
        self._resume = resume
        self._lock: IO[str] | None = None

    def __enter__(self) -> RunFolder:
        """Take the folder.

        Raises:
            RunFolderError: it is in use, or holds a run and ``resume`` is off, or holds none and it is on.
        """
        started = (self.root / "options.json").exists()
        if not self._resume and (started or self._others()):
            what = "a run" if started else "other files"
            cure = "add --resume to finish it, or choose another --out" if started else "choose another --out"
            raise RunFolderError(f"{self.root} already holds {what}; {cure}")
        if self._resume and not started and (self._others() or not self.root.exists()):
            raise RunFolderError(f"{self.root} holds no run to resume; drop --resume to start one")
        (self.root / "steps").mkdir(parents=True, exist_ok=True)
        lock = (self.root / ".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise RunFolderError(
                f"{self.root} is in use by another process; wait for it, or choose another --out"
            ) from None
        self._lock = lock
        self._sweep()
        return self

    def _sweep(self) -> None:
        """Remove what a killed run was in the middle of writing; only the holder of the lock may."""
        for path in [p for p in self.root.rglob(".*") if ".part" in p.name]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _others(self) -> list[str]:
        """What lies in the folder, apart from what a run that was killed at once leaves."""
        return [p.name for p in self.root.iterdir() if p.name not in (".lock", "steps")] if self.root.is_dir() else []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the folder."""
        if self._lock is not None:
            self._lock.close()

    def keep_options(self, options: Options) -> None:
        """Write the options down, so that the run can be resumed without repeating them."""
        path = self.root / "options.json"
        if not path.exists():
            atomic_write(path, pydantic.TypeAdapter(Options).dump_json(options, indent=1))

    def remember(self, inputs: Mapping[str, object]) -> None:
        """Write down what the run is made from; on resume, insist that it is the same.

        Raises:
            RunFolderError: the folder was made from something else; the message lists what changed.
        """
        path = self.root / "inputs.json"
        text = json.dumps(inputs, indent=2, sort_keys=True)
        if not path.exists():
            atomic_write(path, text)
            return
        try:
            before = json.loads(path.read_text())
        except ValueError as error:
            raise RunFolderError(f"{path}: damaged ({error}); start again with another --out") from None
        if not isinstance(before, dict):
            raise RunFolderError(f"{path}: damaged (no JSON object); start again with another --out")
        now = json.loads(text)
        changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        if changed:
            raise RunFolderError(
                f"{self.root} was made with another {', '.join(changed)}; resume with the same inputs and options, "
                "or choose another --out"
            )

    def once(
        self, name: str, kind: type[T], work: Callable[[], T], still_good: Callable[[T], bool] = lambda value: True
    ) -> T:
        """The result of a step: read back when it is done and still good, made and kept otherwise.

        Args:
            name: of the step; a file name.
            kind: the dataclass that the step returns.
            work: does the step.
            still_good: whether a stored result may be used, e.g. because its files are still there.
        """
        path = self.root / "steps" / f"{name}.json"
        adapter = pydantic.TypeAdapter(kind)
        if path.exists():
            try:
                stored = adapter.validate_json(path.read_bytes())
            except pydantic.ValidationError:
                stored = None  # written by another version: do it again
            if stored is not None and still_good(stored):
                return stored
        value = work()
        atomic_write(path, adapter.dump_json(value, indent=1))
        return value
