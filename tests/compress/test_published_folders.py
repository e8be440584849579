"""Folders of one-dimensional tables as ShiftLUT's authors publish them."""

import json
from pathlib import Path

import numpy as np
import pytest

from compress import published_folders
from compress.cli import main
from compress.errors import DataError
from export.lut import container
from export.separable.network import HIGH, LOW, Separable

CHANNELS = 4


def tables(folder: Path, name: str, inputs: int, outputs: int, levels: int, random: np.random.Generator) -> None:
    """Random ones, of which the first has one entry of each four levels."""
    plan, arrays = [], {}
    for one in range(inputs):
        for other in range(outputs):
            step = 4 if one == other == 0 and levels == HIGH else 1
            count = levels if step == 1 else levels // step + 1
            arrays[f"i{one}o{other}"] = random.integers(-128, 128, count).astype(np.int8 if one else np.float32)
            plan.append({"in": one, "out": other, "step": step})
    np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    (folder / f"{name}.json").write_text(json.dumps({"IN": inputs, "OUT": outputs, "LUTs": plan}), encoding="utf-8")


def published(folder: Path, blocks: int = 2, scale: int = 2) -> Path:
    random = np.random.default_rng(0)
    for block in range(blocks):
        tables(folder, f"DW{block}_MSB", 9, CHANNELS, HIGH, random)
        tables(folder, f"PW{block}_MSB", CHANNELS, CHANNELS, HIGH, random)
    tables(folder, "DW0_LSB", 9, CHANNELS, LOW, random)
    tables(folder, "UP_MSB", CHANNELS, scale**2, HIGH, random)
    moves = np.arange(8 * 2 * CHANNELS).reshape(8, 2 * CHANNELS, 1, 1) % 5 - 2  # of more blocks than there are
    np.save(folder / "offset.npy", moves.astype(np.float32))
    return folder


def test_layers_shifts_and_low_bits_are_found(tmp_path: Path) -> None:
    network = published_folders.load(published(tmp_path), "net")
    assert isinstance(network, Separable) and (network.scale, network.channels) == (2, CHANNELS)
    assert [layer.kind for layer in network.layers] == ["spread", "pointwise", "depthwise", "pointwise", "pointwise"]
    assert network.layers[1].shifts == ((-2, 2), (-1, -2), (0, -1), (1, 0))
    assert network.layers[4].shifts == ()
    with np.load(tmp_path / "PW1_MSB.npz") as arrays:
        np.testing.assert_array_equal(network.layers[3].entries[2, 3], arrays["i2o3"])
    with np.load(tmp_path / "DW0_LSB.npz") as arrays:
        np.testing.assert_array_equal(network.layers[0].low[8, 1], arrays["i8o1"])


def test_few_entries_are_joined_by_lines_ties_to_even(tmp_path: Path) -> None:
    published(tmp_path)
    with np.load(tmp_path / "DW1_MSB.npz") as arrays:
        given = dict(arrays)
    given["i0o0"] = np.array([-128, -6, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 127], np.float32)
    np.savez(tmp_path / "DW1_MSB.npz", **given)
    found = published_folders.load(tmp_path, "net").layers[2].entries[0, 0]
    assert found[:9].tolist() == [-128, -98, -67, -36, -6, -4, -2, 1, 3]  # -97.5, -67, -36.5; -3.75, -1.5, 0.75
    assert found[60:].tolist() == [100, 107, 114, 120]  # 106.75, 113.5, 120.25


def test_the_command_takes_a_folder(tmp_path: Path, capsys) -> None:
    folder, out = tmp_path / "net", tmp_path / "net.lut"
    folder.mkdir()
    published(folder)
    assert main(["lut", "import", str(folder), "--out", str(out)]) == 0
    assert "net.lut: x2" in capsys.readouterr().out
    assert container.read(out).scale == 2
    assert main(["lut", "import", str(folder), "--pattern", "S", "--out", str(out)]) == 2


def without(name: str):
    return lambda folder: (folder / name).unlink()


def replaced(name: str, **arrays: np.ndarray):
    def change(folder: Path) -> None:
        with np.load(folder / f"{name}.npz") as found:
            np.savez(folder / f"{name}.npz", **{**found, **arrays})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("PW0_MSB.npz"), "no PW0_MSB.npz, expected the tables"),
        (without("DW1_MSB.json"), "DW1_MSB.json: not there"),
        (without("offset.npy"), "offset.npy: not there"),
        (
            lambda folder: np.save(folder / "offset.npy", np.zeros((1, 8))),
            r"shape \(1, 8\), expected whole numbers for 2",
        ),
        (lambda folder: np.save(folder / "offset.npy", np.full((2, 8), 0.5)), "expected whole numbers for 2 blocks"),
        (lambda folder: np.save(folder / "offset.npy", np.zeros((2, 7))), "not the shifts of 2 blocks"),
        (lambda folder: (folder / "UP_MSB.npz").write_bytes(b"PK"), "UP_MSB.npz: not tables of 64 levels"),
        (lambda folder: (folder / "UP_MSB.json").write_text("[]"), "as UP_MSB.json describes them"),
        (replaced("PW1_MSB", i0o1=np.zeros(63, np.int8)), r"shape \(63,\) for a step of 1, expected 64"),
        (replaced("PW1_MSB", i0o1=np.full(64, 0.5)), "expected 64 whole numbers"),
        (replaced("PW1_MSB", i0o1=np.full(64, 128.0)), "expected 64 whole numbers"),
        (replaced("PW1_MSB", i0o1=np.full(64, np.nan)), "expected 64 whole numbers"),
    ],
)
def test_what_is_no_such_folder_is_told(tmp_path: Path, change, message) -> None:
    published(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        published_folders.load(tmp_path, "net")


def test_restoration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="add to the image itself"):
        published_folders.load(published(tmp_path, scale=1), "net")
