"""The C engine on this machine: compiled once for each kind of network, kept in a cache folder, run by ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.lut.csource import source_of
from export.lut.network import Network

__all__ = ["Engine", "compiler", "engine_of", "library", "runner"]

_FLAGS = ("-O3", "-march=native"), ("-O3",)
_SPARE = 64  # bytes behind a table, for loads of whole vectors
_LEAST_ROWS = 16  # that are worth a thread


class Engine:
    """A network that runs in a compiled library."""

    def __init__(self, library: ctypes.CDLL, name: str, scale: int, tables: Sequence[NDArray[np.int8]] = ()) -> None:
        """Take the functions whose names begin with ``name``, and the tables where the library does not hold them."""
        self._scale = scale
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._tables = [np.concatenate([t.reshape(-1), np.zeros(_SPARE, np.int8)]) for t in tables]
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

        others = [self._helpers(bands).submit(work, band) for band in range(1, bands)]
        work(0)
        for other in others:
            other.result()
        return out

    def _helpers(self, bands: int) -> ThreadPoolExecutor:
        """Threads that stay: making them takes as long as a small image."""
        if self._pool is None or self._pool[0] < bands:
            self._pool = (bands, ThreadPoolExecutor(bands - 1))
        return self._pool[1]


def compiler() -> str | None:
    """A C compiler of this machine: $CC, cc, gcc or clang."""
    names = [name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name]
    return next((found for name in names if (found := shutil.which(name))), None)


def engine_of(network: Network) -> Engine | None:
    """The compiled engine, from the cache where it is there; None where no compiler is.

    Raises:
        ExportError: a network that the C engine does not know, or that the compiler refuses.
    """
    if compiler() is None:
        return None
    source = source_of(replace(network, name="net"), tables=False)
    tables = [table.entries for stage in network.stages for table in stage.tables]
    return Engine(library({"net.c": source.code, "net.h": source.header}), "net", network.scale, tables)


def library(files: Mapping[str, str]) -> ctypes.CDLL:
    """C code compiled for this machine, the first file with the others beside it; from the cache where it is there.

    Raises:
        ExportError: no compiler, or one that refuses the code.
    """
    command = compiler()
    if command is None:
        raise ExportError("no C compiler here; install gcc or clang, or name one in $CC")
    key = hashlib.sha256("\0".join([*files, *files.values(), command, _processor()]).encode()).hexdigest()[:24]
    path = _cache() / f"{key}.so"
    if not path.is_file():
        _compile(command, files, path)
    return ctypes.CDLL(str(path))


def _processor() -> str:
    """What native code was made for: a cache may move to another machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), os.uname().machine)


def _cache() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgepress" / "lut"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        root = Path(tempfile.gettempdir()) / f"edgepress-lut-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
    return root


def _compile(command: str, files: Mapping[str, str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        for name, text in files.items():
            (Path(scratch) / name).write_text(text, encoding="utf-8")
        said = ""
        for flags in _FLAGS:
            arguments = [command, "-std=c99", *flags, "-shared", "-fPIC", f"./{next(iter(files))}", "-o", "net.so"]
            done = subprocess.run(arguments, cwd=scratch, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                (Path(scratch) / "net.so").replace(path)
                return
            said = done.stderr.strip()
        raise ExportError(f"{command} refuses the engine of a network of tables: {said[:300]}")


def runner(network: Network, threads: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """The fastest engine that this machine has for a network, on one channel."""
    from export.lut.numpy_engine import enlarge

    try:
        engine = engine_of(network)
    except ExportError:
        engine = None
    if engine is None:
        return lambda image: enlarge(network, image)
    return lambda image: engine.enlarge(image, threads)
