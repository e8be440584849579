"""C99: a network of look-up tables as source, with a header, an example, a Makefile and a CMakeLists.txt.

Only networks of tables can be written so.  Opening the source compiles it for this machine: run what you trust.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from export.artifact import Card, ExportSpec
from export.compiled import library
from export.errors import ExportError
from export.formats.lut import PlaneSession
from export.lut import cpackage, native

__all__ = ["RUNTIME", "RUNTIME_MODULE", "SUFFIX", "open", "operators", "read_card", "write"]

SUFFIX = ".c"
RUNTIME = "numpy"
RUNTIME_MODULE = "numpy"
_CARD = re.compile(r"/\* edgepress (\{.*\}) \*/")
_OPERATORS = re.compile(r"/\* operators (\{.*\}) \*/")
_HEADER = re.compile(r'^#include "(\w+)\.h"$', re.MULTILINE)


def write(spec: ExportSpec, path: Path) -> None:
    """Write the tables that the module carries, and what builds them, beside each other.

    Raises:
        ExportError: it carries none, they are of a kind that the C engine does not know, or a name that no Makefile
            takes.
    """
    if spec.tables is None:
        raise ExportError(f"c: {spec.card.model} is no network of look-up tables; take another format")
    if not re.fullmatch(r"[\w.-]+", path.stem):
        raise ExportError(f"c: a file {path.name!r} stands in no Makefile; expected a name of letters, digits, . _ -")
    code = native.source_of(replace(spec.tables, name=path.stem))
    source, *_ = cpackage.write(code, path.parent, path.stem)
    card = spec.card.to_json().replace("*/", r"*\/")  # the same JSON, and no end of the comment
    notes = f"/* edgepress {card} */\n/* operators {json.dumps({'LOOKUP': spec.tables.lookups})} */\n"
    source.write_text(notes + source.read_text(encoding="utf-8"), encoding="utf-8")


def open(path: Path, threads: int) -> PlaneSession:
    """The source compiled, with bands of rows side by side.

    Raises:
        ExportError: not ours, its header is missing, no compiler is here, or it refuses the source.
    """
    code = path.read_text(encoding="utf-8")
    card, named = read_card(path), _HEADER.search(code)
    if card is None or named is None:
        raise ExportError(f"{path}: was not written by edgepress; expected C source of a network of look-up tables")
    name = named[1]
    header = path.with_name(f"{name}.h")
    if not header.is_file():
        raise ExportError(f"{path}: its header {header.name} is missing; export it again")
    files = {f"{name}.c": code, header.name: header.read_text(encoding="utf-8")}
    made = library(files)
    if made is None:
        raise ExportError(f"{path}: no C compiler here; install gcc or clang, or name one in $CC")
    try:
        engine = native.Engine(made, name, Card.from_json(card, path).scale)
    except AttributeError as error:
        raise ExportError(f"{path}: lacks a function ({error}); export it again") from None
    return PlaneSession(partial(engine.enlarge, threads=threads))


def read_card(path: Path) -> str | None:
    """The card's text, from the comment in the first line."""
    return _said(path, 0, _CARD)


def operators(path: Path) -> Mapping[str, int]:
    """Look-ups for each pixel, over all rotations, from the comment in the second line."""
    said = _said(path, 1, _OPERATORS)
    return dict(json.loads(said)) if said is not None else {}


def _said(path: Path, number: int, pattern: re.Pattern[str]) -> str | None:
    """What a line holds as a comment."""
    with path.open(encoding="utf-8") as file:
        lines = [file.readline(1 << 16).rstrip("\n") for _ in range(number + 1)]
    found = pattern.fullmatch(lines[number])
    return found[1] if found else None
