"""What quantization costs, as people look at it: ``quantization.html`` and a terminal table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.measure import through
from compress.report import pictures
from compress.report.page import Section, Table, aligned
from compress.report.page import html as html_of
from compress.tasks.restoration import Restoration
from compress.tasks.super_resolution import SuperResolution
from export.torch_session import TorchSession

if TYPE_CHECKING:
    from compress.quantization import Found, Losses

__all__ = ["html", "text"]


def headline(losses: Losses) -> str:
    """What matters most, in one sentence."""
    unit, stock, best = losses.unit, losses.steps[0].score or 0.0, losses.best
    lost = f"Int8 as the runtime's own quantizer makes it loses {_number(losses.float_score - stock)} {unit}"
    if best is losses.steps[0]:
        return f"{lost}; no remedy gives more."
    left = losses.float_score - (best.score or 0.0)
    return f"{lost}; {_number(left)} {unit} with all up to '{best.name.strip('+ ')}'."


def text(losses: Losses) -> str:
    """What the terminal shows."""
    lines = [f"{losses.network} in {losses.format}, {losses.images} images held out", headline(losses), ""]
    lines += aligned(_ladder(losses))
    lines += [f"  {reason}" for reason in dict.fromkeys(s.reason for s in losses.steps if s.reason)]
    if losses.culprits:
        lines += ["", *aligned(_culprits(losses))]
    if losses.unread:
        lines += ["", f"which tensors it comes from cannot be told: {losses.unread}"]
    if _few(losses):
        lines += ["", _few(losses)]
    return "\n".join(lines)


def _few(losses: Losses) -> str:
    """A warning where one image decides."""
    if losses.images >= 4:
        return ""
    return f"Images held out: {losses.images}. Small differences may be chance; give more with --calibration."


def html(found: Found) -> str:
    """``quantization.html``, one self-contained file."""
    losses = found.losses
    ladder = "Each row has all remedies above it; every file is run in its own runtime on images held out."
    shares = (
        "Share: how much of the squared error against float32 goes away when this tensor alone is not rounded; shares "
        "need not add up to one, and may be more than one. Gain: what the step of the ladder gave."
    )
    sections = [Section("One remedy at a time", ladder, table=_ladder(losses))]
    if losses.culprits:
        sections.append(Section("Where the loss comes from", shares, table=_culprits(losses)))
    sections += _pictures(found)
    warnings = [losses.unread and f"Which tensors the loss comes from cannot be told: {losses.unread}."]
    warnings += ["The weights are random: the scores say nothing." if losses.random else _few(losses)]
    facts = [
        ("Images", f"{losses.images} calibration images held out, the others set the ranges"),
        ("Metric", losses.metric),
        ("Shares", "in torch, on the graph read back from the stock file"),
        ("Time", f"{losses.seconds:.0f} s"),
    ]
    title = f"{losses.network} in {losses.format}: what int8 costs"
    return html_of(title, headline(losses), sections, facts, " ".join(w for w in warnings if w))


def _ladder(losses: Losses) -> Table:
    unit = losses.unit
    rows = [("float32", f"{losses.float_score:.3f}", "", "", "", "")]
    before = None
    for step in losses.steps:
        if step.score is None:
            rows.append((step.name, "", "", "", "", "not possible"))
            continue
        gain = "" if before is None else _gain(step.score - before)
        lost = _number(losses.float_score - step.score)
        rows.append((step.name, f"{step.score:.3f}", lost, gain, f"{(step.file_bytes or 0) / 1024:.1f}", ""))
        before = step.score
    marked = 1 + losses.steps.index(losses.best)
    return Table(("", losses.metric, f"loss {unit}", f"gain {unit}", "KiB", "note"), tuple(rows), marked, (0, 5))


def _culprits(losses: Losses) -> Table:
    rows = tuple(
        (
            c.name,
            f"{c.share:.0%}",
            f"{c.range[0]:.3g} to {c.range[1]:.3g}",
            c.remedy.strip("+ "),
            "" if c.gain is None else _gain(c.gain),
        )
        for c in losses.culprits
    )
    return Table(("tensor", "share", "grid", "remedy", f"gain {losses.unit}"), rows, left=(0, 3))


def _number(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # + 0.0: no "-0.000"


def _gain(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"


def _pictures(found: Found) -> list[Section]:
    task, network, losses = found.judge.task, found.judge.network, found.losses
    if not isinstance(task, SuperResolution | Restoration):
        return []
    runs = {"torch float32": through(TorchSession(network.module), network, found.judge.reach)}
    runs[losses.steps[0].name] = found.judge.open(found.stock)
    if losses.best is not losses.steps[0]:
        runs[f"best: {losses.best.name}"] = found.judge.open(found.best)
    strip = pictures.beside(task, runs, "An image held out, where the stock file differs most")
    return [Section(strip.heading, strip=strip)]
