"""Coefficients of a roofline from measured networks: least squares on the logarithm of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.roofline import Columns, Roofline, predict_ms

__all__ = ["DEFAULT", "Measured", "fit"]

Array = NDArray[np.float64]

DEFAULT = Roofline(
    fixed_us=150.0,
    launch_us=2.0,
    dense_gmacs=15000.0,
    depthwise_gmacs=1500.0,
    grouped_gmacs=3000.0,
    product_gmacs=5000.0,
    vector_gnumbers=100.0,
    complex_gnumbers=30.0,
    concat_gnumbers=300.0,
    on_chip_gbytes=200.0,
    off_chip_gbytes=50.0,
    weight_gbytes=60.0,
    on_chip_mbytes=4.0,
    align_in=8,
    align_out=32,
)
"""Where the fit starts: the order of magnitude of a phone's NPU."""

FITTED = tuple(n for n in Roofline.__dataclass_fields__ if not n.startswith("align"))
_STEP = 1e-4
_ROUNDS = 40
_OUTLIER = 2.0


@dataclass(frozen=True)
class Measured:
    """One network's time."""

    model: str
    columns: Columns
    ms: float


def _line(start: Roofline, logs: Array) -> Roofline:
    found: dict[str, Any] = {n: float(v) for n, v in zip(FITTED, np.exp(logs), strict=True)}
    return replace(start, **found)


def _soft(residuals: Array) -> Array:
    """Whose squares are the pseudo-Huber loss: beyond _OUTLIER deviations a network pulls with constant force."""
    grown = _OUTLIER * np.sqrt(2 * (np.sqrt(1 + (residuals / _OUTLIER) ** 2) - 1))
    return np.asarray(np.sign(residuals) * grown)


def fit(
    points: Sequence[Measured],
    dtype: str,
    start: Roofline = DEFAULT,
    begin: Roofline | None = None,
    noise: float = 0.15,
    spread: float = 1.0,
) -> Roofline:
    """The coefficients with the highest posterior density: Levenberg-Marquardt on logarithms.

    Residuals are log(predicted / measured) with standard deviation ``noise``, under the pseudo-Huber loss; each
    coefficient is log-normal about ``start`` with standard deviation ``spread``, so that one which the networks do
    not tell stays where it starts.  ``begin``: where the iteration begins, if elsewhere.
    """
    centre = np.log([getattr(start, n) for n in FITTED])
    target = np.log([p.ms for p in points])
    ops = Columns.joined([p.columns for p in points])

    def residuals(logs: Array) -> Array:
        found = np.log(predict_ms(_line(start, logs), ops, dtype))
        return np.concatenate([_soft((found - target) / noise), (logs - centre) / spread])

    logs, damping = np.log([getattr(begin or start, n) for n in FITTED]), 1.0
    now = residuals(logs)
    for _ in range(_ROUNDS):
        slopes = np.stack([(residuals(logs + _STEP * e) - now) / _STEP for e in np.eye(len(logs))], axis=1)
        step = np.linalg.solve(slopes.T @ slopes + damping * np.eye(len(logs)), slopes.T @ now)
        moved = logs - np.clip(step, -1.0, 1.0)
        then = residuals(moved)
        gain = float(now @ now - then @ then)
        if gain <= 0:
            damping *= 5
            if damping > 1e6:
                break
            continue
        logs, now, damping = moved, then, max(damping / 5, 1e-4)
        if gain < 1e-3 * (1 + float(now @ now)):
            break
    return _line(start, logs)
