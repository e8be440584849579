"""The exported C, its vector paths too, under AddressSanitizer and UndefinedBehaviorSanitizer: any bytes, any size.

One program a network: it takes many images from stdin, each in blocks of memory of exactly the size asked for.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from export.compiled import compiler
from export.lut import cpackage, native
from export.lut.network import Band, Network, Source, Stage, Table, Tables, Tap, plain_taps, rows_of
from export.separable.network import HIGH, LOW, Layer, Separable

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler")
CHECKED = ["-fsanitize=address,undefined", "-fno-sanitize-recover"]
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-march=native", *CHECKED]
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # a program that ends early frees nothing
REFUSED, TOO_SHORT = 2, 4  # the example's exit codes
MAIN = r"""
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *block(size_t size) { void *made = malloc(size); if (!made) exit(9); return made; }

/* Whole, row by row, then rows first..last-1 of an image with gaps between its rows, into rows with gaps. */
int main(void) {
    int32_t n[5];
    while (fread(n, 4, 5, stdin) == 5) {
        const int width = n[0], height = n[1], first = n[2], last = n[3], gap = n[4];
        const size_t wide = (size_t)width * NET_SCALE, pitch = (size_t)(width + gap), stride = wide + (size_t)gap;
        const size_t begin = (size_t)first * NET_SCALE, rows = (size_t)(last - first) * NET_SCALE;
        uint8_t *image = block((size_t)(height - 1) * pitch + (size_t)width);
        uint8_t *whole = block(wide * (size_t)height * NET_SCALE), *part = block((rows - 1) * stride + wide);
        void *memory = block(net_memory(width));
        net_state s;
        if (net_start(&s, memory, width, height) < 0) return 3;
        uint8_t *to = whole;
        for (int y = 0; y < height; ++y) {
            uint8_t *row = block((size_t)width);
            if (fread(row, 1, (size_t)width, stdin) != (size_t)width) return 4;
            memcpy(image + (size_t)y * pitch, row, (size_t)width);
            net_push(&s, row);
            free(row);
            while (net_pull(&s, to, wide)) to += wide * NET_SCALE;
        }
        if (to != whole + wide * (size_t)height * NET_SCALE) return 5;
        if (net_part(image, pitch, width, height, first, last, part, stride, memory) != 0) return 6;
        for (size_t y = 0; y < rows; ++y) if (memcmp(part + y * stride, whole + (begin + y) * wide, wide)) return 7;
        fwrite(whole, 1, wide * (size_t)height * NET_SCALE, stdout);
        free(image), free(whole), free(part), free(memory);
    }
    uint8_t one = 0;
    const int sizes[5][2] = {{0, 1}, {1, 0}, {-1, 1}, {32769, 1}, {1, 32769}};
    for (int k = 0; k < 5; ++k) if (net_upscale(&one, 1, sizes[k][0], sizes[k][1], &one, 1, &one) != -1) return 8;
    return 0;
}
"""


def entries(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(-128, 128, shape, dtype=np.int8)


def whole(pattern: str, outputs: int, plane: int = 0) -> Table:
    taps = plain_taps(pattern, plane)
    return Table(taps, entries(rows_of(len(taps), 6), outputs), 6)


def sums_of_16_bits() -> Network:
    """Taps three pixels away, a second stage that mirrors too, 16 values a row."""
    first = Stage(tuple(whole(p, 1) for p in "SE"), 8, 127)
    return Network("net", (first, Stage(tuple(whole(p, 16, 1) for p in "HO"), 2, scale=4)), "reflect")


def sums_of_32_bits() -> Network:
    """Samplers over two planes into diagonal bands and into a whole table."""
    means: tuple[Tap, ...] = tuple((Source(0, 0, k, 56), Source(0, k, 1, 200)) for k in range(4))
    mixed: tuple[Tap, ...] = tuple((Source(0, k % 2, k // 2, 19), Source(1, 5 - k, -k, 237)) for k in range(4))
    band = Band(2, 7)
    first = Stage((Table(means, entries(rows_of(4, 6, band), 1), 6, band),), 4, 127)
    tables = (Table(mixed, entries(rows_of(4, 6, band), 16), 6, band), Table(mixed[::-1], entries(5**4, 16), 6))
    return Network("net", (first, Stage(tables, 3, scale=4)))


def one_dimensional() -> Separable:
    moves = tuple((k - 3, 5 - k) for k in range(8))
    layers = (
        Layer("spread", entries(9, 8, HIGH), entries(9, 8, LOW)),
        Layer("pointwise", entries(8, 8, HIGH), None, moves),
        Layer("depthwise", entries(9, 8, HIGH)),
        Layer("pointwise", entries(8, 9, HIGH), None, moves[::-1]),
    )
    return Separable("net", layers)


MADE: dict[str, Callable[[], Tables]] = {
    "16 bits": sums_of_16_bits,
    "32 bits": sums_of_32_bits,
    "one-dimensional": one_dimensional,
}


def images() -> list[np.ndarray]:
    """Noise, most in sides of 1 to 40 pixels: narrower than the patterns reach, about the vectors' lengths."""
    random = np.random.default_rng(0)
    sizes = [(1, 1), (1, 40), (40, 1), (2, 3), (3, 2), (7, 7), (5, 16), (4, 17), (6, 33), (40, 40), (2, 64), (3, 129)]
    sizes += [tuple(random.integers(1, 41, 2).tolist()) for _ in range(20)]
    return [random.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def given(pictures: Sequence[np.ndarray]) -> bytes:
    """The program's input."""
    random, parts = np.random.default_rng(1), []
    for pixels in pictures:
        height, width = pixels.shape
        first = int(random.integers(0, height))
        last = int(random.integers(first + 1, height + 1))
        parts += [np.array([width, height, first, last, random.integers(0, 9)], np.int32).tobytes(), pixels.tobytes()]
    return b"".join(parts)


@pytest.fixture(scope="module", params=MADE)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Path]:
    """A network, and the folder of its programs: ``many`` of :data:`MAIN`, and the example."""
    network, folder = MADE[request.param](), tmp_path_factory.mktemp("sanitized")
    cpackage.write(native.source_of(network), folder)
    (folder / "main.c").write_text(MAIN)
    for parts in (["-c", "net.c"], ["net.o", "main.c", "-o", "many"], ["net.o", "net_example.c", "-o", "net"]):
        subprocess.run([compiler() or "", *FLAGS, *parts], cwd=folder, check=True)
    return network, folder


