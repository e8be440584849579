"""C of a network's stages: for each a function that computes one row, with all its numbers in place.

Stages of plain taps and whole tables add in 16 bits (runtime.c); samplers and bands take 32 (wide.c).
"""

from __future__ import annotations

from collections.abc import Iterator

from export.lut.layout import grids
from export.lut.network import WHOLE, Network, Stage, Table, rotated
from export.lut.numpy_engine import denominator

__all__ = ["INT16", "is_special", "is_wide", "stage_code", "too_large"]

INT16 = 32767
_INT31 = 2**31 - 1


def is_wide(stage: Stage) -> bool:
    """Whether a stage takes 32-bit sums."""
    return any(t.sampled for t in stage.tables) or denominator(stage) * 128 * len(stage.tables) > INT16


def is_special(stage: Stage) -> bool:
    """Whether a stage takes what wide.c has: 32-bit sums, or bands."""
    return is_wide(stage) or any(t.band for t in stage.tables)


def too_large(stage: Stage) -> bool:
    """Whether sums pass 32 bits too."""
    most = 128 * len(stage.tables) * stage.rotations + stage.divisor * (1 + abs(stage.bias))
    return 2 * denominator(stage) * most > _INT31


def stage_code(network: Network, number: int) -> Iterator[str]:
    """The function of one stage."""
    stage = network.stages[number]
    first = sum(len(s.tables) for s in network.stages[:number])
    plane = 1 + sum(s.outputs for s in network.stages[:number])
    wide = is_wide(stage)
    kind, suffix = ("int32_t", "_wide") if wide else ("int16_t", "")
    yield f"static void ep_stage_{number}(ep_state *s, int y, uint8_t *out, size_t stride) {{"
    yield "    const int width = s->width;"
    yield f"    {kind} *const sums = ({kind} *)s->sums;"
    yield f"    memset(sums, 0, sizeof({kind}) * {stage.rotations * stage.outputs} * (size_t)width);"
    for quarter in range(stage.rotations):
        for place, table in enumerate(stage.tables):
            yield from (_wide if is_special(stage) else _plain)(table, first + place, quarter, stage)
    whole = denominator(stage) * stage.divisor
    shared = f"{stage.rotations}, {whole}, {stage.bias}, width, sums"
    if number == len(network.stages) - 1:
        yield f"    ep_blocks{suffix}({stage.scale}, {shared}, out, stride);"
    else:
        yield "    (void)out; (void)stride;"
        for output in range(stage.outputs):
            at = f"ep_place(s, {plane + output}, y)"
            yield f"    ep_planes{suffix}({stage.outputs}, {shared}, {output}, {at});"
            yield f"    ep_margins({at}, width, ep_mirrored(s, {_after(network, number)}));"
    yield "}\n"


def _after(network: Network, number: int) -> int:
    """The reach of the stages that read a stage's planes."""
    return max(stage.reach for stage in network.stages[number + 1 :])


def _pixels(plane: int, row: int, column: int, quarter: int, stage: Stage) -> str:
    """Where a source's pixels begin."""
    row, column = rotated(row, column, quarter)
    return f"ep_row(s, {plane}, y + {row}, {stage.reach}) + {column}"


def _plain(table: Table, number: int, quarter: int, stage: Stage) -> Iterator[str]:
    """The two calls that add a table in one rotation."""
    used = [source for tap in table.taps for source in tap if source.weight == WHOLE]
    pointers = [_pixels(s.plane, s.row, s.column, quarter, stage) for s in used]
    strides = grids(table)[0].strides
    pad = 4 - len(used)
    given = ", ".join([*pointers, *[pointers[0]] * pad, *map(str, strides), *["0"] * pad])
    yield f"    ep_corners({len(used)}, {table.interval_bits}, {given}, width, s->rows, (uint8_t *)s->weights);"
    yield f"    ep_gather({len(used) + 1}, {table.outputs}, s->tables[{number}], width, s->rows,"
    yield f"              (const uint8_t *)s->weights, sums + (ptrdiff_t){quarter} * {stage.outputs} * width);"


def _wide(table: Table, number: int, quarter: int, stage: Stage) -> Iterator[str]:
    """The values of the taps, then as :func:`_plain`."""
    yield "    {"
    for place, tap in enumerate(table.taps):
        used = [source for source in tap if source.weight]
        for k, source in enumerate(used):
            at = _pixels(source.plane, source.row, source.column, quarter, stage)
            yield f"        const uint8_t *const p{place}_{k} = {at};"
        factor = [source.weight if table.sampled else source.weight // WHOLE for source in used]
        terms = " + ".join(f"{w}u * p{place}_{k}[x]" for k, w in enumerate(factor))
        yield f"        uint16_t *const v{place} = s->values + (ptrdiff_t){place} * width;"
        yield "        EP_INDEPENDENT"
        yield f"        for (int x = 0; x < width; ++x) v{place}[x] = (uint16_t)({terms});"
    yield "    }"
    whole, count, near = denominator(stage), len(table.taps), grids(table)[0]
    far = grids(table)[-1]
    limit = -1 if table.band is None else table.band.width * near.unit
    numbers = []
    for grid in (near, far):
        padded = [*grid.strides, *[0] * (4 - count)]
        numbers.append(
            f"{grid.unit.bit_length() - 1}, {whole // grid.unit}, {grid.start}, {', '.join(map(str, padded))}"
        )
    yield f"    ep_corners_wide({count}, {limit}, {numbers[0]},"
    yield f"                    {numbers[1]}, s->values, width, s->rows, (uint16_t *)s->weights);"
    sums = f"sums + (ptrdiff_t){quarter} * {stage.outputs} * width"
    if is_wide(stage):
        yield f"    ep_gather_wide({count + 1}, {table.outputs}, {whole}, s->tables[{number}], width, s->rows,"
        yield f"                   (const uint16_t *)s->weights, {sums});"
    else:
        yield f"    ep_narrow({count + 1} * width, s->weights);"
        yield f"    ep_gather({count + 1}, {table.outputs}, s->tables[{number}], width, s->rows,"
        yield f"              (const uint8_t *)s->weights, {sums});"
