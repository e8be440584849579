"""A page of plots, tables and pictures in one file, and the same tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.report.pictures import Strip

__all__ = ["Section", "Table", "aligned", "html"]


@dataclass(frozen=True)
class Table:
    """Rows of text under headings."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int | None = None
    """The row that matters most."""
    left: tuple[int, ...] = (0,)
    """Columns of words; numbers stand on the right."""


@dataclass(frozen=True)
class Section:
    """A heading, and what stands below it."""

    heading: str
    note: str = ""
    svg: str = ""
    table: Table | None = None
    strip: Strip | None = None


def aligned(table: Table) -> list[str]:
    """Lines of equal columns."""
    lines = [table.heads, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.heads))]
    return [
        "  ".join(
            cell.ljust(width) if i in table.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def html(
    title: str, headline: str, sections: Sequence[Section], facts: Sequence[tuple[str, str]], warning: str = ""
) -> str:
    """One self-contained file."""
    import jinja2

    template = (Path(__file__).parent / "page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(
        title=title, headline=headline, sections=sections, facts=facts, warning=warning
    )
