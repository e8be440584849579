"""All engines give the bytes of the slow reference: plain tables, samplers, diagonal bands; any image, any thread."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from export import compiled
from export.compiled import compiler
from export.errors import ExportError, MissingRuntimeError
from export.lut import cpackage, native, numpy_engine
from export.lut.cpackage import identifier
from export.lut.csource import source_of
from export.lut.network import PATTERNS, Band, Network, Source, Stage, Table, Tap, plain_taps, rows_of

SIZES = [(1, 1), (1, 6), (5, 1), (3, 3), (2, 9), (7, 5)]
MAIN = r"""
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    int width, height;
    if (scanf("%d %d", &width, &height) != 2) return 2;
    net_state s;
    unsigned char *row = malloc((size_t)width), *out = malloc((size_t)width * NET_SCALE * NET_SCALE);
    void *memory = malloc(net_memory(width));
    if (net_start(&s, memory, width, height) < 0) return 3;
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) { int v; if (scanf("%d", &v) != 1) return 4; row[x] = (unsigned char)v; }
        net_push(&s, row);
        while (net_pull(&s, out, (size_t)width * NET_SCALE))
            for (int k = 0; k < width * NET_SCALE * NET_SCALE; ++k) printf("%d ", out[k]);
    }
    free(row); free(out); free(memory);
    return 0;
}
"""
needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")


def table(taps: tuple[Tap, ...], outputs: int, bits: int = 4, band: Band | None = None, seed: int = 0) -> Table:
    rows = rows_of(len(taps), bits, band)
    entries = np.random.default_rng(seed).integers(-128, 128, (rows, outputs), dtype=np.int8)
    return Table(taps, entries, bits, band)


def one(pattern: str, scale: int = 2, bits: int = 5, padding: str = "replicate") -> Network:
    return Network("one", (Stage((table(plain_taps(pattern), scale**2, bits),), 1, scale=scale),), padding)  # type: ignore[arg-type]


def two_stages(scale: int = 4, outputs: int = 1) -> Network:
    first = tuple(table(plain_taps(p), outputs, 6, seed=k) for k, p in enumerate("SDY"))
    last = tuple(table(plain_taps(p, outputs), scale**2, 6, seed=k + 3) for k, p in enumerate("SDY"))
    return Network("two", (Stage(first, 12, 127), Stage(last, 3, scale=scale)))


def channels() -> Network:
    """As SPF-LUT's: two planes, mixed by a table over planes at one place, then enlarged."""
    first = Stage((table(plain_taps("S"), 2, 6),), 4, 127)
    mixed: tuple[Tap, ...] = ((Source(1, 0, 0),), (Source(2, 0, 0),))
    second = Stage((table(mixed, 1, 5, seed=1),), 1, 127, rotations=1)
    return Network("planes", (first, second, Stage((table(plain_taps("Y", 3), 4, 6, seed=2),), 1, scale=2)))


def sampled() -> Network:
    """As AutoLUT's: taps that are means of pixels, the second stage's of two planes."""
    means = tuple((Source(0, 0, k, 100), Source(0, 1, 0, 156 - k), Source(0, 2, 2, k)) for k in range(4))
    mixed = tuple((Source(0, 0, k, 31), Source(1, k, 1, 225)) for k in range(4))
    stages = (Stage((table(means, 1, 6),), 4, 127), Stage((table(mixed, 4, 6, seed=1),), 1, scale=2))
    return Network("sampled", stages)


def banded() -> Network:
    return Network("banded", (Stage((table(plain_taps("S"), 4, 5, Band(2, 6)),), 1, scale=2),))


