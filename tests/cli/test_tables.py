"""A network of look-up tables through a whole run, and what is refused before anything is written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress import result
from compress.cli import main
from export.artifact import Card
from export.compiled import compiler
from export.lut import container
from export.lut.network import Network, Stage, Table, plain_taps

Command = Callable[..., subprocess.CompletedProcess[str]]
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .lut file of one table of two taps, x2: each tap's level, a quarter of it in each rotation."""
    nodes = np.minimum(np.arange(5) * 64, 255) // 4
    entries = np.repeat(nodes, 5)[:, None].repeat(4, 1).astype(np.int8)
    network = Network("grey", (Stage((Table(plain_taps("1x2"), entries, 6),), 1, scale=2),))
    path = tmp_path_factory.mktemp("tables") / "grey.lut"
    container.write(network, path, Card("grey", 2, 3, network.halo, "int8"))
    return path


@needs_compiler
def test_a_run_scores_checks_and_times_every_file(model: Path, images: Path, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = command("run", "--model", model, "--target", "lut-phone", "--data", images, "--out", out, "--quiet")
    found = result.load(out)
    assert done.returncode == (0 if found.verdict.passed else 1), done.stderr
    assert [f.artifact.name for f in found.files] == ["lut-int8", "c-int8", "onnx-int8"]
    assert found.deployed.artifact.name == "lut-int8" and found.parameters == 25 * 4 and found.halo == 1
    for file in found.files:
        assert file.parity.max_abs == 0 and file.scores.mean == found.float32.mean
        assert file.latency.median_ms > 0 and file.artifact.intact(out)
    status = {f.what: f.status for f in found.verdict.findings}
    assert status["format"] == status["dtype"] == status["file size"] == "pass"
    assert "<svg" in (out / "report.html").read_text()
    again = command("run", "--resume", "--out", out, "--quiet")
    assert again.returncode == done.returncode and result.load(out).files == found.files


@pytest.mark.slow
def test_other_targets_take_tables_by_their_recipe(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["run", "--model", str(model), "--target", "mobile", "--format", "tflite", "--data", str(images)]
    assert main([*command, "--out", str(out), "--quiet"]) == 2, "its recipe quantizes"
    assert main([*command, "--recipe", "tables", "--out", str(tmp_path / "right"), "--quiet"]) in (0, 1)
    (file,) = result.load(tmp_path / "right").files
    assert file.artifact.name == "tflite-int8" and file.parity.max_abs == 0


@pytest.mark.parametrize("flags", [["--target", "lut-phone"], ["--target", "mobile", "--format", "c"]])
def test_other_networks_are_refused_before_anything_is_measured(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["run", "--model", "span", *flags, "--out", str(out), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "span cannot be written as" in said and "expected a network of look-up tables" in said
    assert not (out / "steps").exists() or not list((out / "steps").iterdir())


def test_export_says_what_it_wrote(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, files in (("lut", 1), ("c", 5)):
        assert main(["export", "--model", str(model), "--format", kind, "--out", str(tmp_path), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["files"][0] == f"grey_x2_int8.{kind}" and len(said["files"]) == files


def test_what_cannot_be_quantized_is_not_searched(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["search", "quantization", "--model", str(model), "--trials", "1"],
        ["diagnose", str(model), "--quantization", "--json"],
        ["export", "--model", str(model), "--format", "onnx", "--recipe", "int8"],
    ):
        assert main([*command, "--quiet"]) == 2
        assert "nothing is left to quantize; --recipe tables" in capsys.readouterr().err


def test_a_diagnosis_knows_the_receptive_field(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(model), "--format", "lut", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["receptive_field"] == 1
    assert [(c["format"], c["status"]) for c in found["conversions"]] == [("lut", "converts")]
