"""File formats, one module each, found by its file name and imported on use."""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import shutil
import tempfile
from pathlib import Path
from typing import cast

from export.artifact import Artifact, Card, ExportSpec, Format, Session, digest
from export.errors import ExportError, MissingRuntimeError
from export.quiet import native_output_to
from targets.errors import nearest

__all__ = ["by_name", "names", "of_file", "open_file", "read_card", "write"]

_OF_TABLES = {"c", "lut"}
_FULL = 1 << 20  # less free bytes than this: a converter that failed had no room


def names(tables: bool = False) -> tuple[str, ...]:
    """The formats that any network can be written in; with ``tables``, those that one of look-up tables can."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    return tuple(sorted(found if tables else found - _OF_TABLES))


def by_name(name: str) -> Format:
    """The module of a format.

    Raises:
        ExportError: no such format; the message names the nearest.
        MissingRuntimeError: its packages are not installed.
    """
    if name not in names(tables=True):
        raise ExportError(f"unknown format {name!r}; {nearest(name, names(tables=True))}")
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def of_file(path: Path) -> str:
    """The format's name, by the file's suffix.

    Raises:
        ExportError: no format writes such files.
    """
    suffixes = {by_name(name).SUFFIX: name for name in names(tables=True)}
    if path.suffix not in suffixes:
        raise ExportError(f"{path}: unknown suffix {path.suffix!r}; known: {', '.join(sorted(suffixes))}")
    return suffixes[path.suffix]


def write(name: str, spec: ExportSpec, folder: Path, stem: str) -> Artifact:
    """Write ``folder/stem`` in a format; what its converter prints goes to ``folder/conversion.log``.

    Returns:
        The artifact, its ``folder`` left empty for the caller to fill in.

    Raises:
        ExportError: the converter failed; its reason is in the message and the log.
        MissingRuntimeError: its packages are not installed.
    """
    fmt = by_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as scratch:
        main = Path(scratch) / f"{stem}{fmt.SUFFIX}"
        with native_output_to(folder / "conversion.log"):
            _convert(name, fmt, spec, main)
        written = sorted(Path(scratch).iterdir(), key=lambda p: p == main)
        for part in written:  # the main file last: where it is, the others are
            part.replace(folder / part.name)
    files = [main.name, *(p.name for p in written if p.name != main.name)]
    paths = [folder / file for file in files]
    return Artifact(
        folder="",
        files=tuple(files),
        format=name,
        dtype=spec.card.dtype,
        sha256=tuple(digest(p) for p in paths),
        file_bytes=sum(p.stat().st_size for p in paths),
        operators=dict(fmt.operators(paths[0])),
    )


def _convert(name: str, fmt: Format, spec: ExportSpec, path: Path) -> None:
    try:
        fmt.write(spec, path)
    except ImportError as error:
        raise _missing(name, error) from error
    except (OSError, ExportError):
        raise
    except Exception as error:  # converters raise anything; the user needs one message
        if shutil.disk_usage(path.parent).free < _FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent.parent)) from error
        cause = _innermost(error)
        reason = _reason(error) if cause is error else _first_line(cause)
        raise ExportError(
            f"{name} {spec.card.dtype}: the converter failed on {spec.card.model}: "
            f"{type(cause).__name__}: {reason}; its output is in conversion.log"
        ) from error


def open_file(path: Path, threads: int) -> Session:
    """A file ready to run in its own runtime.

    Raises:
        ExportError: missing, of no known format, or refused by its runtime.
        MissingRuntimeError: the runtime is not installed.
    """
    name = _existing(path)
    try:
        return by_name(name).open(path, threads)
    except ImportError as error:
        raise _missing(name, error) from error
    except ExportError:
        raise
    except Exception as error:  # runtimes raise anything for a damaged file
        reason = _reason(error)
        raise ExportError(f"{path}: {name} runtime refuses the file ({reason}); export it again") from error


def read_card(path: Path) -> Card | None:
    """What the file says about itself; None for a file that is not ours.

    Raises:
        ExportError: missing, of no known format, damaged.
    """
    name = _existing(path)
    try:
        text = by_name(name).read_card(path)
    except ImportError as error:
        raise _missing(name, error) from error
    except Exception as error:  # parsers raise anything for a damaged file
        reason = _reason(error)
        raise ExportError(f"{path}: not a readable {name} file ({reason}); export it again") from error
    return Card.from_json(text, path) if text is not None else None


def _innermost(error: BaseException) -> BaseException:
    """What an exporter wrapped again and again."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    text = str(error.args[0]) if error.args else ""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no message")[:300]


def _reason(error: Exception) -> str:
    """The last line of a message that is no mere position in somebody's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from ", "Check '"))]
    return ((telling or lines or [type(error).__name__])[-1])[:300]


def _existing(path: Path) -> str:
    name = of_file(path)
    if not path.is_file():
        raise ExportError(f"{path}: no such file")
    return name


def _missing(name: str, error: ImportError) -> MissingRuntimeError:
    return MissingRuntimeError(
        f"format {name} needs package {error.name or error}, which is not installed; pip install 'edgepress[{name}]'"
    )
