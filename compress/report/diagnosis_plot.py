"""The plots of a diagnosis, as SVG texts that stand inside the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from compress import filter_health
from compress.cost import Layer
from compress.filter_health import FilterHealth

__all__ = ["COLOURS", "cost_svg", "health_svg"]

COLOURS = {"healthy": "#1f8a4c", "redundant": "#b07a00", "random": "#c4321c", "sparse": "#4c78a8", "": "#8a94a6"}
"""Of the words of filter health; empty: not calibrated."""

_INK, _SOFT, _LINE = "#1b1f2a", "#5d667a", "#e3e6ec"
_NAMED = 44  # up to so many layers each has its name on the axis
_WIDTH = 11.3  # inches
_OUTLIERS = 8  # names beside points
_LONG = 34  # characters of a name
_SHIFTS = (0.0, 0.06, -0.06, 0.12, -0.12, 0.18, -0.18)  # of a name from its point
_ALIKE = 4  # so many bars of one height do not stand out
_BAND = 0.34  # a group of layers larger than this share is divided
_LEAST = 8  # a small network does not get broader bars than one of so many layers
_FEW = 0.005  # of the network's parameters
_PANELS = (
    ("macs", "MACs", "MACs", "#e4572e"),
    ("parameters", "Parameters", "parameters", "#4c78a8"),
    ("activation_bytes", "Activations, float32", "bytes", "#6b8f71"),
)


def cost_svg(numbered: Sequence[tuple[int, Layer]], parameters: int) -> str:
    """MACs, parameters and activation bytes of every layer, in the order of execution.

    Args:
        numbered: layers with their numbers in the table; those without MACs and with few parameters
            (normalisation) are left out of the plot.
        parameters: of the network.
    """
    kept = [(n, x) for n, x in numbered if x.macs or x.parameters > _FEW * parameters]
    layers = [layer for _, layer in kept]
    named = len(layers) <= _NAMED
    figure = _figure(5.3 + (0.055 * max((len(x.name) for x in layers), default=0) if named else 0.5))
    panels = figure.subplots(3, 1, sharex=True)
    for axes, (attribute, title, unit, colour) in zip(panels, _PANELS, strict=True):
        values = [getattr(layer, attribute) for layer in layers]
        _bars(axes, values, unit, colour, headroom=1.12 if named else 1.28)
        _bands(axes, layers, labelled=axes is panels[0] and not named)
        if not named:
            _name_largest(axes, layers, values)
        pad = 16 if axes is panels[0] and not named else 6
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=_INK, pad=pad)
    last = panels[-1]
    last.set_xlim(-0.7, max(len(layers), _LEAST) - 0.3)
    if named:
        last.set_xticks(range(len(layers)), [x.name for x in layers], rotation=90, fontsize=8, parse_math=False)
    else:
        last.set_xlabel("layer, in the order of execution; numbers as in the table", fontsize=9, color=_SOFT)
        ticks = range(0, len(layers), -(-len(layers) // 24))
        last.set_xticks(ticks, [str(kept[t][0]) for t in ticks], fontsize=8)
    return _svg(figure, "cost")


def _bars(axes: Any, values: Sequence[int], unit: str, colour: str, headroom: float) -> None:
    top = max(values, default=0)
    divisor, prefix = _prefix(top)
    if unit == "bytes":
        divisor, prefix, unit = (2**20, "", "MiB") if top >= 2**20 else (2**10, "", "KiB")
    axes.bar(range(len(values)), [v / divisor for v in values], width=0.8 if len(values) <= 120 else 1.0, color=colour)
    axes.set_ylabel(f"{prefix} {unit}".strip(), fontsize=9, color=_SOFT)
    axes.set_ylim(0, top / divisor * headroom or 1.0)
    axes.locator_params(axis="y", nbins=4)
    _tidy(axes)


def _prefix(value: float) -> tuple[float, str]:
    """What to divide by so that a value is at least 1, and the letter for it."""
    return next(
        ((10.0**power, letter) for power, letter in ((9, "G"), (6, "M"), (3, "k")) if value >= 10**power), (1.0, "")
    )


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b9c0cc")
    axes.tick_params(colors=_SOFT, labelsize=8, length=3)
    axes.yaxis.grid(True, color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)


def _bands(axes: Any, layers: Sequence[Layer], labelled: bool) -> None:
    """Every second block of the network shaded, so that its structure shows."""
    start = 0
    for number, (name, members) in enumerate(groupby(_blocks(layers))):
        count = len(list(members))
        if number % 2:
            axes.axvspan(start - 0.5, start + count - 0.5, color="#f1f3f7", linewidth=0, zorder=0)
        room = count / len(layers) * (_WIDTH - 0.9) * 72
        if labelled and room > 4.6 * len(name):
            axes.text(
                start + count / 2 - 0.5,
                1.02,
                name,
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=_SOFT,
                parse_math=False,
            )
        start += count


def _blocks(layers: Sequence[Layer]) -> list[str]:
    """The block of each layer: the shortest front part of the names that divides the network well."""
    names: list[str] = []
    for depth in (1, 2, 3):
        names = [".".join(layer.name.split(".")[:depth]) for layer in layers]
        if max((len(list(g)) for _, g in groupby(names)), default=0) <= max(1, _BAND * len(layers)):
            break
    return names


def _name_largest(axes: Any, layers: Sequence[Layer], values: Sequence[int]) -> None:
    """The names of up to three bars that stand out, above them."""
    order = sorted(range(len(values)), key=lambda i: -values[i])[:3]
    top = values[order[0]]
    placed: list[tuple[float, float]] = []
    for index in order:
        alike = sum(value > 0.95 * values[index] for value in values)
        name = _short(layers[index].name)
        width = 0.0062 * len(name) + 0.01  # of the axes
        left = min(max(0.0, index / len(values) - width / 2), 1 - width)
        if 2 * values[index] < top or alike > _ALIKE or any(left < b and a < left + width for a, b in placed):
            continue
        placed.append((left, left + width))
        style = {"transform": axes.get_xaxis_transform(), "fontsize": 8, "color": _INK, "parse_math": False}
        axes.text((left + width / 2) * len(values) - 0.5, 0.9, name, ha="center", va="center", **style)
        height = axes.patches[index].get_height()
        axes.plot([index, index], [height, axes.get_ylim()[1] * 0.85], color="#b9c0cc", linewidth=0.8)


def health_svg(filters: Sequence[FilterHealth]) -> str:
    """Normalised variance entropy along the network, and against sparsity; empty where nothing has one."""
    shown = [f for f in filters if f.normalised is not None]
    if not shown:
        return ""
    figure = _figure(3.9)
    along, against = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    heights = [f.normalised or 0.0 for f in shown]
    top = max(1.12, max(heights) + 0.08)
    _scatter(along, [float(n) for n in range(1, len(shown) + 1)], shown)
    along.plot(range(1, len(shown) + 1), heights, color="#c9ced8", linewidth=1, zorder=1)
    if len(shown) <= 12:
        along.set_xticks(range(1, len(shown) + 1))
    else:
        along.locator_params(axis="x", integer=True)
    along.set_xlabel("convolution, in order of execution", fontsize=9, color=_SOFT)
    along.set_ylabel("normalised variance entropy", fontsize=9, color=_SOFT)
    _scatter(against, [f.sparsity for f in shown], shown)
    against.set_xlabel("sparsity: share of dead kernels", fontsize=9, color=_SOFT)
    right = max(0.42, max(f.sparsity for f in shown) * 1.35)
    against.set_xticks([tick for tick in against.get_xticks() if 0 <= tick <= min(1.0, right)])
    against.set_xlim(-0.03 * right, right)
    along.set_xlim(0.3, len(shown) + 0.7)
    along.set_ylim(-0.03, top)
    for axes in (along, against):
        axes.axhspan(filter_health.RANDOM_FROM, top, color=COLOURS["random"], alpha=0.07, linewidth=0, zorder=0)
        axes.axhspan(
            -0.03, filter_health.REDUNDANT_BELOW, color=COLOURS["redundant"], alpha=0.07, linewidth=0, zorder=0
        )
    against.axvspan(filter_health.SPARSE_FROM, right, color=COLOURS["sparse"], alpha=0.08, linewidth=0, zorder=0)
    _corner(along, 0.995, 0.985, "random", "right", "top")
    _corner(along, 0.995, 0.015, "redundant", "right", "bottom")
    _corner(against, 0.995, 0.015, "sparse", "right", "bottom")
    _name_outliers(against, shown, right, top)
    return _svg(figure, "health")


def _scatter(axes: Any, positions: Sequence[float], shown: Sequence[FilterHealth]) -> None:
    for word, colour in COLOURS.items():
        members = [(x, f.normalised) for x, f in zip(positions, shown, strict=True) if (f.word or "") == word]
        if members:
            xs, ys = zip(*members, strict=True)
            style = {"facecolor": colour, "edgecolor": "white"} if word else {"facecolor": "white", "edgecolor": colour}
            axes.scatter(xs, ys, s=34 if len(shown) < 80 else 20, linewidth=0.8, zorder=3, **style)
    _tidy(axes)


def _corner(axes: Any, x: float, y: float, word: str, ha: str, va: str) -> None:
    axes.text(x, y, word, transform=axes.transAxes, ha=ha, va=va, fontsize=9, color=COLOURS[word], fontweight="bold")


def _name_outliers(axes: Any, shown: Sequence[FilterHealth], right: float, top: float) -> None:
    """Names beside the points that are not healthy, the worst first, where there is room."""
    outliers = sorted((f for f in shown if f.word not in ("healthy", None)), key=_distance, reverse=True)[:_OUTLIERS]
    taken = [_Box(f.sparsity, f.normalised or 0.0, 0.02 * right, 0.03) for f in shown]
    for health in outliers:
        x, y, name = health.sparsity, health.normalised or 0.0, _short(health.name)
        width = 0.0158 * right * len(name)
        places = ((side, y + shift) for shift in _SHIFTS for side in (1, -1))
        for side, height in places:
            box = _Box(x + side * (0.03 * right + width / 2), height, width, 0.055)
            inside = box.x - width / 2 >= 0 and box.x + width / 2 <= right and 0.02 < height < top - 0.02
            if inside and not any(box.meets(b) for b in taken):
                break
        else:
            continue
        taken.append(box)
        axes.annotate(
            name,
            (x, y),
            xytext=(x + side * 0.03 * right, height),
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=8,
            color=_INK,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": "#b9c0cc", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3},
        )


def _short(name: str) -> str:
    """A name's end."""
    return name if len(name) <= _LONG else "…" + name[1 - _LONG :]


@dataclass(frozen=True)
class _Box:
    """A rectangle by its centre, in the units of the axes."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: _Box) -> bool:
        """Whether the two overlap."""
        return (
            abs(self.x - other.x) < (self.width + other.width) / 2
            and abs(self.y - other.y) < (self.height + other.height) / 2
        )


def _distance(health: FilterHealth) -> float:
    """How far beyond the bounds."""
    entropy = health.normalised or 0.0
    return max(
        health.sparsity - filter_health.SPARSE_FROM,
        entropy - filter_health.RANDOM_FROM,
        filter_health.REDUNDANT_BELOW - entropy,
    )


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _svg(figure: Any, name: str) -> str:
    """The same text each time; ``name`` keeps the ids of one plot off those of another."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
