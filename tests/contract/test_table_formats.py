"""What every format owes a network of look-up tables: the engine's bytes at any size, about the tables' size."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from export import formats
from export.artifact import Artifact, Card, ExportSpec, Image, Session
from export.compiled import compiler
from export.errors import ExportError
from export.lut import native
from export.lut.modules import module_of
from export.lut.network import Band, Network, Source, Stage, Table, Tables, Tap, plain_taps, rows_of
from export.parity import compare
from export.separable.network import HIGH, LOW, Layer, Separable
from export.tiling import enlarge
from export.torch_session import TorchSession

THREADS = 2
SIZES = [(1, 1), (1, 7), (6, 1), (2, 3), (24, 28), (17, 40)]


def table(taps: tuple[Tap, ...], outputs: int, bits: int, band: Band | None = None, seed: int = 0) -> Table:
    shape = (rows_of(len(taps), bits, band), outputs)
    return Table(taps, np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8), bits, band)


def rich() -> Network:
    """Samplers, two planes, a diagonal band, rotations and none, edges repeated."""
    means = tuple((Source(0, 0, k, 100), Source(0, 1, 2, 156)) for k in range(2))
    first = Stage((table(means, 2, 4),), 3, 127, rotations=1)
    taps: tuple[Tap, ...] = ((Source(1, 0, 0),), (Source(1, 0, 1),), (Source(2, 1, 0),), (Source(0, 1, 1),))
    return Network("rich", (first, Stage((table(taps, 4, 5, Band(2, 6), seed=1),), 1, scale=2)))


def mirrored() -> Network:
    """Two tables of three taps, edges mirrored."""
    tables = (table(plain_taps("1x3"), 9, 4), table(plain_taps("1x2"), 9, 4, seed=1))
    return Network("mirrored", (Stage(tables, 2, scale=3),), "reflect")


def least() -> Network:
    """One tap, one value, no enlargement, twice."""
    stages = [Stage((table(((Source(k, 0, k),),), 1, 7, seed=k),), 1, 100, rotations=1) for k in range(2)]
    return Network("least", tuple(stages))


def separable() -> Separable:
    """Tables of single values: a window of each channel, channels moved, then mixed and added to what they were."""
    random = np.random.default_rng(5)

    def entries(*shape: int) -> np.ndarray:
        return random.integers(-128, 128, shape, dtype=np.int8)

    moves = ((0, 1), (-1, 0), (0, 0), (1, 2))
    layers = (
        Layer("spread", entries(9, 4, HIGH), entries(9, 4, LOW)),
        Layer("depthwise", entries(9, 4, HIGH)),
        Layer("pointwise", entries(4, 4, HIGH), None, moves),
    )
    return Separable("separable", layers)


MADE: dict[str, Callable[[], Tables]] = {"rich": rich, "mirrored": mirrored, "least": least, "separable": separable}
_C = pytest.mark.skipif(compiler() is None, reason="no C compiler")
_LONG = {("tflite", "rich"), ("onnx", "mirrored")}
"""Files that take long to convert, of formats and networks that the others cover."""


def marks(name: str, tables: str) -> tuple[pytest.MarkDecorator, ...]:
    """Of the tests of one file."""
    return (*([_C] if name == "c" else []), *([pytest.mark.slow] if (name, tables) in _LONG else []))


every_format = pytest.mark.parametrize("name", formats.names(tables=True))
every_file = pytest.mark.parametrize(
    ("name", "tables"),
    [pytest.param(name, tables, marks=marks(name, tables)) for name in formats.names(tables=True) for tables in MADE],
)


@dataclass(frozen=True)
class Written:
    """A file, and what it was made from."""

    spec: ExportSpec
    folder: Path
    artifact: Artifact

    @property
    def path(self) -> Path:
        return self.artifact.path(self.folder)

    @property
    def network(self) -> Network:
        assert self.spec.tables is not None
        return self.spec.tables

    def open(self) -> Session:
        return formats.open_file(self.path, THREADS)

    def of_engine(self, image: Image) -> Image:
        """The numpy engine's levels, in [0, 255]."""
        pixels = np.rint(image * 255).astype(np.uint8)
        planes = [np.ascontiguousarray(pixels[..., c]) for c in range(pixels.shape[2])]
        return np.stack([native.enlarged(self.network, plane) for plane in planes], -1).astype(np.float32)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Written]:
    """``written(format, tables)``: the file, written at the first request."""
    modules = {name: module_of(make()).eval() for name, make in MADE.items()}

    @functools.cache
    def write(name: str, tables: str) -> Written:
        module, folder = modules[tables], tmp_path_factory.mktemp(f"{tables}-{name}")
        card = Card(tables, module.scale, 3, module.tables.halo, "int8")
        spec = ExportSpec(module, card, (24, 28))
        return Written(spec, folder, formats.write(name, spec, folder, f"{tables}_x{module.scale}_int8"))

    return write


