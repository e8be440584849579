"""C99 source of a network of tables: one header and one file, no allocation, no dependency, row by row.

The fixed part is runtime.c; here are written the tables, the constants, and for each stage the calls with all its
numbers in place, which the compiler folds in.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import numpy as np

from export.errors import ExportError
from export.lut.cpackage import GIVEN, Source, assembled, table_code, whole_code
from export.lut.cstage import INT16, is_special, is_wide, stage_code, too_large
from export.lut.layout import stored
from export.lut.network import Network, Stage
from export.lut.numpy_engine import denominator

__all__ = ["source_of"]

_FIELDS = "uint8_t *planes;\n    int32_t *rows;\n    uint16_t *values;\n    void *sums, *weights;"


def source_of(network: Network, tables: bool = True) -> Source:
    """The source of a network.

    Args:
        network: any.
        tables: whether the entries are in the file; else NAME_part takes them, for hosts that hold them.

    Raises:
        ExportError: sums of a stage pass 32 bits.
    """
    for stage in network.stages:
        if too_large(stage):
            raise ExportError(f"c: sums of {network.name} pass 32 bits, expected fewer tables in a stage")
    return assembled(network, len(network.stages), _FIELDS, tables, lambda name: _code(network, name, tables))


def _code(network: Network, name: str, tables: bool) -> Iterator[str]:
    ring = 2 * network.halo + 1
    planes = 1 + sum(stage.outputs for stage in network.stages[:-1])
    outputs = max(stage.outputs * stage.rotations for stage in network.stages)
    last = network.stages[-1]
    whole = denominator(last) * last.divisor
    quotient = _quotient(whole)
    yield f"enum {{ EP_RING = {ring}, EP_MARGIN = {max(network.halo, 1)}, EP_PLANES = {planes} }};"
    yield f"enum {{ EP_REFLECT = {int(network.padding == 'reflect')} }};"
    yield f"#define EP_SMALL_SUMS {int(quotient is not None and _fits(last))}"
    yield f"#define EP_DIVIDE(x) {quotient or '(x)'}"
    yield resources.files("export.lut").joinpath("runtime.c").read_text(encoding="utf-8")
    yield from table_code([stored(t) for stage in network.stages for t in stage.tables] if tables else [])
    if any(is_special(stage) for stage in network.stages):
        yield resources.files("export.lut").joinpath("wide.c").read_text(encoding="utf-8")
    for number in range(len(network.stages)):
        yield from stage_code(network, number)
    yield _machine(network, name, outputs, tables)


def _fits(stage: Stage) -> bool:
    """Whether the sum over all rotations fits 16 bits, half a divisor included."""
    whole = denominator(stage)
    return whole * (128 * len(stage.tables) * stage.rotations + stage.divisor) <= INT16


def _quotient(divisor: int) -> str | None:
    """AVX2 for 16-bit x / divisor of 0 <= x < 2^15, if two steps do it."""
    shift = (divisor & -divisor).bit_length() - 1
    odd, most = divisor >> shift, INT16 >> shift
    shifted = f"_mm256_srli_epi16(x, {shift})"
    if odd == 1:
        return shifted.replace("x,", "(x),")
    factor = -(-(1 << 16) // odd)
    values = np.arange(most + 1)
    if ((values * factor) >> 16 != values // odd).any():
        return None
    return f"_mm256_mulhi_epu16({shifted.replace('x,', '(x),')}, _mm256_set1_epi16((short){factor}))"


def _machine(network: Network, name: str, outputs: int, tables: bool) -> str:
    """Rows in, rows out: which row of which stage can be computed next."""
    count, wide = len(network.stages), any(is_wide(stage) for stage in network.stages)
    special = any(is_special(stage) for stage in network.stages)
    reaches = [stage.reach for stage in network.stages]
    uses = [sorted({s.plane for t in stage.tables for s in t.sources}) for stage in network.stages]
    maker = [-1, *[k for k, stage in enumerate(network.stages[:-1]) for _ in range(stage.outputs)]]
    ready = []
    for number in range(count):
        needs = sorted({maker[plane] for plane in uses[number]})
        rows = ["s->pushed" if need < 0 else f"s->next[{need}]" for need in needs]
        test = " && ".join(f"need < {row}" for row in rows)
        ready.append(f"        case {number}: need = ep_least(y + {reaches[number]}, s->height - 1); return {test};")
    text = resources.files("export.lut").joinpath("machine.c").read_text(encoding="utf-8")
    words = {
        "NAME": name,
        "STAGES": str(count),
        "CORNERS": str(1 + max(len(t.taps) for stage in network.stages for t in stage.tables)),
        "SUMS": f"({outputs} * sizeof({'int32_t' if wide else 'int16_t'}))",
        "WEIGHT": "uint16_t" if special else "uint8_t",
        "VALUES": "4" if special else "0",
        "FIRST_REACH": str(max(stage.reach for k, stage in enumerate(network.stages) if 0 in uses[k])),
        "LATER": "{" + ", ".join(str(sum(reaches[k + 1 :])) for k in range(count)) + "}",
        "READY": "\n".join(ready),
        "HALO": str(network.halo),
        "GIVEN": "" if tables else GIVEN,
        "TAKE": "" if tables else "    s.tables = tables;\n",
        "WHOLE": whole_code(name, tables),
        "SCALE": str(network.scale),
        "CALLS": "{" + ", ".join(f"ep_stage_{k}" for k in range(count)) + "}",
    }
    for key, value in words.items():
        text = text.replace(f"@{key}@", value)
    return text
