"""What other models measured, and what is known of this one before its first trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from search.errors import SearchError
from search.space import Candidate, Space

__all__ = ["Prior", "Table"]


@dataclass(frozen=True)
class Table:
    """The candidates that were measured on one other model.

    Attributes:
        name: the model.
        scores: candidate to score, in the direction of the study's first objective.
        reference: the score of the unchanged model, so that drops compare between models.
        descriptors: numbers that describe the model (layers, depthwise layers, megabytes).
    """

    name: str
    scores: Mapping[Candidate, float]
    reference: float | None = None
    descriptors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Prior:
    """What is known before the first trial.

    Attributes:
        tables: what was measured on other models.
        reference: the score of this model unchanged.
        descriptors: this model, described as the tables' models are.
        clip: a drop this large is as bad as any larger one, in the objective's unit.
    """

    tables: tuple[Table, ...] = ()
    reference: float | None = None
    descriptors: Mapping[str, float] = field(default_factory=dict)
    clip: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(self.tables))
        for table in self.tables:
            if set(table.descriptors) != set(self.descriptors):
                raise SearchError(
                    f"table {table.name!r} describes its model by {sorted(table.descriptors)}, "
                    f"this model is described by {sorted(self.descriptors)}: use the same descriptors or none"
                )

    @property
    def comparable(self) -> bool:
        """Whether scores can be read as drops: this model's reference is known, and every table's."""
        return self.reference is not None and all(t.reference is not None for t in self.tables)

    def oriented(self, sign: int) -> Prior:
        """The same with larger scores better: all scores times ``sign``."""
        if sign == 1:
            return self
        tables = tuple(
            replace(
                t,
                scores={c: -s for c, s in t.scores.items()},
                reference=None if t.reference is None else -t.reference,
            )
            for t in self.tables
        )
        return replace(self, tables=tables, reference=None if self.reference is None else -self.reference)

    def without(self, name: str) -> Prior:
        """As if the model of a table were the one to search, and the table not there."""
        held_out = next(t for t in self.tables if t.name == name)
        rest = tuple(t for t in self.tables if t.name != name)
        return replace(self, tables=rest, reference=held_out.reference, descriptors=held_out.descriptors)

    def to_json(self, space: Space) -> dict[str, Any]:
        """What is stored with a study; measurements outside the space are left out."""
        tables = [
            {
                "name": t.name,
                "reference": t.reference,
                "descriptors": dict(t.descriptors),
                "rows": [[*space.indices(c), s] for c, s in t.scores.items() if c in space],
            }
            for t in self.tables
        ]
        own = {"reference": self.reference, "descriptors": dict(self.descriptors), "clip": self.clip}
        return {"tables": tables, **own}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], space: Space) -> Prior:
        """What :meth:`to_json` wrote."""
        tables = tuple(
            Table(
                t["name"], {space.at(row[:-1]): float(row[-1]) for row in t["rows"]}, t["reference"], t["descriptors"]
            )
            for t in stored["tables"]
        )
        return cls(tables, stored["reference"], stored["descriptors"], stored["clip"])
