"""What the user of ``compress run`` asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compress.source import Request
from compress.task import Data

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """None leaves the choice to the model or the target."""

    model: str
    target: str
    task: str | None = None
    weights: Path | None = None
    random: bool = False
    """Random values in place of weights: for speed, size and operators."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """``--model-arg``, as given."""
    data: Path | None = None
    calibration: Path | None = None
    scale: int | None = None
    recipe: str | None = None
    formats: tuple[str, ...] = ()
    threads: int | None = None
    seed: int = 0
    input_size: tuple[int, int] | None = None
    """(height, width) declared in the files and timed; None: the network's own, or the target's."""
    layout: Literal["nhwc", "nchw"] = "nhwc"
    """Order of the input of TFLite files."""
    noise: float = 25.0
    """Standard deviation of restoration's noise, grey levels."""

    @property
    def request(self) -> Request:
        """What was said about the model."""
        return Request(
            self.model, self.weights, self.scale, self.random, self.arguments, self.task, self.seed, self.input_size
        )

    @property
    def judged_on(self) -> Data:
        """What was said about the images."""
        return Data(self.data, self.calibration, self.noise)