@pytest.fixture(scope="session")
def picture(photo: Callable[..., np.ndarray]) -> Callable[..., Image]:
    return lambda height, width, seed=0: photo(height, width, seed).astype(np.float32) / np.float32(255)


def taken(file: Written, name: str, size: tuple[int, int]) -> bool:
    """Whether the runtime can run the file at a size: TFLite's MIRROR_PAD wants more pixels than it mirrors."""
    if isinstance(file.network, Separable) or file.network.padding == "replicate" or name != "tflite":
        return True
    return min(size) > max(stage.reach for stage in file.network.stages)


@every_file
def test_card_and_artifact(written: Callable[[str, str], Written], name: str, tables: str) -> None:
    file = written(name, tables)
    assert formats.of_file(file.path) == name
    card = formats.read_card(file.path)
    assert card == file.spec.card
    assert (file.artifact.format, file.artifact.dtype) == (name, "int8")
    assert file.artifact.intact(file.folder) and file.artifact.operators
    assert sorted(p.name for p in file.folder.iterdir()) == sorted([*file.artifact.files, "conversion.log"])


@every_file
@pytest.mark.parametrize("size", SIZES)
def test_a_file_gives_the_engines_bytes_at_any_size(
    written: Callable[[str, str], Written], picture: Callable[..., Image], name: str, tables: str, size: tuple[int, int]
) -> None:
    file, image = written(name, tables), picture(*size, seed=100)
    session = file.open()
    assert session.input_size is None
    if not taken(file, name, size):
        with pytest.raises(RuntimeError, match="MirrorPad paddings"):
            session.run(image)
        return
    output = session.run(image)
    np.testing.assert_array_equal(np.rint(output * 255), file.of_engine(image))
    assert compare(output, TorchSession(file.spec.module).run(image)).max_abs == 0


@every_file
def test_values_between_the_levels_and_beyond_are_rounded_alike(
    written: Callable[[str, str], Written], name: str, tables: str
) -> None:
    file = written(name, tables)
    image = np.random.default_rng(0).uniform(-0.2, 1.2, (31, 29, 3)).astype(np.float32)
    np.testing.assert_array_equal(file.open().run(image), TorchSession(file.spec.module).run(image))


@every_file
def test_tiled_is_whole_and_a_session_remembers_nothing(
    written: Callable[[str, str], Written], picture: Callable[..., Image], name: str, tables: str
) -> None:
    file, image = written(name, tables), picture(60, 71, seed=3)
    session, scale, halo = file.open(), file.network.scale, file.network.halo
    whole = session.run(image)
    kept = whole.copy()
    np.testing.assert_array_equal(enlarge(session, image, scale, halo, (32, 40)), whole)
    np.testing.assert_array_equal(whole, kept)
    assert not np.array_equal(enlarge(session, image, scale, halo - 1, (32, 40)), whole)
    call = session.prepare(image)
    call()
    call()
    np.testing.assert_array_equal(session.run(image), kept)


@every_format
def test_tables_of_a_published_size_are_stored_as_they_are(name: str, tmp_path: Path) -> None:
    """17^4 rows of 16 values."""
    if name == "c":
        pytest.skip("numbers as text take four times the room")
    network = Network("large", (Stage((table(plain_taps("S")[:1] * 4, 16, 4),), 1, rotations=1, scale=4),))
    spec = ExportSpec(module_of(network).eval(), Card("large", 4, 1, network.halo, "int8"), (24, 28))
    artifact = formats.write(name, spec, tmp_path, "large")
    assert network.table_bytes <= artifact.file_bytes < 1.1 * network.table_bytes


@pytest.mark.parametrize("name", sorted(set(formats.names(tables=True)) - set(formats.names())))
def test_other_networks_are_refused_by_formats_of_tables(name: str, tmp_path: Path) -> None:
    from torch import nn

    spec = ExportSpec(nn.Conv2d(3, 3, 1), Card("net", 1, 3, 0, "float32"), (8, 8))
    with pytest.raises(ExportError, match=f"{name}: net is no network of look-up tables; take another format"):
        formats.write(name, spec, tmp_path, "other")


def test_graphs_are_of_standard_operators(written: Callable[[str, str], Written]) -> None:
    onnx = pytest.importorskip("onnx")
    for tables in MADE:
        model = onnx.load(str(written("onnx", tables).path))
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
        assert not model.functions and [o.domain for o in model.opset_import] == [""]
        assert not any(node.op_type in ("TopK", "If", "Loop") for node in model.graph.node)
