"""A diagnosis as people look at it: ``diagnose.html`` (one file, plots inside) and a terminal table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress import filter_health
from compress.cost import Layer
from compress.diagnose import Conversion, Diagnosis
from compress.filter_health import FilterHealth
from compress.report import diagnosis_plot

__all__ = ["COLUMNS", "Row", "headline", "html", "rows", "text"]

COLUMNS = ("", "layer", "kind", "output", "MACs", "share", "parameters", "activations", "kernels", "VE", "sparsity")
_TOP = 20  # layers in the terminal
_MUCH = 1 / 3  # of the MACs in three layers is worth saying
_OPEN = 60  # up to so many layers the page shows its table unfolded


@dataclass(frozen=True)
class Row:
    """One layer that computes or has parameters."""

    number: int
    name: str
    kind: str
    output: str
    macs: str
    share: float
    """Of the network's MACs, percent."""
    parameters: str
    activations: str
    word: str
    """Of its kernels; empty where nothing is said of them."""
    entropy: str
    """Normalised variance entropy."""
    sparsity: str


def rows(diagnosis: Diagnosis) -> list[Row]:
    """The layers, in the order of execution; those without MACs and parameters are left out."""
    health = {f.name: f for f in diagnosis.filters}
    total = diagnosis.cost.macs
    return [_row(number, layer, total, health.get(layer.name)) for number, layer in _shown(diagnosis)]


def _shown(diagnosis: Diagnosis) -> list[tuple[int, Layer]]:
    """The layers of the table, with their numbers."""
    return list(enumerate((x for x in diagnosis.cost.layers if x.macs or x.parameters), start=1))


def _row(number: int, layer: Layer, total: int, health: FilterHealth | None) -> Row:
    relative = health.normalised if health else None
    return Row(
        number=number,
        name=layer.name,
        kind=layer.kind + (f" x{layer.calls}" if layer.calls > 1 else "" if layer.calls else ", not run"),
        output="x".join(str(n) for n in layer.output_shape[1:]),
        macs=_metric(layer.macs) if layer.macs else "",
        share=100.0 * layer.macs / total if total else 0.0,
        parameters=f"{layer.parameters:,}" if layer.parameters else "",
        activations=_binary(layer.activation_bytes) if layer.activation_bytes else "",
        word=(health.word or "") if health else "",
        entropy=f"{relative:.2f}" if relative is not None else "",
        sparsity=f"{health.sparsity:.2f}" if health else "",
    )


def headline(diagnosis: Diagnosis) -> str:
    """What matters most, in one sentence."""
    height, width = diagnosis.input_size
    cost = diagnosis.cost
    parts = [f"{_metric(cost.macs)} MACs for one {height} x {width} input, {cost.parameters:,} parameters"]
    shares = sorted((layer.macs for layer in cost.layers), reverse=True)
    busy = sum(share > 0 for share in shares)
    if busy > 3 and sum(shares[:3]) > _MUCH * cost.macs:
        parts.append(f"{100 * sum(shares[:3]) / cost.macs:.0f} % of the MACs in 3 of {busy} layers")
    if not diagnosis.random:
        parts += [_health_in_words(diagnosis.filters)] if diagnosis.filters else []
    parts += [_formats_in_words(diagnosis.conversions)] if diagnosis.conversions else []
    return "; ".join(parts) + "."


def _health_in_words(filters: Sequence[FilterHealth]) -> str:
    words = Counter(f.word for f in filters if f.word)
    found = [f"{words[word]} {word}" for word in ("sparse", "redundant", "random") if words[word]]
    judged = sum(f.threshold is not None for f in filters)
    return f"kernels: {', '.join(found)}" if found else f"kernels healthy in all {judged} judged layers"


def _formats_in_words(conversions: Sequence[Conversion]) -> str:
    done = [c.format for c in conversions if c.status == "converts"]
    refused = [c.format for c in conversions if c.status == "refused"]
    parts = [f"converts to {', '.join(done)}"] if done else []
    parts += [f"{', '.join(refused)} {'refuses' if len(refused) == 1 else 'refuse'} it"] if refused else []
    return ", ".join(parts) or "no format's packages are installed"


def _tiles(diagnosis: Diagnosis) -> list[tuple[str, str, str]]:
    """Label, value and a line below."""
    cost, (height, width) = diagnosis.cost, diagnosis.input_size
    pixels = height * width * diagnosis.scale**2
    small = f"{_binary(cost.weight_bytes)} as float32, {_binary(cost.weight_bytes // 4)} as int8"
    tiles = [
        ("Parameters", f"{cost.parameters:,}", small),
        (
            "MACs",
            _metric(cost.macs),
            f"{_metric(cost.macs / pixels)} an output pixel" if diagnosis.classes is None else "one image",
        ),
        ("Activations", _binary(cost.activation_bytes), "float32, written by layers with MACs"),
    ]
    if diagnosis.classes is None:
        halo = diagnosis.receptive_field
        side = f"{2 * halo + 1} x {2 * halo + 1}" if halo is not None else "whole image"
        tiles.append(
            (
                "Receptive field",
                side,
                f"{halo} pixels each way" if halo is not None else "or more than 63 pixels each way",
            )
        )
        output = f"{height * diagnosis.scale} x {width * diagnosis.scale}"
    else:
        output = f"{diagnosis.classes} classes"
    return [*tiles, ("Input", f"{height} x {width}", f"{diagnosis.channels} channels, to {output}")]


