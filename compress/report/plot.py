"""The latency plot, as SVG text that stands inside the page."""

from __future__ import annotations

import io

from compress.result import Result

__all__ = ["latency_svg"]

_COLOURS = {"float32": "#8a94a6", "int8": "#e4572e"}


def latency_svg(result: Result) -> str:
    """Median of each file as a bar, p10 to p90 as a whisker, every sample as a dot."""
    from matplotlib.figure import Figure

    files = list(reversed(result.files))
    figure = Figure(figsize=(8.4, 0.7 + 0.42 * len(files)), layout="constrained")
    axes = figure.subplots()
    for row, file in enumerate(files):
        latency, colour = file.latency, _COLOURS.get(file.artifact.dtype, "#4c78a8")
        axes.barh(row, latency.median_ms, height=0.62, color=colour, alpha=0.85)
        axes.plot(latency.samples_ms, [row] * len(latency.samples_ms), ".", color="#22223b", markersize=3, alpha=0.5)
        axes.plot([latency.p10_ms, latency.p90_ms], [row, row], color="#22223b", linewidth=2)
        axes.annotate(
            f" {latency.median_ms:.1f} ms",
            (max(latency.samples_ms), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(files)), [f.artifact.name for f in files])
    size = result.files[0].latency
    axes.set_xlabel(f"ms for one {size.width} x {size.height} input, {size.threads} threads, {result.host.cpu}")
    axes.set_xlim(0, max(max(f.latency.samples_ms) for f in files) * 1.15)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
