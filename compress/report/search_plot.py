"""The plots of a search, as SVG texts that stand inside the page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.trial import Trial

__all__ = ["convergence_svg", "pareto_svg"]

_TRIAL, _FRONT, _STOCK, _FLOAT = "#8a94a6", "#e4572e", "#4c78a8", "#22223b"
_FAR = 6  # times the usual loss: such trials are drawn at the lower edge


def pareto_svg(
    trials: Sequence[Trial], front: Sequence[Trial], stock: Mapping[str, float], reference: float, metric: str
) -> str:
    """Score against latency, where it was measured, or against the file's size; the front joined by a line."""
    timed = "latency" in stock
    cost, unit, factor = ("latency", "ms", 1.0) if timed else ("bytes", "KiB", 1 / 1024)
    figure, axes = _axes(4.6)
    low = _lowest([t.values["score"] for t in trials], reference)

    def points(some: Sequence[Trial]) -> tuple[list[float], list[float]]:
        return [t.values[cost] * factor for t in some], [max(t.values["score"], low) for t in some]

    axes.plot(*points(trials), "o", color=_TRIAL, markersize=5, alpha=0.7, label="trials")
    ordered = sorted(front, key=lambda t: t.values[cost])
    axes.plot(*points(ordered), "o-", color=_FRONT, markersize=7, linewidth=1.5, label="none better in all objectives")
    axes.plot([stock[cost] * factor], [max(stock["score"], low)], "X", color=_STOCK, markersize=9, label="stock int8")
    axes.axhline(reference, color=_FLOAT, linewidth=1, linestyle="--", label="float32")
    axes.set_xlabel(f"{'median of one inference' if timed else 'file size'}, {unit}")
    axes.set_ylabel(metric)
    axes.margins(x=0.15)
    axes.ticklabel_format(useOffset=False)
    axes.legend(frameon=False, fontsize=9, loc="best")
    return _svg(figure)


def convergence_svg(trials: Sequence[Trial], stock: Mapping[str, float], reference: float, metric: str) -> str:
    """The best score so far after each trial, and every trial's own."""
    figure, axes = _axes(3.6)
    scores = [t.values["score"] for t in trials]
    low, numbers = _lowest(scores, reference), range(1, len(trials) + 1)
    axes.plot(numbers, [max(s, low) for s in scores], "o", color=_TRIAL, markersize=4, alpha=0.7, label="trial")
    axes.step(numbers, list(accumulate(scores, max)), where="post", color=_FRONT, linewidth=2, label="best so far")
    axes.axhline(stock["score"], color=_STOCK, linewidth=1, linestyle=":", label="stock int8")
    axes.axhline(reference, color=_FLOAT, linewidth=1, linestyle="--", label="float32")
    axes.set_xlabel("trials measured")
    axes.set_ylabel(metric)
    axes.locator_params(axis="x", integer=True)
    axes.ticklabel_format(useOffset=False)
    axes.legend(frameon=False, fontsize=9, loc="best")
    return _svg(figure)


def _lowest(scores: Sequence[float], reference: float) -> float:
    """Where the axis may end, so that a few hopeless trials do not hide the others."""
    usual = sorted(scores)[len(scores) // 2]
    far = reference - _FAR * max(abs(reference - usual), 1e-9)
    return max(min(scores), far)


def _axes(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e3e6ec", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
