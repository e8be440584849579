"""Latency of a network on a device that is not here, with an interval, or a reason to say nothing.

The coefficients are in ``data/latency.json``, fitted by ``benchmarks/latency_models.py``; predicting needs numpy alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from targets.errors import TargetError, nearest
from targets.roofline import Roofline, columns, predict_ms
from targets.support import Support
from targets.workload import Workload

__all__ = ["Book", "Estimate", "Model", "built_in", "predict", "read"]

_FILE = Path(__file__).parent / "data" / "latency.json"
VERSION = 1
"""Of the file's layout."""


@dataclass(frozen=True)
class Estimate:
    """Milliseconds of one inference, or why there are none."""

    ms: float | None
    low_ms: float | None
    """Of the 90 % interval; None: too few networks were measured for one."""
    high_ms: float | None
    reason: str
    """Why the model abstains; empty where it does not."""


@dataclass(frozen=True)
class Model:
    """One device, runtime and dtype."""

    device: str
    runtime: str
    dtype: str
    roofline: Roofline
    support: Support
    half_width: float | None
    """Of the 90 % interval, in logarithms; from networks that were left out of the fit."""
    judged: Mapping[str, float | None]
    """The score on networks that were left out."""

    def predict(self, workload: Workload) -> Estimate:
        """The roofline's time, unless the network lies outside of what was measured."""
        refused = self.support.refusal(workload)
        if refused:
            return Estimate(None, None, None, refused)
        ms = float(predict_ms(self.roofline, columns(workload), self.dtype)[0])
        if self.half_width is None:
            return Estimate(ms, None, None, "")
        spread = math.exp(self.half_width)
        return Estimate(ms, ms / spread, ms * spread, "")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Model:
        """What :meth:`to_json` gave."""
        parts = dict(values)
        return cls(
            **{**parts, "roofline": Roofline.from_json(parts["roofline"]), "support": Support(**parts["support"])}
        )


@dataclass(frozen=True)
class Book:
    """All fitted models, and what they were fitted from."""

    command: str
    date: str
    data: Mapping[str, str]
    """File of measurements to its SHA-256."""
    models: tuple[Model, ...]

    def find(self, device: str, runtime: str, dtype: str) -> Model:
        """One model.

        Raises:
            TargetError: there is none; the message names the nearest.
        """
        known = {f"{m.device} / {m.runtime} / {m.dtype}": m for m in self.models}
        asked = f"{device} / {runtime} / {dtype}"
        if asked not in known:
            hint = nearest(asked, known).split(" known:")[0]
            raise TargetError(f"no latency model of {asked}: {hint}; `compress targets judge` lists them")
        return known[asked]


def read(path: Path) -> Book:
    """A file of coefficients.

    Raises:
        TargetError: no such file, not JSON, of another version, or with coefficients missing.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TargetError(f"latency models {path}: {error}; fit them again") from None
    if not isinstance(values, dict) or values.get("version") != VERSION:
        found = values.get("version") if isinstance(values, dict) else type(values).__name__
        raise TargetError(f"latency models {path}: version {found}, expected {VERSION}; fit them again")
    try:
        models = tuple(Model.from_json(m) for m in values["models"])
        return Book(values["command"], values["date"], values["data"], models)
    except (KeyError, TypeError, AttributeError) as error:
        raise TargetError(f"latency models {path}: {type(error).__name__} {error}; fit them again") from None


@cache
def built_in() -> Book:
    """The models that come with the package."""
    return read(_FILE)


def predict(workload: Workload, device: str, runtime: str, dtype: str) -> Estimate:
    """Latency of a network by the built-in models.

    Args:
        workload: from :func:`compress.operators.workload`, at the input size in question.
        device: as AI Hub names it, e.g. ``Samsung Galaxy S24``.
        runtime: ``tflite`` or ``qnn_dlc``.
        dtype: ``float`` (fp16 on the NPU), ``w8a8`` or ``w8a16``.

    Raises:
        TargetError: no model of this device, runtime and dtype.
    """
    return built_in().find(device, runtime, dtype).predict(workload)
