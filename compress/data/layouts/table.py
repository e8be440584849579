"""``labels.tsv`` or ``labels.csv`` beside image files: a file name and a class index a line."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path, PurePosixPath

from compress.data.classes import checked_labels, class_names, read_text
from compress.data.images import list_images, read_rgb
from compress.data.layouts import Labelled, Part, own_name
from compress.errors import DataError

__all__ = ["EXPECTED", "lies_in", "read"]

EXPECTED = "labels.tsv or labels.csv (file name, class index) beside the images"

_TABLES = {"labels.tsv": "\t", "labels.csv": ","}


def lies_in(root: Path) -> bool:
    """Whether there is a table of labels."""
    return any((root / name).is_file() for name in _TABLES)


def read(root: Path, part: Part) -> Labelled | None:
    """The images of the table, all for evaluation.

    A first line that names neither a file nor a number is taken for a heading. Classes are named by ``classes.txt``
    where there is one.

    Raises:
        DataError: a line that is not a name and an index, a file that is missing or listed twice, an image that
            is not listed, or an index outside the classes.
    """
    if part == "calibration":
        return None
    table = next(root / name for name in _TABLES if (root / name).is_file())
    rows = _rows(table)
    names = [name for _, name, _ in rows]
    _check_files(root, table, names)
    classes = class_names(root)
    labels = checked_labels([_index(table, line, text) for line, _, text in rows], len(rows), classes.titles, table)
    files = [root / name for name in names]
    return Labelled(
        own_name(root), classes.titles, labels, lambda number: read_rgb(files[number]), (*files, table, *classes.files)
    )


def _rows(table: Path) -> list[tuple[int, str, str]]:
    """(line, file name, index as text) of each image."""
    lines = csv.reader(read_text(table).splitlines(), delimiter=_TABLES[table.name], strict=True)
    rows = []
    try:
        for fields in lines:
            fields = [field.strip() for field in fields]
            if not any(fields):
                continue
            if len(fields) != 2:
                raise DataError(
                    f"labels {table}, line {lines.line_num}: {len(fields)} fields, expected 2 (file name, class index)"
                )
            rows.append((lines.line_num, fields[0], fields[1]))
    except csv.Error as error:
        raise DataError(f"labels {table}, line {lines.line_num}: cannot be read ({error})") from None
    heading = bool(rows) and not _is_number(rows[0][2]) and not (table.parent / rows[0][1]).is_file()
    return rows[heading:]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _index(table: Path, line: int, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"labels {table}, line {line}: {text!r}, expected a class index as 0 or 17") from None


def _check_files(root: Path, table: Path, names: list[str]) -> None:
    if not names:
        raise DataError(f"labels {table}: no images listed, expected a file name and a class index a line")
    outside = [n for n in names if PurePosixPath(n).is_absolute() or ".." in PurePosixPath(n).parts]
    if outside:
        raise DataError(f"labels {table}: {outside[0]} lies outside {root}, expected names below it")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise DataError(f"labels {table}: {name} is listed {times} times, expected once")
    missing = [n for n in names if not (root / n).is_file()]
    if missing:
        raise DataError(
            f"labels {table}: {len(missing)} of {len(names)} files do not exist ({', '.join(missing[:8])}), expected "
            f"them in {root}"
        )
    unlisted = sorted({p.name for p in list_images(root)} - set(names))
    if unlisted:
        raise DataError(
            f"labels {table}: {len(names)} labels for {len(names) + len(unlisted)} images, {', '.join(unlisted[:8])} "
            "not listed; add or remove them"
        )
