"""C source as a file of ours: what lies beside it, what it says of itself, and what it is told without its parts."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export import compiled, formats
from export.artifact import Card, ExportSpec
from export.compiled import compiler
from export.errors import ExportError
from export.lut.network import Network, Stage, Table, plain_taps
from export.lut.numpy_engine import enlarge
from export.lut.torch_module import Lookup

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")
ENTRIES = np.random.default_rng(0).integers(-128, 128, (5**2, 4), dtype=np.int8)
NETWORK = Network("net", (Stage((Table(plain_taps("1x2"), ENTRIES, 6),), 1, scale=2),))


def written(folder: Path, stem: str = "Net-1_x2_int8", model: str = "net") -> Path:
    spec = ExportSpec(Lookup(NETWORK), Card(model, 2, 3, NETWORK.halo, "int8"), (8, 8))
    return formats.write("c", spec, folder, stem).path(folder)


def test_source_header_example_and_what_builds_them(tmp_path: Path) -> None:
    path = written(tmp_path)
    names = {"Net-1_x2_int8.c", "net_1_x2_int8.h", "net_1_x2_int8_example.c", "Makefile", "CMakeLists.txt"}
    assert {p.name for p in tmp_path.iterdir()} == {*names, "conversion.log"}
    assert formats.by_name("c").operators(path) == {"LOOKUP": 4}


@pytest.mark.parametrize("model", ["*/ int x; /*", 'a "b" \\', "Größe"])
def test_a_card_may_say_anything(model: str, tmp_path: Path) -> None:
    path = written(tmp_path, model=model)
    card = formats.read_card(path)
    assert card is not None and card.model == model
    assert path.read_text().splitlines()[0].count("*/") == 1


def test_a_name_that_no_makefile_takes(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"c: a file 'my net\.c' stands in no Makefile; expected a name of letters"):
        written(tmp_path, "my net")


@needs_compiler
def test_without_its_header_or_card(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "net_1_x2_int8.h").unlink()
    with pytest.raises(ExportError, match=r"its header net_1_x2_int8\.h is missing; export it again"):
        formats.open_file(path, 1)
    path.write_text("int main(void) { return 0; }\n")
    with pytest.raises(ExportError, match="was not written by edgepress"):
        formats.open_file(path, 1)
    assert formats.read_card(path) is None and formats.by_name("c").operators(path) == {}


@needs_compiler
@pytest.mark.parametrize(("old", "new"), [("_part(", "_port("), ("memcpy", "no_such_thing = memcpy")])
def test_source_that_was_changed(old: str, new: str, tmp_path: Path) -> None:
    path = written(tmp_path)
    for part in (path, tmp_path / "net_1_x2_int8.h"):
        part.write_text(part.read_text().replace(old, new))
    with pytest.raises(ExportError, match=r"lacks a function|refuses net_1_x2_int8\.c"):
        formats.open_file(path, 1)


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    with pytest.raises(ExportError, match=r"no C compiler here; install gcc or clang, or name one in \$CC"):
        formats.open_file(path, 1)


def test_make_and_cmake_build_the_example(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 11), dtype=np.uint8)
    picture = b"P5\n11 9\n255\n" + pixels.tobytes()
    wanted = b"P5\n22 18\n255\n" + enlarge(NETWORK, pixels).tobytes()
    written(tmp_path)
    if compiler() is None or shutil.which("make") is None:
        pytest.skip("no compiler or make here")
    subprocess.run(["make", "-C", str(tmp_path)], check=True, capture_output=True)
    assert subprocess.run([tmp_path / "net_1_x2_int8"], input=picture, capture_output=True, check=True).stdout == wanted
    if shutil.which("cmake") is None:
        pytest.skip("no cmake here")
    build = tmp_path / "build"
    subprocess.run(["cmake", "-S", str(tmp_path), "-B", str(build)], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(build)], check=True, capture_output=True)
    example = build / "net_1_x2_int8_example"
    assert subprocess.run([example], input=picture, capture_output=True, check=True).stdout == wanted
