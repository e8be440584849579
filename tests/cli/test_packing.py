"""``compress pack`` and ``compress unpack``."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from compress.cli import main


@pytest.fixture
def weights(tmp_path):
    random = np.random.default_rng(0)
    values = np.where(random.random((64, 90)) < 0.05, random.normal(0, 1, (64, 90)), 0).astype(np.float32)
    save_file({"layer.weight": values}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_a_file_goes_in_and_comes_out(weights, capsys):
    before = weights.read_bytes()
    assert main(["pack", str(weights)]) == 0
    text = capsys.readouterr().out
    packed = weights.with_name("w.safetensors.packed")
    assert packed.stat().st_size < len(before) / 10
    assert f"{packed}: {packed.stat().st_size} bytes, from {len(before)}" in text and "entropy" in text
    assert "minus zero" not in text
    weights.unlink()
    assert main(["unpack", str(packed)]) == 0
    assert weights.read_bytes() == before
    assert capsys.readouterr().out == f"{weights}: {len(before)} bytes, SHA-256 as packed\n"


def test_sizes_as_json(weights, tmp_path, capsys):
    assert main(["pack", str(weights), "--out", str(tmp_path / "small"), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["numbers"] == 64 * 90 and about["packed_bytes"] == (tmp_path / "small").stat().st_size
    assert about["bytes_per_nonzero"] > about["position_bytes"] / about["nonzeros"]
    assert main(["unpack", str(tmp_path / "small"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again").read_bytes() == weights.read_bytes()


def test_weights_times_a_mask_are_told_to_lose_their_signs(tmp_path, capsys):
    save_file({"w": np.full((8, 8), -1.0, np.float32) * np.float32(0)}, tmp_path / "w.safetensors")
    assert main(["pack", str(tmp_path / "w.safetensors")]) == 0
    assert "64 of them are minus zero" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pack", "none.onnx"], "none.onnx: no such file; give a .safetensors"),
        (["pack", "w.safetensors", "--out", "taken"], "taken is there already; remove it, or choose another --out"),
        (["pack", "taken"], "taken: found a nameless file, expected one of .safetensors, .onnx, .tflite"),
        (["unpack", "none.packed"], "none.packed: no such file; give a file of `compress pack`"),
        (["unpack", "w.safetensors"], "w.safetensors: the name does not end in .packed; name the file with --out"),
        (["unpack", "taken", "--out", "w.safetensors"], "w.safetensors is there already"),
        (["unpack", "taken", "--out", "new"], "taken: not a packed file, it does not begin with EDGEPACK"),
    ],
)
def test_what_cannot_be_is_said(weights, capsys, monkeypatch, arguments, told):
    monkeypatch.chdir(weights.parent)
    (weights.parent / "taken").write_text("mine")
    assert main(arguments) == 2
    assert told in capsys.readouterr().err
    assert sorted(p.name for p in weights.parent.iterdir()) == ["taken", "w.safetensors"]


def test_a_damaged_file_leaves_nothing(weights, capsys):
    packed = weights.with_name("w.safetensors.packed")
    assert main(["pack", str(weights)]) == 0
    weights.unlink()
    packed.write_bytes(packed.read_bytes()[:-3])
    assert main(["unpack", str(packed)]) == 2
    assert "not those that were written (CRC-32), cut short or damaged; fetch it again" in capsys.readouterr().err
    assert not weights.exists()
