"""A search as people look at it: ``search.html`` (one file, plots and pictures inside) and a terminal table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compress.measure import through
from compress.policies import in_words
from compress.report import pictures, search_plot
from compress.report.page import Section, Table, aligned
from compress.report.page import html as html_of
from compress.tasks.restoration import Restoration
from compress.tasks.super_resolution import SuperResolution
from export.torch_session import TorchSession

if TYPE_CHECKING:
    from compress.policy_search import Searched
    from search.trial import Trial

__all__ = ["html", "text"]

_SHOWN = 12  # trials of the front in the terminal


def headline(found: Searched) -> str:
    """What matters most, in one sentence."""
    unit, best = found.bench.task.unit, found.outcome.best
    gained = best.values["score"] - found.stock["score"]
    return (
        f"The best of {len(found.outcome.measured)} policies loses {_signed(found.drop)} {unit} against float32, "
        f"{_signed(abs(gained))} {unit} {'better' if gained >= 0 else 'worse'} than the stock file: "
        f"{in_words(best.candidate)}."
    )


def text(found: Searched) -> str:
    """What the terminal shows."""
    front = found.outcome.front
    lines = [*aligned(_table(found, front[:_SHOWN]))]
    if len(front) > _SHOWN:
        lines.append(f"{_SHOWN} of {len(front)} trials of the front")
    failed = len(found.outcome.trials) - len(found.outcome.measured)
    if failed:
        lines.append(f"{failed} trials failed; the reasons are on the page")
    warning = _warning(found)
    return "\n".join([*lines, "", headline(found), *([warning] if warning else [])])


def html(found: Searched) -> str:
    """``search.html``."""
    outcome, metric = found.outcome, found.bench.task.metric
    measured, reference, stock = outcome.measured, found.float_score, found.stock
    sections = [
        Section(
            "Every trial",
            "Dashed: the network in float32. Trials that lose many times more than usual are drawn at the lower edge.",
            svg=search_plot.pareto_svg(measured, outcome.front, stock, reference, metric),
        ),
        Section(
            "The front",
            "Trials that no other beats in all objectives; the marked one is best in score.",
            table=_table(found, outcome.front),
        ),
        Section("Convergence", svg=search_plot.convergence_svg(measured, stock, reference, metric)),
        *_pictures(found),
        *_failures(found),
    ]
    title = f"{found.bench.network.name}: quantization policies in {found.bench.question.format}"
    return html_of(title, headline(found), sections, _facts(found), _warning(found))


def _table(found: Searched, front: tuple[Trial, ...]) -> Table:
    """Float32, stock, and the trials of the front."""
    task, timed = found.bench.task, "latency" in found.stock
    heads = ("", task.metric, f"loss {task.unit}", "KiB", *(["ms"] if timed else []), "policy")
    reference = found.float_score

    def row(name: str, values: Mapping[str, float], words: str) -> tuple[str, ...]:
        loss = _signed(reference - values["score"])
        time = [f"{values['latency']:.2f}"] if timed else []
        return (name, f"{values['score']:.3f}", loss, f"{values['bytes'] / 1024:.1f}", *time, words)

    plain = ("float32", f"{reference:.3f}", "", f"{_size(found.files['float32']):.1f}", *([""] if timed else []), "")
    rows = [plain, row("stock int8", found.stock, "what the runtime's own quantizer decides")]
    rows += [row(f"trial {t.number}", t.values, in_words(t.candidate)) for t in front]
    return Table(heads, tuple(rows), marked=2, left=(0, len(heads) - 1))


def _size(path: Path) -> float:
    return path.stat().st_size / 1024


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # + 0.0: no "-0.000"


def _pictures(found: Searched) -> list[Section]:
    """One image held out, through the network and both files."""
    bench = found.bench
    if not isinstance(bench.task, SuperResolution | Restoration):
        return []
    runs = {"torch float32": through(TorchSession(bench.network.module), bench.network, bench.reach)}
    runs |= {f"{name} int8": bench.judge.open(found.files[name]) for name in ("stock", "best")}
    strip = pictures.beside(bench.task, runs, "An image held out, where the stock file differs most")
    return [Section(strip.heading, strip=strip)]


def _failures(found: Searched) -> list[Section]:
    failed = [t for t in found.outcome.trials if t.failed]
    if not failed:
        return []
    rows = tuple((f"trial {t.number}", t.reason or "", in_words(t.candidate)) for t in failed)
    return [Section("Failed", table=Table(("", "reason", "policy"), rows, left=(0, 1, 2)))]


def _warning(found: Searched) -> str:
    if found.bench.network.weights.random:
        return "The weights are random: sizes, times and what a policy costs to make are real, the scores say nothing."
    if found.bench.task.size < 4:
        return (
            f"Images held out: {found.bench.task.size}. Small differences may be chance; give more with --calibration."
        )
    return ""


def _facts(found: Searched) -> list[tuple[str, str]]:
    from search.storage import hidden

    bench, plan = found.bench, found.outcome.plan
    question = bench.question
    objectives = ", ".join(f"{name} ({direction})" for name, direction in plan.objectives.items())
    trials = f"{len(found.outcome.trials)}, {found.earlier} of them before this call; this call {found.seconds:.0f} s"
    return [
        ("Network", f"{question.options.model}, weights sha256 {bench.network.weights.sha256[:16]}"),
        ("Format", f"{question.format}, input {bench.size[0]} x {bench.size[1]}; scored through its own runtime"),
        (
            "Images",
            f"{bench.task.size} of the calibration images held out, none of the evaluation; {bench.task.protocol}",
        ),
        ("Sampler", f"{plan.sampler}, seed {plan.seed}, history of {len(plan.prior.tables)} networks"),
        ("Objectives", objectives),
        ("Space", f"{plan.space.size} policies"),
        ("Trials", trials),
        ("Study", f"{plan.name} in {hidden(found.place.storage)}"),
        ("Recipe of the best", str(found.place.out / "recipe.toml")),
    ]
