"""A network of tables as C99: the header, and the files around the source that an engine of its kind writes.

One header and one C file, no allocation, no dependency, row by row; an example, a Makefile and a CMakeLists.txt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.files import atomic_write
from export.lut.network import Tables

__all__ = ["GIVEN", "Source", "assembled", "identifier", "table_code", "whole_code", "write"]

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
    {fields}
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
GIVEN = ", const int8_t *const *tables"
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


def assembled(network: Tables, stages: int, fields: str, tables: bool, code: Callable[[str], Iterator[str]]) -> Source:
    """The source of a network.

    Args:
        network: any.
        stages: parts that compute rows one after the other.
        fields: further fields of the state.
        tables: whether the entries are in the file; else NAME_part takes them, for hosts that hold them.
        code: the C file behind its first lines, for a name of its functions.
    """
    name = identifier(network.name)
    words = {
        "title": network.name,
        "name": name,
        "upper": name.upper(),
        "guard": f"{name.upper()}_H",
        "scale": network.scale,
        "halo": network.halo,
        "stages": stages,
        "fields": fields,
        "given": "" if tables else GIVEN,
        "whole": _WHOLE.format(name=name) if tables else "",
    }
    first = [f'#include "{name}.h"\n\n#include <string.h>\n', f"typedef {name}_state ep_state;"]
    return Source(name, _HEADER.format(**words), "\n".join([*first, *code(name)]))


def whole_code(name: str, tables: bool) -> str:
    """The function for a whole image, which only sources that hold their tables have."""
    return _WHOLE_CODE.format(name=name) if tables else ""


def table_code(tables: Sequence[NDArray[np.int8]]) -> Iterator[str]:
    """The entries as constants; none: their place is given at run time."""
    if not tables:
        yield "#define EP_TABLES NULL"
        return
    for number, entries in enumerate(tables):
        yield f"static const int8_t ep_table_{number}[{entries.size}] = {{"
        flat = [str(value) for value in entries.reshape(-1).tolist()]
        yield from (",".join(flat[k : k + 32]) + "," for k in range(0, len(flat), 32))
        yield "};"
    names = ", ".join(f"ep_table_{number}" for number in range(len(tables)))
    yield f"static const int8_t *const ep_tables[{len(tables)}] = {{{names}}};"
    yield "#define EP_TABLES ep_tables\n"


def write(source: Source, folder: Path, file: str | None = None) -> list[Path]:
    """Write source, header, an example that enlarges a PGM picture, and what Make and CMake build them by.

    Args:
        source: any.
        folder: takes the files.
        file: name of the source, ``.c`` left out; None: that of its functions.
    """
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
