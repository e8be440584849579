"""The coverage table for the terminal, as Markdown, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compress.coverage import AS_FLOAT32, FLOAT_DB, INT8_DB, RUNTIMES, Cell, Row, reached, share

__all__ = ["columns", "headline", "html", "markdown", "text"]

_MARKS = {"ok": "yes", "differs": "differs", "refused": "no", "missing": "n/a"}


def columns(rows: Sequence[Row]) -> list[str]:
    """The files that were tried, ``format-dtype``."""
    return list(dict.fromkeys(key for row in rows for key in row.cells))


def headline(rows: Sequence[Row]) -> str:
    """How many networks are covered."""
    done = sum(reached(row) for row in rows)
    return f"{done} of {len(rows)} networks ({share(rows):.0%}) work in int8 in at least {RUNTIMES} runtimes"


def _sorted(rows: Sequence[Row]) -> list[Row]:
    kinds = ("zoo", "spandrel", "timm")
    return sorted(rows, key=lambda r: (kinds.index(r.entry.kind), r.task, r.entry.name))


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.status == "ok" and cell.snr_db is not None:
        return f"{cell.snr_db:.0f} dB"
    return _MARKS[cell.status]


def _tooltip(cell: Cell | None) -> tuple[str, str, str] | None:
    return (cell.status, _shown(cell), cell.detail) if cell is not None else None


def _reasons(row: Row) -> list[str]:
    if row.forward:
        return [row.forward]
    return [
        f"{name}: {cell.detail}"
        for name, cell in row.cells.items()
        if cell.status != "ok" and cell.detail != AS_FLOAT32
    ]


def text(rows: Sequence[Row]) -> str:
    """For the terminal: one line a network, reasons below."""
    names = columns(rows)
    head = ("network", "kind", "parameters", *names)
    lines = [head] + [
        (r.entry.name, r.entry.kind, f"{r.parameters:,}", *(_shown(r.cells.get(n)) for n in names))
        for r in _sorted(rows)
    ]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    shown = [
        "  ".join(c.ljust(w) if k < 2 else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    reasons = [f"  {r.entry.name}: {reason}" for r in _sorted(rows) for reason in _reasons(r)]
    return "\n".join([*shown, "", *(["not all of it works:", *reasons, ""] if reasons else []), headline(rows)])


def markdown(rows: Sequence[Row]) -> str:
    """For the docs: the table, then the reasons."""
    names = columns(rows)
    lines = [headline(rows) + ".", "", "| network | kind | parameters | " + " | ".join(names) + " |"]
    lines.append("|---" * (3 + len(names)) + "|")
    for r in _sorted(rows):
        cells = " | ".join(_shown(r.cells.get(n)) for n in names)
        lines.append(f"| {r.entry.name} | {r.entry.kind} | {r.parameters:,} | {cells} |")
    reasons = [f"- `{r.entry.name}`: {_plain(reason)}" for r in _sorted(rows) for reason in _reasons(r)]
    return "\n".join([*lines, "", *(["What does not work, and why:", "", *reasons] if reasons else []), ""])


def _plain(reason: str) -> str:
    return " ".join(reason.replace("|", "/").replace("<", "&lt;").split())


def html(rows: Sequence[Row], versions: Sequence[tuple[str, str]]) -> str:
    """``coverage.html``, one self-contained file."""
    import jinja2

    template = (Path(__file__).parent / "coverage.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = columns(rows)
    table = [
        {
            "name": r.entry.name,
            "kind": r.entry.kind,
            "task": r.task,
            "parameters": f"{r.parameters:,}",
            "input": "x".join(str(n) for n in r.input_shape),
            "cells": [_tooltip(r.cells.get(n)) for n in names],
            "forward": r.forward,
            "reached": reached(r),
            "reasons": _reasons(r),
        }
        for r in _sorted(rows)
    ]
    return environment.from_string(template).render(
        headline=headline(rows), columns=names, rows=table, versions=versions, float_db=FLOAT_DB, int8_db=INT8_DB
    )
