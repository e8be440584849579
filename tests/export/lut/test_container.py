"""The file holds the network; anything changed, cut or made up is refused with the reason, and never crashes."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from export import formats
from export.artifact import Card
from export.errors import ExportError
from export.lut import container
from export.lut.network import Band, Network, Stage, Table, plain_taps, rows_of
from export.lut.numpy_engine import enlarge

CARD = Card("net", 2, 3, 3, "int8")


def network() -> Network:
    random = np.random.default_rng(0)
    band = Band(1, 7)

    def entries(rows: int, outputs: int) -> np.ndarray:
        return random.integers(-128, 128, (rows, outputs), dtype=np.int8)

    first = Table(plain_taps("S"), entries(rows_of(4, 6, band), 1), 6, band)
    return Network(
        "net",
        (Stage((first,), 4, 127), Stage((Table(plain_taps("Y", 1), entries(5**4, 4), 6),), 1, scale=2)),
        "reflect",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    container.write(network(), tmp_path / "net.lut", CARD)
    return tmp_path / "net.lut"


def test_what_is_written_is_read(path: Path) -> None:
    found, made = container.read(path), network()
    assert (found.name, found.padding, found.scale, found.halo) == ("net", "reflect", 2, 3)
    for one, other in zip(found.stages, made.stages, strict=True):
        assert (one.divisor, one.bias, one.rotations, one.scale) == (
            other.divisor,
            other.bias,
            other.rotations,
            other.scale,
        )
        for a, b in zip(one.tables, other.tables, strict=True):
            assert (a.taps, a.interval_bits, a.band) == (b.taps, b.interval_bits, b.band)
            np.testing.assert_array_equal(a.entries, b.entries)


def test_the_format_runs_all_channels_and_says_what_it_is(path: Path) -> None:
    assert formats.of_file(path) == "lut" and "lut" not in formats.names()
    assert formats.read_card(path) == CARD
    pixels = np.random.default_rng(1).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    found = formats.open_file(path, 2).run(pixels.astype(np.float32) / np.float32(255))
    wanted = np.stack([enlarge(network(), pixels[..., c]) for c in range(3)], -1)
    np.testing.assert_array_equal(np.round(found * 255), wanted)
    assert formats.by_name("lut").operators(path) == {"LOOKUP": 8}


def test_other_networks_are_not_written(path: Path) -> None:
    from torch import nn

    from export.artifact import ExportSpec

    with pytest.raises(ExportError, match="net is no network of look-up tables"):
        formats.write("lut", ExportSpec(nn.Conv2d(3, 3, 1), CARD, (8, 8)), path.parent, "other")


def changed(path: Path, about: dict[str, object]) -> Path:
    """The file with other words in its header."""
    tensors = {f"{k}.0": s.tables[0].entries for k, s in enumerate(network().stages)}
    save_file(tensors, str(path), {"edgepress": CARD.to_json(), "lut": json.dumps(about)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version: input should be 1"),
        ({"padding": "zeros"}, "padding"),
        ({"more": 1}, "more: extra inputs are not permitted"),
        ({"sha256": "0" * 64}, "changed after they were written"),
        ({"stages": []}, "2 tables, expected those of its 0 stages"),
    ],
)
def test_a_header_of_another_kind(path: Path, change: dict[str, object], message: str) -> None:
    _, header = container._opened(path)
    with pytest.raises(ExportError, match=message):
        container.read(changed(path, json.loads(header["lut"]) | change))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no such file"):
        container.read(tmp_path / "none.lut")
    (tmp_path / "empty.lut").write_bytes(b"")
    with pytest.raises(ExportError, match="not a readable file of tables"):
        container.read(tmp_path / "empty.lut")
    save_file({"a": np.zeros(3, np.int8)}, str(tmp_path / "other.lut"))
    with pytest.raises(ExportError, match="no tables of ours"):
        container.read(tmp_path / "other.lut")
