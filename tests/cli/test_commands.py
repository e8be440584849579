"""The other commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from compress.cli import main
from compress.data.builtin import evaluation_images


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a successful command line prints."""
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["models", "tasks", "methods", "formats", "targets", "recipes"])
def test_list_names_and_describes(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    text = printed(capsys, "list", kind)
    assert all(len(line.split()) > 2 for line in text.splitlines())
    assert json.loads(printed(capsys, "list", kind, "--json")).keys() == {line.split()[0] for line in text.splitlines()}


def test_targets_show_prints_the_numbers_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "targets", "show", "mobile")
    assert "[sources." in text
    assert 'format = "tflite"' in text


def test_doctor_finds_the_installed_runtimes(capsys: pytest.CaptureFixture[str]) -> None:
    checks = json.loads(printed(capsys, "doctor", "--json"))
    assert {"python", "torch", "runtime tflite", "package export", "C compiler", "numba"} <= {c["what"] for c in checks}


def test_help_lists_the_exit_codes_and_loads_no_framework() -> None:
    code = (
        "import sys\nfrom compress.cli import main\nmain(['--help'])\n"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'onnx', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "exit codes" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 ONNX file of the built-in network."""
    out = tmp_path_factory.mktemp("export")
    assert main(["export", "--model", "span", "--format", "onnx", "--out", str(out), "--quiet"]) == 0
    return out / "span_x4_int8.onnx"


def test_export_writes_one_file_and_its_log(onnx_file: Path) -> None:
    assert sorted(p.name for p in onnx_file.parent.iterdir()) == ["conversion.log", "span_x4_int8.onnx"]


def test_validate_scores_a_file_and_holds_it_to_a_minimum(capsys: pytest.CaptureFixture[str], onnx_file: Path) -> None:
    scores = json.loads(printed(capsys, "validate", onnx_file, "--json"))
    assert [i["name"] for i in scores["items"]] == [p.stem for p in evaluation_images()]
    assert scores["unit"] == "dB"
    assert scores["mean"] == pytest.approx(sum(i["value"] for i in scores["items"]) / 3)
    assert main(["validate", str(onnx_file), "--quiet", "--min-score", str(scores["mean"] - 0.01)]) == 0
    assert main(["validate", str(onnx_file), "--quiet", "--min-score", str(scores["mean"] + 0.01)]) == 1


def test_validate_refuses_a_scale_that_is_not_the_files(capsys: pytest.CaptureFixture[str], onnx_file: Path) -> None:
    assert main(["validate", str(onnx_file), "--scale", "2"]) == 2
    assert "scale 4" in capsys.readouterr().err


def test_validate_refuses_a_task_that_the_file_cannot_do(capsys: pytest.CaptureFixture[str], onnx_file: Path) -> None:
    assert main(["validate", str(onnx_file), "--task", "restoration"]) == 2
    assert "gives images 4 times as large" in capsys.readouterr().err
    assert main(["validate", str(onnx_file), "--task", "classification"]) == 2
    assert "is no classifier" in capsys.readouterr().err


def test_validate_asks_what_a_file_of_others_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file that says nothing of itself is judged by what the flags say."""
    onnx = pytest.importorskip("onnx")
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3, "h", "w"]) for n in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    path = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), str(path))
    assert main(["validate", str(path)]) == 2
    assert "give --scale and --halo, or --classes for a classifier" in capsys.readouterr().err
    flags = ["--scale", "1", "--halo", "1", "--noise", "10", "--json"]
    scores = json.loads(printed(capsys, "validate", path, *flags))
    assert scores["protocol"] == "restoration-noise10-rgb-uint8"
    assert 27.5 < scores["mean"] < 29  # 20 lg(255 / 10) = 28.1, and a little for clipping
    assert main(["validate", str(path), "--classes", "10"]) == 2
    assert "give --data with labelled images" in capsys.readouterr().err


def test_validate_refuses_what_is_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    assert main(["validate", str(tmp_path / "x.onnx")]) == 2
    assert "x.onnx" in capsys.readouterr().err
