"""The C engine on this machine: compiled once for each kind of network, kept in a cache folder, run by ctypes.

And which engine runs a network: C, numba, numpy, the first one that is there.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from export.compiled import library
from export.errors import ExportError, MissingRuntimeError
from export.lut import csource, layout
from export.lut.cpackage import Source
from export.lut.network import Tables
from export.separable import csource as separable_source
from export.separable.network import Separable
from export.workers import Workers

__all__ = ["ENGINES", "VARIABLE", "Engine", "engine_of", "enlarged", "runner", "source_of"]

Run = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
ENGINES = {
    "c": "no C compiler here; install gcc or clang, or name one in $CC",
    "numba": "numba is missing or does not fit this numpy; pip install 'edgepress[numba]'",
    "numpy": "",
}
"""Fastest first, and what is told where one is asked for and is not there."""
VARIABLE = "EDGEPRESS_TABLES"
"""Of the environment; names the engine to take, whatever else is there."""
_LINE = 64  # bytes of a cache line: where tables begin, and what may be read behind them
_LEAST_ROWS = 16  # that are worth a thread


class Engine:
    """A network that runs in a compiled library."""

    def __init__(self, library: ctypes.CDLL, name: str, scale: int, tables: Sequence[NDArray[np.int8]] = ()) -> None:
        """Take the functions whose names begin with ``name``, and the tables where the library does not hold them."""
        self._scale = scale
        self._workers = Workers()
        self._tables = [_placed(table) for table in tables]
        pointers = (ctypes.c_void_p * len(self._tables))(*[t.ctypes.data for t in self._tables])
        self._given = (pointers,) if tables else ()
        self._memory = getattr(library, f"{name}_memory")
        self._memory.restype = ctypes.c_size_t
        self._memory.argtypes = [ctypes.c_int]
        self._part = getattr(library, f"{name}_part")
        place, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        self._part.argtypes = [place, size, *[number] * 4, place, size, place, *[place] * len(self._given)]

    def enlarge(self, image: NDArray[np.uint8], threads: int = 1) -> NDArray[np.uint8]:
        """One channel (H, W) to (scale*H, scale*W), in bands of rows side by side."""
        image = np.ascontiguousarray(image)
        height, width = image.shape
        out = np.empty((height * self._scale, width * self._scale), np.uint8)
        bands = max(1, min(threads, height // _LEAST_ROWS))
        ends = [height * k // bands for k in range(bands + 1)]

        def work(band: int) -> None:
            memory = np.empty(int(self._memory(width)) // 8 + 1, np.int64)
            first, last = ends[band], ends[band + 1]
            begin = out.ctypes.data + first * self._scale * out.strides[0]
            given = (image.ctypes.data, width, width, height, first, last, begin, out.strides[0], memory.ctypes.data)
            if self._part(*given, *self._given) != 0:
                raise ExportError(f"tables: an image of {width}x{height} pixels, expected sides of 1 to 32768")

        self._workers.run(work, bands)
        return out


def _placed(table: NDArray[np.int8]) -> NDArray[np.int8]:
    """A table at the beginning of a cache line, with another line behind it, for loads of whole vectors."""
    memory = np.zeros(table.size + 2 * _LINE, np.int8)
    start = -memory.ctypes.data % _LINE
    memory[start : start + table.size] = table.reshape(-1)
    return memory[start:]


def source_of(network: Tables, tables: bool = True) -> Source:
    """The C source of any network; see the engines' own.

    Raises:
        ExportError: one that the C engine does not know.
    """
    if isinstance(network, Separable):
        return separable_source.source_of(network, tables)
    return csource.source_of(network, tables)


def engine_of(network: Tables) -> Engine | None:
    """The compiled engine, from the cache where it is there; None where no compiler is.

    Raises:
        ExportError: a network that the C engine does not know, or that the compiler refuses.
    """
    source = source_of(replace(network, name="net"), tables=False)
    if isinstance(network, Separable):
        tables = separable_source.stored(network)
    else:
        tables = [layout.stored(table) for stage in network.stages for table in stage.tables]
    made = library({"net.c": source.code, "net.h": source.header})
    return None if made is None else Engine(made, "net", network.scale, tables)


def enlarged(network: Tables, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One channel (H, W) to (scale*H, scale*W), in numpy."""
    from export.lut import numpy_engine
    from export.separable import numpy_engine as separable_engine

    if isinstance(network, Separable):
        return separable_engine.enlarge(network, image)
    return numpy_engine.enlarge(network, image)


def runner(network: Tables, threads: int, engine: str | None = None) -> Run:
    """What enlarges one channel: the fastest engine that this machine has for a network, or the one that is named.

    Args:
        network: any.
        threads: bands of rows, or rotations, side by side.
        engine: one of :data:`ENGINES`; None: what :data:`VARIABLE` says, or the first one that is there.

    Raises:
        ExportError: there is no such engine, or the named one does not know the network.
        MissingRuntimeError: the named one is not on this machine.
    """
    named = engine or os.environ.get(VARIABLE)
    if named and named not in ENGINES:
        raise ExportError(f"engine {named!r} of look-up tables ({VARIABLE}), expected {', '.join(ENGINES)}")
    for name in [named] if named else ENGINES:
        try:
            made = _made(name, network, threads)
        except ExportError:
            if named:
                raise
            continue
        if made is not None:
            return made
    raise MissingRuntimeError(f"engine {named} of look-up tables: {ENGINES[str(named)]}")


def _made(name: str, network: Tables, threads: int) -> Run | None:
    """An engine by its name; None where it is not there."""
    if name == "numpy":
        return partial(enlarged, network)
    if name == "c":
        engine = engine_of(network)
        return None if engine is None else partial(engine.enlarge, threads=threads)
    try:
        from export.lut.numba_engine import Engine as Interpolating
        from export.separable.numba_engine import Engine as Adding
    except ImportError:
        return None
    of_numba = Adding(network) if isinstance(network, Separable) else Interpolating(network)
    return partial(of_numba.enlarge, threads=threads)