def _facts(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    merged = diagnosis.training_parameters
    facts = [
        ("Network", f"{_title(diagnosis)}, {diagnosis.task}"),
        ("Weights", f"{diagnosis.weights}, sha256 {diagnosis.sha256[:16]}"),
        ("MACs", "convolutions, linear layers and matrix products; one MAC is a multiplication and its addition"),
        ("Activations", "what these operators write, as in arXiv:2103.06877; runtime follows them more than MACs"),
    ]
    if merged is not None:
        facts.insert(1, ("Form", f"deployed, branches merged; the training form has {merged:,} parameters"))
    return [*facts, ("Versions", ", ".join(f"{k} {v}" for k, v in diagnosis.versions.items()))]


def _title(diagnosis: Diagnosis) -> str:
    return diagnosis.network if diagnosis.scale == 1 else f"{diagnosis.network} x{diagnosis.scale}"


def html(diagnosis: Diagnosis) -> str:
    """``diagnose.html``, one self-contained file."""
    import jinja2

    template = (Path(__file__).parent / "diagnosis.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    layers = rows(diagnosis)
    judged = [f for f in diagnosis.filters if f.normalised is not None]
    words: Counter[str] = Counter(f.word or "" for f in judged)
    return environment.from_string(template).render(
        title=_title(diagnosis),
        headline=headline(diagnosis),
        random=diagnosis.random,
        tiles=_tiles(diagnosis),
        cost_svg=diagnosis_plot.cost_svg(_shown(diagnosis), diagnosis.cost.parameters),
        health_svg="" if diagnosis.random else diagnosis_plot.health_svg(_executed(diagnosis)),
        words=[(word, words[word], colour) for word, colour in diagnosis_plot.COLOURS.items() if words[word]],
        single=len(diagnosis.filters) - len(judged),
        bounds=(filter_health.SPARSE_FROM, filter_health.REDUNDANT_BELOW, filter_health.RANDOM_FROM),
        conversions=[(c, f"{_binary(c.file_bytes or 0)}") for c in diagnosis.conversions],
        colours=diagnosis_plot.COLOURS,
        columns=COLUMNS,
        rows=layers,
        widest=max((row.share for row in layers), default=0.0) or 1.0,
        unfolded=len(layers) <= _OPEN,
        left_out=len(diagnosis.cost.layers) - len(layers),
        facts=_facts(diagnosis),
    )


def _executed(diagnosis: Diagnosis) -> list[FilterHealth]:
    """The filters in the order of execution."""
    place = {layer.name: number for number, layer in enumerate(diagnosis.cost.layers)}
    return sorted(diagnosis.filters, key=lambda f: place.get(f.name, len(place)))


def text(diagnosis: Diagnosis) -> str:
    """What the terminal shows."""
    layers = rows(diagnosis)
    largest = sorted(layers, key=lambda row: -row.share)[:_TOP]
    lines = [_title(diagnosis) + f", {diagnosis.weights}", headline(diagnosis), ""]
    lines += _aligned([COLUMNS, *(_cells(row) for row in largest), _total(diagnosis)])
    if len(layers) > len(largest):
        lines.append(f"{len(largest)} of {len(layers)} layers, by MACs")
    if diagnosis.conversions:
        lines += ["", *(_conversion_line(c) for c in diagnosis.conversions)]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    share = f"{row.share:.1f} %" if row.macs else ""
    numbers = (row.macs, share, row.parameters, row.activations, row.word, row.entropy, row.sparsity)
    return str(row.number), row.name, row.kind, row.output, *numbers


def _total(diagnosis: Diagnosis) -> tuple[str, ...]:
    cost = diagnosis.cost
    sums = (_metric(cost.macs), "", f"{cost.parameters:,}", _binary(cost.activation_bytes))
    return "", "total", "", "", *sums, "", "", ""


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of equal columns; names to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i in (1, 2, 8) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def _conversion_line(conversion: Conversion) -> str:
    if conversion.status != "converts":
        named = f" [{conversion.refused_operator}]" if conversion.refused_operator else ""
        return f"  {conversion.format:<10}{conversion.status}{named}: {conversion.reason}"
    operators = ", ".join(f"{name} {count}" for name, count in conversion.operators.items())
    return f"  {conversion.format:<10}{_binary(conversion.file_bytes or 0)}: {operators}"


def _metric(value: float) -> str:
    """Four digits and a letter: 27.87 G."""
    for power, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.4g} {letter}"
    return f"{value:.4g}"


def _binary(value: int) -> str:
    """264.0 MiB."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value >= 2**power:
            return f"{value / 2**power:.1f} {unit}"
    return f"{value} B"