def test_random_images_of_1_to_40_pixels_a_side(built: tuple[Tables, Path]) -> None:
    network, folder = built
    pictures = images()
    done = subprocess.run([folder / "many"], input=given(pictures), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    wanted = b"".join(native.enlarged(network, pixels).tobytes() for pixels in pictures)
    assert done.stdout == wanted


def run_example(folder: Path, data: bytes) -> tuple[int, bytes]:
    done = subprocess.run([folder / "net"], input=data, capture_output=True, check=False, env=ENVIRONMENT)
    assert not done.stderr, done.stderr.decode()[-2000:]
    return done.returncode, done.stdout


def picture(pixels: np.ndarray) -> bytes:
    return b"P5\n%d %d\n255\n" % pixels.shape[::-1] + pixels.tobytes()


def test_files_that_are_too_short_or_too_long(built: tuple[Tables, Path]) -> None:
    network, folder = built
    pixels = images()[8]
    data = picture(pixels)
    header = len(data) - pixels.size
    enlarged = picture(native.enlarged(network, pixels))
    assert run_example(folder, data) == (0, enlarged)
    assert run_example(folder, data + b"P5 and more" * 99) == (0, enlarged)
    for kept in (header, header + 1, header + 32, header + 33, len(data) - 1):
        code, found = run_example(folder, data[:kept])
        assert code == TOO_SHORT and enlarged.startswith(found)
    for kept in range(header):
        assert run_example(folder, data[:kept]) == (REFUSED, b"")


@pytest.mark.parametrize(
    "header",
    [
        *["P5 0 5 255\n", "P5 5 0 255\n", "P5 -4 5 255\n", "P5 32769 1 255\n", "P5 4294967297 1 255\n"],
        *["P5 1 99999999999999999999 255\n", "P6 2 2 255\n", "P5 2 2 65535\n", "P5 2 2 25\n", "P5 2 2 2550\n"],
        *["P5 2 2 255x", "P5 two 2 255\n", "\0\0\0", "P5 2 2 \xff"],
    ],
)
def test_headers_that_no_picture_of_8_bits_has(built: tuple[Tables, Path], header: str) -> None:
    assert run_example(built[1], header.encode("latin-1") + bytes(64)) == (REFUSED, b"")


def test_bytes_that_are_no_picture(built: tuple[Tables, Path]) -> None:
    random = np.random.default_rng(2)
    data = picture(images()[7])
    for count in range(12):
        broken = bytearray(data)
        for place in random.integers(0, 14, 1 + count % 3):
            broken[place] = random.integers(0, 256)
        code, _ = run_example(built[1], bytes(broken))
        assert code in (0, REFUSED, TOO_SHORT)
        assert run_example(built[1], random.bytes(99))[0] == REFUSED
