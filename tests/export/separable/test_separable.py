"""Networks of one-dimensional tables: all engines give the bytes of the slow reference, and the file holds them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from export import compiled
from export.artifact import Card
from export.compiled import compiler
from export.errors import ExportError
from export.lut import container, cpackage, native
from export.lut.modules import module_of
from export.separable import numpy_engine
from export.separable.network import HIGH, LOW, Kind, Layer, Separable

SIZES = [(1, 1), (1, 5), (6, 1), (3, 2), (5, 70)]
CARD = Card("net", 2, 3, 3, "int8")
ISAS = {
    "native": ("-O3", "-march=native"),
    "AVX2": ("-O3", "-mavx2"),
    "plain": ("-O2",),
}
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")


def network(
    scale: int = 2, channels: int = 8, inner: tuple[Kind, ...] = (), reach: int = 0, seed: int = 0
) -> Separable:
    """Entries far from zero, which pass both ends of every range."""
    random = np.random.default_rng(seed)

    def entries(*shape: int) -> np.ndarray:
        return random.integers(-128, 128, shape, dtype=np.int8)

    def moves() -> tuple[tuple[int, int], ...]:
        if not reach:
            return ()
        drawn = random.integers(-reach, reach + 1, (channels, 2)).tolist()
        return tuple((row, column) for row, column in drawn)

    layers = [Layer("spread", entries(9, channels, HIGH), entries(9, channels, LOW))]
    for kind in (*inner, "pointwise"):
        outputs = scale**2 if len(layers) == len(inner) + 1 else channels
        shape = (9, channels, HIGH) if kind == "depthwise" else (channels, outputs, HIGH)
        layers.append(Layer(kind, entries(*shape), None, () if kind == "depthwise" else moves()))  # type: ignore[arg-type]
    return Separable("net", tuple(layers))


ALL: dict[str, Callable[[], Separable]] = {
    "least": lambda: network(1, 4),
    "joined": lambda: network(2, 4, ("pointwise", "depthwise")),
    "published layout": lambda: network(4, 16, ("pointwise", "depthwise", "pointwise"), 1),
    "far shifts": lambda: network(2, 8, ("pointwise", "pointwise"), 5),
    "many channels": lambda: network(3, 32, ("depthwise",)),
}


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 2)])
def test_numpy_is_the_slow_reference(name: str, size: tuple[int, int], reference: Callable[[str], ModuleType]) -> None:
    made = ALL[name]()
    wanted = reference("slow_separable").enlarge(made, image(*size))
    np.testing.assert_array_equal(numpy_engine.enlarge(made, image(*size)), wanted)


def test_a_layer_by_hand() -> None:
    """One table stands for all: what channel 0 holds twice over 4 channels is half of it, 0.5 and 1.5 to even."""
    zero = Layer("spread", np.zeros((9, 4, HIGH), np.int8), np.zeros((9, 4, LOW), np.int8))
    entries = np.zeros((4, 1, HIGH), np.int8)
    entries[0, 0] = 2 * (np.arange(HIGH) - HIGH // 2)
    made = Separable("hand", (zero, Layer("pointwise", entries)))
    # pixels 132, 140 and 148 are 1, 3 and 5 above the middle, in units of 4; a rotation gives half: 0.5, 1.5, 2.5
    found = numpy_engine.enlarge(made, np.array([[132, 140, 148]], np.uint8))
    assert found.tolist() == [[128 + 4 * 0, 128 + 4 * 2, 128 + 4 * 2]]


@needs_compiler
@pytest.mark.parametrize("isa", ISAS)
def test_compiled_code_is_numpy(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_FLAGS", (ISAS[isa], ("-O3",)))
    monkeypatch.setattr(compiled, "_processor", lambda: isa)
    for name, make in ALL.items():
        made = make()
        engine = native.engine_of(made)
        assert engine is not None
        for number, size in enumerate([*SIZES, (70, 37)]):
            pixels = image(*size, seed=number)
            for threads in (1, 2, 4):
                wanted = numpy_engine.enlarge(made, pixels)
                np.testing.assert_array_equal(engine.enlarge(pixels, threads), wanted, f"{name} {size} {threads}")


@pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")
@pytest.mark.parametrize("name", ALL)
def test_numba_is_numpy(name: str) -> None:
    made = ALL[name]()
    for number, size in enumerate([*SIZES, (20, 37)]):
        pixels = image(*size, seed=number)
        wanted = numpy_engine.enlarge(made, pixels)
        for threads in (1, 3, 8):
            found = native.runner(made, threads, "numba")(pixels)
            np.testing.assert_array_equal(found, wanted, f"{name} {size} {threads}")


@pytest.mark.parametrize("name", ALL)
def test_the_torch_module_is_numpy(name: str) -> None:
    made = ALL[name]()
    images = np.stack([[image(7, 5, 2 * n + c) for c in range(2)] for n in range(3)])
    found = module_of(made)(torch.from_numpy(images).float() / 255)
    wanted = np.stack([[numpy_engine.enlarge(made, plane) for plane in each] for each in images])
    np.testing.assert_array_equal((found * 255).round().numpy(), wanted)
    assert float((found * 255 - torch.from_numpy(wanted)).abs().max()) < 1e-4


@pytest.mark.parametrize("command", ["gcc", "clang", "aarch64-linux-gnu-gcc"])
def test_the_makefile_builds_a_program_that_enlarges_pictures(command: str, tmp_path: Path) -> None:
    if shutil.which(command) is None or shutil.which("make") is None:
        pytest.skip(f"no {command} or make here")
    emulator = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"] if command.startswith("aarch64") else []
    if emulator and shutil.which(emulator[0]) is None:
        pytest.skip("no qemu-aarch64 here")
    made = ALL["published layout"]()
    cpackage.write(native.source_of(made), tmp_path)
    checked = "-O1 -march=native -fsanitize=address,undefined -fno-sanitize-recover"
    flags = checked if command == "gcc" else "-O2" if emulator else "-O2 -march=native"  # clang may lack its runtime
    build = ["make", "-C", str(tmp_path), f"CC={command}", f"CFLAGS={flags}", f"LDFLAGS={flags}"]
    subprocess.run(build, check=True, capture_output=True)
    program = [*emulator, str(tmp_path / "net")]
    for height, width in [(21, 34), (1, 1), (2, 130)]:
        pixels = image(height, width)
        picture = b"P5\n%d %d\n255\n" % (width, height) + pixels.tobytes()
        done = subprocess.run(program, input=picture, capture_output=True, check=True)
        wanted = numpy_engine.enlarge(made, pixels).tobytes()
        assert done.stdout == b"P5\n%d %d\n255\n" % (4 * width, 4 * height) + wanted
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # a program that ends early frees nothing
    ended = subprocess.run(program, input=picture[:-1], capture_output=True, check=False, env=environment)
    assert ended.returncode == 4


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = network(2, 8, ("pointwise", "depthwise"), 2)
    container.write(made, tmp_path / "net.lut", CARD)
    found = container.read(tmp_path / "net.lut")
    assert isinstance(found, Separable) and (found.name, found.scale, found.halo) == ("net", 2, made.halo)
    assert [layer.shifts for layer in found.layers] == [layer.shifts for layer in made.layers]
    np.testing.assert_array_equal(numpy_engine.enlarge(found, image(6, 7)), numpy_engine.enlarge(made, image(6, 7)))
    assert made.lookups == 4 * (9 * 8 * 2 + 8 * 8 + 9 * 8 + 8 * 4)
    assert made.table_bytes == 64 * (9 * 8 + 8 * 8 + 9 * 8 + 8 * 4) + 4 * 9 * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "1"}, "tables 0, 2, low, expected those of 3 layers"),
        ({"flip": "2"}, "tables were changed"),
        ({"header": ('"version":1', '"version":2')}, "version"),
        ({"header": ('"depthwise"', '"sideways"')}, "layers.1.kind"),
        ({"header": ("[[", "[[0,")}, "shifts of rows and columns"),
    ],
)
def test_a_file_that_was_changed_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.lut"
    container.write(network(2, 4, ("depthwise",), 1), path, CARD)
    with safe_open(str(path), "numpy") as file:
        header, tensors = dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if "drop" in change:
        del tensors[change["drop"]]
    if "flip" in change:
        tensors[change["flip"]][0, 0, 0] ^= 1
    if "header" in change:
        header["separable"] = header["separable"].replace(*change["header"])
    save_file(tensors, str(path), header)
    with pytest.raises(ExportError, match=message):
        container.read(path)


def test_parts_that_do_not_fit_are_named() -> None:
    made = network(2, 8, ("depthwise",))
    first, inner, last = made.layers
    wrong = {
        "1 layers, expected 2": (first,),
        "layer 0: depthwise, expected spread": (replace(first, kind="depthwise"), last),
        "layer 1: spread, expected depthwise or pointwise": (first, replace(inner, kind="spread"), last),
        r"layer 2: entries \(8, 5, 64\)|5 outputs": (
            first,
            inner,
            replace(last, entries=np.zeros((8, 5, 64), np.int8)),
        ),
        "entries int16": (first, replace(inner, entries=inner.entries.astype(np.int16)), last),
        "low bits, expected in the first": (replace(first, low=None), last),
        "low bits int8": (replace(first, low=np.zeros((9, 8, 5), np.int8)), last),
        "3 shifts, expected 8": (first, replace(last, shifts=((0, 0),) * 3)),
        "shifts by 17 pixels": (first, replace(last, shifts=((0, 17),) * 8)),
        "of (4, 8, 16, 32, 64) channels": (Layer("spread", np.zeros((9, 5, 64), np.int8)), last),
    }
    for message, layers in wrong.items():
        with pytest.raises(ExportError, match=message.replace("of (4, 8, 16, 32, 64)", r"of \(4, 8, 16, 32, 64\)")):
            Separable("net", layers)
