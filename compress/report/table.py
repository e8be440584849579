"""The numbers of a run as rows, and the rows as Markdown, HTML or plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.report.pictures import Strip
from compress.result import FileResult, Result
from compress.task import Scores
from search import pareto

__all__ = ["Row", "columns", "html", "markdown", "rows", "summary"]


def columns(result: Result) -> tuple[str, ...]:
    """The headings of :func:`rows`."""
    unit = result.floor.unit
    quality = ("", result.metric, f"loss {unit}", "SSIM", f"worst {unit}")
    return (*quality, "KiB", "ms (p10-p90)", "speed-up", "MiB RAM", "best")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    cells: tuple[str, ...]
    """In the order of :func:`columns`, the name left out."""
    deployed: bool


def rows(result: Result) -> list[Row]:
    """What must be beaten, the network in torch, before and after the steps, and every file."""
    fronts = pareto.front([_costs(file) for file in result.files])
    lines = [
        Row(result.floor_name, (*_scores(result.floor, None), "", "", "", "", ""), False),
        Row("torch float32", (*_scores(result.float32, None), "", "", "", "", ""), False),
    ]
    for step in result.steps:
        kib = f"{step.table_bytes / 1024:.0f}" if step.table_bytes else ""
        lines.append(Row(f"after {step.name}", (*_scores(step.scores, result.float32), kib, "", "", "", ""), False))
    for file, best in zip(result.files, fronts, strict=True):
        latency, factor = file.latency, result.speed_up(file)
        cells = (
            *_scores(file.scores, result.float32),
            f"{file.artifact.file_bytes / 1024:.0f}",
            f"{latency.median_ms:.1f} ({latency.p10_ms:.1f}-{latency.p90_ms:.1f})",
            f"{factor:.2f}x" if factor else "",
            f"{file.peak_memory_bytes / 2**20:.0f}",
            "*" if best else "",
        )
        lines.append(Row(file.artifact.name, cells, file is result.deployed))
    return lines


def _costs(file: FileResult) -> tuple[float, float, float]:
    return -file.scores.mean, file.latency.median_ms, float(file.artifact.file_bytes)


def _scores(scores: Scores, against: Scores | None) -> tuple[str, str, str, str]:
    loss = f"{round(against.mean - scores.mean, 2) + 0.0:.2f}" if against else ""  # + 0.0: no "-0.00"
    ssim = f"{scores.ssim:.4f}" if scores.ssim is not None else "" if scores.unit == "%" else "n/a"
    return f"{scores.mean:.2f}", loss, ssim, f"{scores.worst.value:.2f}"


def _facts(result: Result) -> list[tuple[str, str]]:
    size = result.files[0].latency
    weights = result.inputs["weights"]
    return [
        ("Network", f"{result.title}, {result.parameters:,} parameters{_merged(result)}"),
        ("Weights", f"{Path(weights['path']).name}, sha256 {weights['sha256'][:16]}"),
        ("Target", f"{result.profile.name}: {result.profile.title}"),
        ("Runtime on the device", result.profile.deploy.runtime),
        ("Images", f"{sum(i.count for i in result.float32.items)}, {result.float32.protocol}"),
        (
            "Latency",
            f"one {size.width} x {size.height} input, {result.files[0].latency.threads} threads, {result.host.cpu}",
        ),
        *_field(result),
        (
            "Run",
            f"{result.seconds:.0f} s, peak {result.peak_memory_bytes / 2**20:.0f} MiB, seed {result.options.seed}",
        ),
        ("Versions", ", ".join(f"{k} {v}" for k, v in result.versions.items())),
    ]


def _headline(result: Result) -> str:
    file = result.deployed
    factor = result.speed_up(file)
    loss, unit = result.float32.mean - file.scores.mean, file.scores.unit
    faster = f", {factor:.1f} times faster than float32 on this host" if factor else ""
    return (
        f"{file.artifact.files[0]}: {file.scores.mean:.2f} {unit}, {round(loss, 2) + 0.0:.2f} {unit} below the network"
        f"{faster}, {file.artifact.file_bytes / 1024:.0f} KiB"
    )


def markdown(result: Result) -> str:
    """``report.md``."""
    lines = [f"# {result.title} on {result.profile.name}: {_word(result)}", "", _headline(result), ""]
    heads = columns(result)
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows(result):
        name = f"**{row.name}**" if row.deployed else row.name
        lines.append("| " + " | ".join((name, *row.cells)) + " |")
    lines += ["", "`*`: no other file is better in quality, speed and size at once.", "", "## Verdict", ""]
    for finding in result.verdict.findings:
        note = f" ({finding.note})" if finding.note else ""
        lines.append(f"- {finding.what}: **{finding.status}**: {finding.found}; expected {finding.expected}{note}")
    if result.host.warning:
        lines += ["", f"Warning: {result.host.warning}."]
    lines += ["", "## Facts", "", *(f"- {key}: {value}" for key, value in _facts(result)), "", "## Recipe", ""]
    return "\n".join([*lines, "```toml", result.recipe_toml.strip(), "```", ""])


def _word(result: Result) -> str:
    return "pass" if result.verdict.passed else "fail"


def html(result: Result, strips: Sequence[Strip], latency_svg: str) -> str:
    """``report.html``, one self-contained file."""
    import jinja2

    template = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(
        title=f"{result.title} on {result.profile.name}",
        passed=result.verdict.passed,
        headline=_headline(result),
        columns=columns(result),
        rows=rows(result),
        findings=result.verdict.findings,
        notes=result.profile.notes,
        strips=strips,
        latency_svg=latency_svg,
        warning=result.host.warning,
        facts=_facts(result),
        recipe=result.recipe_toml.strip(),
        items=_per_item(result),
        item_columns=_item_columns(result),
    )


def _item_columns(result: Result) -> tuple[str, ...]:
    unit, kind = result.floor.unit, "class" if result.floor.protocol.endswith("top1") else "image"
    names = (result.floor_name, "torch float32", result.deployed.artifact.name, "loss")
    return (kind, *(f"{name} {unit}" for name in names))


def _per_item(result: Result) -> list[tuple[str, str, str, str, str]]:
    """Name, floor, float32, deployed and loss of each image or class, the largest loss first."""
    triples = zip(result.floor.items, result.float32.items, result.deployed.scores.items, strict=True)
    ordered = sorted(triples, key=lambda t: t[2].value - t[1].value)
    return [
        (b.name, f"{b.value:.2f}", f"{p.value:.2f}", f"{f.value:.2f}", f"{round(p.value - f.value, 2) + 0.0:.2f}")
        for b, p, f in ordered
    ]


def _merged(result: Result) -> str:
    merge = result.merge
    return f"; {merge.blocks} blocks merged, largest difference {merge.max_abs:.1e} of the peak" if merge else ""


def _field(result: Result) -> list[tuple[str, str]]:
    if result.halo is not None:
        return [("Receptive field", f"{result.halo} pixels each way; tiles give the whole image bit for bit")]
    if result.seam is None:
        return []
    seam = result.seam
    cost = f"tiles of {seam.tile[0]}x{seam.tile[1]} on {seam.height}x{seam.width} give {seam.psnr_db:.1f} dB of it"
    return [("Receptive field", f"the whole image; {cost}")]


def summary(result: Result, root: Path) -> str:
    """What the terminal shows at the end."""
    heads = columns(result)
    table = [heads, *((row.name + (" <" if row.deployed else ""), *row.cells) for row in rows(result))]
    widths = [max(len(line[i]) for line in table) for i in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    lines += ["", f"verdict for {result.profile.name}: {_word(result)}"]
    for finding in result.verdict.findings:
        note = f" ({finding.note})" if finding.note else ""
        lines.append(f"  {finding.status:<8}{finding.what}: {finding.found}; expected {finding.expected}{note}")
    lines += ["", f"report: {root / 'report.html'}"]
    return "\n".join(lines)
