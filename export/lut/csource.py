"""C99 source of a network of tables: one header and one file, no allocation, no dependency, row by row.

The fixed part is runtime.c; here are written the tables, the constants, and for each stage the calls with all its
numbers in place, which the compiler folds in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from export.errors import ExportError
from export.files import atomic_write
from export.lut.cstage import INT16, is_special, is_wide, stage_code, too_large
from export.lut.layout import stored
from export.lut.network import Network, Stage
from export.lut.numpy_engine import denominator

__all__ = ["Source", "identifier", "source_of", "write"]

_HEADER = """\
/* {title}: x{scale} super-resolution of one 8-bit channel by look-up tables.  Written by edgepress; C99.
 *
 *   static unsigned char memory[...];                    at least {name}_memory(width) bytes
 *   {name}_state s;
 *   {name}_start(&s, memory, width, height);
 *   for each input row: {name}_push(&s, row);  while ({name}_pull(&s, out, stride)) use the {scale} rows at `out`;
 *
 * or {name}_upscale for a whole image.  Nothing is allocated and nothing is kept outside of `memory` and `s`.
 */
#ifndef {guard}
#define {guard}

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_SCALE {scale}
#define {upper}_HALO {halo}

typedef struct {{
    const int8_t *const *tables;
    uint8_t *planes;
    int32_t *rows;
    uint16_t *values;
    void *sums, *weights;
    size_t pitch;
    int width, height, first, last, pushed;
    int next[{stages}];
}} {name}_state;

/* Bytes that images of a width need, whatever their height. */
size_t {name}_memory(int width);

/* Begin an image; 0, or -1 for a width or height below 1 or above 32768.  `memory` is aligned to 8 bytes. */
int {name}_start({name}_state *s, void *memory, int width, int height);

/* Begin the part of an image whose output comes from input rows first..last-1; returns the first input row to push,
   which are all up to {upper}_HALO rows before and after the part. */
int {name}_start_part({name}_state *s, void *memory, int width, int height, int first, int last);

/* Give the next input row, width pixels. */
void {name}_push({name}_state *s, const uint8_t *row);

/* Take the next {upper}_SCALE output rows, of {upper}_SCALE * width pixels each; 0 where more input is needed first. */
int {name}_pull({name}_state *s, uint8_t *out, size_t stride);

/* The output of rows first..last-1 of an image that lies in memory; 0, or -1 as above.  Parts may run side by side,
   each with memory of its own. */
int {name}_part(const uint8_t *image, size_t stride, int width, int height, int first, int last, uint8_t *out,
               size_t out_stride, void *memory{given});
{whole}
#ifdef __cplusplus
}}
#endif
#endif
"""


_WHOLE = """
/* A whole image; 0, or -1 as above. */
int {name}_upscale(const uint8_t *image, size_t stride, int width, int height, uint8_t *out, size_t out_stride,
                   void *memory);
"""
_WHOLE_CODE = """
int {name}_upscale(const uint8_t *image, size_t stride, int width, int height, uint8_t *out, size_t out_stride,
                   void *memory) {{
    return {name}_part(image, stride, width, height, 0, height, out, out_stride, memory);
}}
"""
_GIVEN = ", const int8_t *const *tables"
_MAKE = """\
# make CC=clang, make CC=aarch64-linux-gnu-gcc CFLAGS='-O3 -mcpu=cortex-a76', ...
CFLAGS ?= -O3

{name}: {file}.o {name}_example.o
\t$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@

%.o: %.c {name}.h
\t$(CC) -std=c99 -Wall -Wextra -Werror $(CFLAGS) -c $< -o $@

clean:
\trm -f {name} *.o