def rich() -> Network:
    """All at once, with 16 values a row: samplers over two planes into diagonal bands."""
    means = tuple((Source(0, 0, k, 56), Source(0, k, 1, 200)) for k in range(4))
    mixed = tuple((Source(0, k % 2, k // 2, 19), Source(1, k // 2, k % 2, 237), Source(1, 2, 2, 0)) for k in range(4))
    first = Stage((table(means, 1, 4, Band(2, 5)), table(means[::-1], 1, 4, seed=1)), 8, 127)
    last = tuple(table(mixed, 16, 5, band, seed=k) for k, band in enumerate((Band(2, 6), None, Band(4, 7))))
    return Network("rich", (first, Stage(last, 3, scale=4)))


def banded_x4() -> Network:
    return Network("banded", (Stage((table(plain_taps("Y"), 16, 4, Band(2, 5)),), 1, scale=4),))


def many() -> Network:
    """Sums of one rotation that pass 16 bits."""
    return Network("many", (Stage(tuple(table(plain_taps("1x3"), 16, 6, seed=k) for k in range(5)), 5, scale=4),))


def coarse_samplers() -> Network:
    """Weights that pass 15 bits."""
    means = tuple((Source(0, 0, k, 1), Source(0, 1, k, 255)) for k in range(3))
    return Network("coarse", (Stage((table(means, 16, 7),), 1, scale=4),))


PLAIN: dict[str, Callable[[], Network]] = {
    **{f"pattern {p}": lambda p=p: one(p, bits=6) for p in PATTERNS},  # type: ignore[misc]
    "x4": lambda: one("S", 4, 4),
    "x3 mirrored": lambda: one("D", 3, 6, "reflect"),
    "x1": lambda: one("1x3", 1, 5),
    "coarsest": lambda: one("S", 2, 7),
    "finest": lambda: one("1x2", 2, 3),
    "two stages": two_stages,
    "two stages x2": lambda: two_stages(2),
    "planes": channels,
}
ALL = PLAIN | {
    "sampled": sampled,
    "banded": banded,
    "banded x4": banded_x4,
    "rich": rich,
    "many": many,
    "coarse samplers": coarse_samplers,
}


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise, and a part where neighbours are alike, as in pictures."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (height, width))
    smooth = np.clip(np.cumsum(random.integers(-9, 10, (height, width)), 1) + 128, 0, 255)
    return np.where(np.arange(width) % 4 < 3, smooth, noise).astype(np.uint8)


def numba_engine() -> ModuleType:
    return importlib.import_module("export.lut.numba_engine")


def kind(run: Any) -> str:
    """The engine behind what :func:`native.runner` gave, a partial of its function."""
    if run.func is native.enlarged:
        return "numpy"
    return "c" if isinstance(run.func.__self__, native.Engine) else "numba"


def without(engines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this machine one that lacks engines."""
    if "c" in engines:
        monkeypatch.setattr(compiled, "compiler", lambda: None)
    if "numba" in engines:
        monkeypatch.setitem(sys.modules, "export.lut.numba_engine", None)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (4, 6)])
def test_numpy_is_the_slow_reference(name: str, size: tuple[int, int], reference: Callable[[str], ModuleType]) -> None:
    network = ALL[name]()
    wanted = reference("slow_lut").enlarge(network, image(*size))
    np.testing.assert_array_equal(numpy_engine.enlarge(network, image(*size)), wanted)


@needs_compiler
@pytest.mark.parametrize("name", ALL)
def test_compiled_code_is_numpy(name: str) -> None:
    network = ALL[name]()
    engine = native.engine_of(network)
    assert engine is not None
    for number, size in enumerate([*SIZES, (70, 37)]):
        pixels = image(*size, seed=number)
        wanted = numpy_engine.enlarge(network, pixels)
        for threads in (1, 2, 4):
            np.testing.assert_array_equal(engine.enlarge(pixels, threads), wanted)


@needs_compiler
@pytest.mark.parametrize("name", ["two stages", "x3 mirrored", "planes", "rich", "coarse samplers"])
def test_exported_source_runs_row_by_row_without_a_warning_or_a_stray_access(name: str, tmp_path: Path) -> None:
    network = ALL[name]()
    source = source_of(Network("net", network.stages, network.padding))
    (tmp_path / "net.h").write_text(source.header)
    (tmp_path / "net.c").write_text(source.code)
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"]
    command = [compiler() or "", *flags, "net.c", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    for number, size in enumerate(SIZES):
        pixels = image(*size, seed=number)
        text = f"{size[1]} {size[0]} " + " ".join(map(str, pixels.reshape(-1)))
        done = subprocess.run(["./main"], cwd=tmp_path, input=text, capture_output=True, text=True, check=True)
        found = np.array(done.stdout.split(), np.uint8)
        np.testing.assert_array_equal(found, numpy_engine.enlarge(network, pixels).reshape(-1))


@needs_numba
@pytest.mark.parametrize("name", ALL)
def test_numba_is_numpy(name: str) -> None:
    network = ALL[name]()
    engine = numba_engine().Engine(network)
    for number, size in enumerate([*SIZES, (70, 37)]):
        pixels = image(*size, seed=number)
        wanted = numpy_engine.enlarge(network, pixels)
        for threads in (1, 2, 4):
            np.testing.assert_array_equal(engine.enlarge(pixels, threads), wanted)


@needs_numba
def test_numba_takes_images_that_are_turned_or_cut_out_of_others() -> None:
    pixels = image(12, 20)
    engine = numba_engine().Engine(two_stages())
    for part in (pixels.T, pixels[2:9, ::3], pixels[::-1]):
        np.testing.assert_array_equal(engine.enlarge(part), numpy_engine.enlarge(two_stages(), part))


@needs_numba
def test_numba_keeps_machine_code_in_a_cache_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    from export import jit

    def plus(x: int) -> int:
        return x + 1

    njit = numba.njit

    def without_folder(**options: Any) -> Any:
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    assert numba_engine()._gather.stats.cache_path
    monkeypatch.setattr(numba, "njit", without_folder)
    assert jit.compiled(plus)(2) == 3


@pytest.mark.parametrize("missing", [(), ("c",), ("c", "numba")])
def test_the_first_engine_that_is_there_runs_the_network(
    missing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"c": compiler() is not None, "numba": find_spec("numba") is not None, "numpy": True}
    without(missing, monkeypatch)
    wanted = next(name for name in native.ENGINES if here[name] and name not in missing)
    network, pixels = two_stages(), image(9, 9)
    run = native.runner(network, 2)
    assert kind(run) == wanted
    np.testing.assert_array_equal(run(pixels), numpy_engine.enlarge(network, pixels))


@pytest.mark.parametrize("name", native.ENGINES)
def test_an_engine_that_is_named_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (name == "c" and compiler() is None) or (name == "numba" and find_spec("numba") is None):
        pytest.skip(f"no {name} here")
    assert kind(native.runner(two_stages(), 1, name)) == name
    monkeypatch.setenv(native.VARIABLE, name)
    assert kind(native.runner(two_stages(), 1)) == name


def test_an_engine_that_is_named_and_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    without(("c", "numba"), monkeypatch)
    with pytest.raises(MissingRuntimeError, match=r"engine c of look-up tables: no C compiler here; install gcc"):
        native.runner(two_stages(), 1, "c")
    with pytest.raises(MissingRuntimeError, match=r"engine numba of .*; pip install 'edgepress\[numba\]'"):
        native.runner(two_stages(), 1, "numba")
    monkeypatch.setenv(native.VARIABLE, "cuda")
    with pytest.raises(ExportError, match=r"'cuda' of look-up tables \(EDGEPRESS_TABLES\), expected c, numba, numpy"):
        native.runner(two_stages(), 1)


def test_sums_that_no_32_bits_hold_are_named_and_left_to_others() -> None:
    means = tuple((Source(0, 0, k, 1), Source(0, 1, k, 255)) for k in range(2))
    network = Network("huge", (Stage(tuple(table(means, 1, 7) for _ in range(80)), 4096, scale=1),))
    with pytest.raises(ExportError, match="sums of huge pass 32 bits"):
        source_of(network)
    assert kind(native.runner(network, 1)) != "c"
    np.testing.assert_array_equal(native.runner(network, 1)(image(4, 4)), numpy_engine.enlarge(network, image(4, 4)))
    with pytest.raises(ExportError, match="sums of net pass 32 bits"):
        native.runner(network, 1, "c")


def test_identifiers() -> None:
    assert [identifier(n) for n in ("MuLUT x4", "4x", "--", "a.b")] == ["mulut_x4", "lut_4x", "lut", "a_b"]


def test_a_table_by_hand() -> None:
    """1x2 taps, two nodes a side at 0 and 128 and 256: halfway along one tap, a quarter along the other."""
    entries = np.zeros((9, 1), np.int8)
    entries[[0, 3, 4]] = [[10], [50], [90]]
    network = Network("hand", (Stage((Table(plain_taps("1x2"), entries, 7),), 1, rotations=1),))
    # value(64, 32) = (1 - 64/128) * 10 + (64 - 32)/128 * 50 + 32/128 * 90 = 5 + 12.5 + 22.5
    assert numpy_engine.enlarge(network, np.array([[64, 32]], np.uint8))[0, 0] == 40


COMPILERS = ["gcc", "clang", "aarch64-linux-gnu-gcc"]


@pytest.mark.parametrize("name", ["two stages", "rich"])
@pytest.mark.parametrize("command", COMPILERS)
def test_the_makefile_builds_a_program_that_enlarges_pictures(command: str, name: str, tmp_path: Path) -> None:
    if shutil.which(command) is None or shutil.which("make") is None:
        pytest.skip(f"no {command} or make here")
    emulator = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"] if command.startswith("aarch64") else []
    if emulator and shutil.which(emulator[0]) is None:
        pytest.skip("no qemu-aarch64 here")
    network = ALL[name]()
    cpackage.write(source_of(network), tmp_path)
    subprocess.run(["make", "-C", str(tmp_path), f"CC={command}"], check=True, capture_output=True)
    pixels = image(21, 34)
    picture = b"P5\n34 21\n255\n" + pixels.tobytes()
    program = [*emulator, str(tmp_path / network.name)]
    done = subprocess.run(program, input=picture, capture_output=True, check=True)
    assert done.stdout == b"P5\n136 84\n255\n" + numpy_engine.enlarge(network, pixels).tobytes()
    assert subprocess.run(program, input=picture[:-1], capture_output=True, check=False).returncode == 4
    assert subprocess.run(program, input=b"P6\n3 3", capture_output=True, check=False).returncode == 2
