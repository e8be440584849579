"""What the user of ``compress run`` asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compress.errors import UsageError
from compress.source import Request
from compress.task import Data

__all__ = ["Options", "seconds_of"]


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
    budget: str | None = None
    """Time for the search of a quantization policy: ``90s``, ``10m``; None: no search unless asked for otherwise."""
    trials: int | None = None
    """How many policies to try."""
    max_drop: float | None = None
    """The most that quantization may cost, dB or points; the search ends once it is kept."""
    noise: float = 25.0
    """Standard deviation of restoration's noise, grey levels."""

    @property
    def searches(self) -> bool:
        """Whether a quantization policy is to be searched."""
        return self.budget is not None or self.trials is not None or self.max_drop is not None

    @property
    def budget_seconds(self) -> float | None:
        """The budget; ten minutes where only a promise is to be kept."""
        if self.budget is not None:
            return seconds_of(self.budget)
        return None if self.trials is not None else 600.0

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


def seconds_of(text: str) -> float:
    """``90s``, ``10m`` or ``2h`` in seconds.

    Raises:
        UsageError: anything else.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number = text[:-1] if text[-1:] in units else text
    try:
        value = float(number) * units.get(text[-1:], 1.0)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise UsageError(f"--budget {text!r}: expected a time such as 90s, 10m or 2h")
    return value