.PHONY: clean
"""
_CMAKE = """\
# In a project of yours: add_subdirectory(this folder) and target_link_libraries(yours PRIVATE {name}).
# Android NDK, from the command line or as externalNativeBuild in Gradle:
#   cmake -B build -DCMAKE_TOOLCHAIN_FILE=$NDK/build/cmake/android.toolchain.cmake -DANDROID_ABI=arm64-v8a
#   cmake --build build
cmake_minimum_required(VERSION 3.10)
project({name} C)
set(CMAKE_C_STANDARD 99)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
add_library({name} STATIC {file}.c)
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
add_executable({name}_example {name}_example.c)
target_link_libraries({name}_example PRIVATE {name})
"""


@dataclass(frozen=True)
class Source:
    """A header and a C file."""

    name: str
    header: str
    code: str


def identifier(name: str) -> str:
    """A name as C takes it."""
    plain = re.sub(r"\W+", "_", name).strip("_").lower()
    return plain if plain and not plain[0].isdigit() else f"lut_{plain}".rstrip("_")


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
    name = identifier(network.name)
    words = {
        "title": network.name,
        "name": name,
        "upper": name.upper(),
        "guard": f"{name.upper()}_H",
        "scale": network.scale,
        "halo": network.halo,
        "stages": len(network.stages),
        "given": "" if tables else _GIVEN,
        "whole": _WHOLE.format(name=name) if tables else "",
    }
    return Source(name, _HEADER.format(**words), "\n".join(_code(network, name, tables)))


def write(network: Network, folder: Path, file: str | None = None) -> list[Path]:
    """Write source, header, an example that enlarges a PGM picture, and what Make and CMake build them by.

    Args:
        network: any.
        folder: takes the files.
        file: name of the source, ``.c`` left out; None: that of its functions.

    Raises:
        ExportError: as :func:`source_of`.
    """
    source = source_of(network)
    name = source.name
    file = file or name
    example = resources.files("export.lut").joinpath("example.c").read_text(encoding="utf-8")
    files = {
        f"{file}.c": source.code,
        f"{name}.h": source.header,
        f"{name}_example.c": example.replace("@NAME@", name).replace("@UPPER@", name.upper()),
        "Makefile": _MAKE.format(name=name, file=file),
        "CMakeLists.txt": _CMAKE.format(name=name, file=file),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in files.items():
        atomic_write(folder / part, text)
    return [folder / part for part in files]


def _code(network: Network, name: str, tables: bool) -> Iterator[str]:
    ring = 2 * network.halo + 1
    planes = 1 + sum(stage.outputs for stage in network.stages[:-1])
    outputs = max(stage.outputs * stage.rotations for stage in network.stages)
    last = network.stages[-1]
    whole = denominator(last) * last.divisor
    quotient = _quotient(whole)
    yield f'#include "{name}.h"\n\n#include <string.h>\n'
    yield f"typedef {name}_state ep_state;"
    yield f"enum {{ EP_RING = {ring}, EP_MARGIN = {max(network.halo, 1)}, EP_PLANES = {planes} }};"
    yield f"enum {{ EP_REFLECT = {int(network.padding == 'reflect')} }};"
    yield f"#define EP_SMALL_SUMS {int(quotient is not None and _fits(last))}"
    yield f"#define EP_DIVIDE(x) {quotient or '(x)'}"
    yield resources.files("export.lut").joinpath("runtime.c").read_text(encoding="utf-8")
    yield from _tables(network, tables)
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


def _tables(network: Network, inside: bool) -> Iterator[str]:
    all_tables = [table for stage in network.stages for table in stage.tables]
    if not inside:
        yield "#define EP_TABLES NULL"
        return
    for number, table in enumerate(all_tables):
        entries = stored(table)
        yield f"static const int8_t ep_table_{number}[{entries.size}] = {{"
        flat = [str(value) for value in entries.reshape(-1).tolist()]
        yield from (",".join(flat[k : k + 32]) + "," for k in range(0, len(flat), 32))
        yield "};"
    names = ", ".join(f"ep_table_{number}" for number in range(len(all_tables)))
    yield f"static const int8_t *const ep_tables[{len(all_tables)}] = {{{names}}};"
    yield "#define EP_TABLES ep_tables\n"


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
        "GIVEN": "" if tables else _GIVEN,
        "TAKE": "" if tables else "    s.tables = tables;\n",
        "WHOLE": _WHOLE_CODE.format(name=name) if tables else "",
        "SCALE": str(network.scale),
        "CALLS": "{" + ", ".join(f"ep_stage_{k}" for k in range(count)) + "}",
    }
    for key, value in words.items():
        text = text.replace(f"@{key}@", value)
    return text
