"""What the user of ``compress run`` asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """None leaves the choice to the model or the target."""

    model: str
    target: str
    task: str = "super-resolution"
    weights: Path | None = None
    data: Path | None = None
    calibration: Path | None = None
    scale: int | None = None
    recipe: str | None = None
    formats: tuple[str, ...] = ()
    threads: int | None = None
    seed: int = 0
