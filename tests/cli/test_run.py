"""`compress run`, end to end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from compress import result
from compress.result import Result
from compress.task import Scores

Command = Callable[..., subprocess.CompletedProcess[str]]
FAST = [
    "--model",
    "span",
    "--target",
    "mobile",
    "--format",
    "onnx",
    "--threads",
    "1",
    "--input-size",
    "64x64",
    "--quiet",
]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, command: Command, images: Path) -> tuple[Path, dict[str, object]]:
    """One run with all three formats, and what it printed as JSON."""
    out = tmp_path_factory.mktemp("full") / "run"
    done = command("run", "--model", "span", "--target", "mobile", "--data", images, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory, command: Command, images: Path) -> Path:
    """One uninterrupted run of one format."""
    out = tmp_path_factory.mktemp("fast") / "run"
    done = command("run", *FAST, "--data", images, "--out", out)
    assert (out / "run.json").exists(), done.stderr
    return out


def numbers(found: Result) -> tuple[object, ...]:
    """Everything that must not depend on when or how often a run was interrupted; times do."""
    files = [(f.artifact, f.parity, f.scores) for f in found.files]
    return (found.floor, found.float32, found.merge, found.seam, files, found.inputs, found.recipe_toml)


def test_json_is_all_that_stands_on_stdout_and_equals_the_manifest(full: tuple[Path, dict[str, object]]) -> None:
    out, printed = full
    assert printed == json.loads((out / "run.json").read_text())


def test_three_runtimes_score_and_float_files_equal_the_network(full: tuple[Path, dict[str, object]]) -> None:
    found = result.load(full[0])
    names = {f.artifact.name for f in found.files}
    assert names == {f"{f}-{d}" for f in ("tflite", "onnx", "openvino") for d in ("float32", "int8")}
    for file in found.files:
        if file.artifact.dtype == "float32":
            assert file.parity.as_float
            assert file.scores.mean == pytest.approx(found.float32.mean, abs=0.005)  # uint8 rounding of equal outputs
        else:
            assert found.floor.mean < file.scores.mean < found.float32.mean + 0.3


def test_the_manifest_says_what_was_judged_and_how(full: tuple[Path, dict[str, object]]) -> None:
    found = result.load(full[0])
    assert (found.task, found.metric, found.floor_name) == ("super-resolution", "PSNR-Y dB", "bicubic")
    assert (found.halo, found.seam) == (21, None), "tiles of SPAN give the whole image"
    assert found.merge is None, "the built-in weights are merged already"
    assert {f.scores.unit for f in found.files} == {"dB"}


def test_verdict_passes_on_the_target_and_says_what_it_cannot_know(full: tuple[Path, dict[str, object]]) -> None:
    verdict = result.load(full[0]).verdict
    assert verdict.passed
    status = {f.what: f.status for f in verdict.findings}
    assert status["format"] == status["dtype"] == status["operators"] == "pass"


def test_manifest_hashes_every_input_and_names_the_protocol(full: tuple[Path, dict[str, object]], images: Path) -> None:
    found = result.load(full[0])
    assert {str(p) for p in images.iterdir()} <= set(found.inputs["images"])
    assert len(found.inputs["weights"]["sha256"]) == 64
    assert found.float32.protocol == "sr-x4-y601-crop4-uint8-matlab-bicubic"
    assert {"torch", "ai-edge-litert", "onnxruntime", "openvino", "edgepress"} <= set(found.versions)
    assert found.peak_memory_bytes > 0


def test_report_is_one_file_with_pictures_and_no_links_out(full: tuple[Path, dict[str, object]]) -> None:
    page = (full[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 12  # two images, six panels each
    assert "<svg" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert "tflite-int8" in (full[0] / "report.md").read_text()


def test_nothing_half_written_remains(full: tuple[Path, dict[str, object]]) -> None:
    assert not [p for p in full[0].rglob("*") if ".part" in p.name]


@pytest.mark.parametrize("until", ["options", "steps/scores-bicubic", "steps/file-onnx-float32", "steps/timings"])
def test_a_run_killed_at_any_step_resumes_to_the_same_numbers(
    until: str,
    tmp_path: Path,
    fast: Path,
    images: Path,
    command: Command,
    interrupted: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    out = tmp_path / "run"
    arguments = ["run", *FAST, "--data", str(images), "--out", str(out)]
    killed = interrupted(out, f"{until}.json", signal.SIGKILL, arguments)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "run.json").exists()
    done = command("run", "--resume", "--out", out, "--quiet")
    assert (out / "run.json").exists(), done.stderr
    assert numbers(result.load(out)) == numbers(result.load(fast))
    assert not list(out.rglob(".part*"))


def test_ctrl_c_exits_130_says_how_to_go_on_and_leaves_no_manifest(
    tmp_path: Path, images: Path, interrupted: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    out = tmp_path / "run"
    arguments = ["run", *FAST, "--data", str(images), "--out", str(out)]
    stopped = interrupted(out, "steps/scores-bicubic.json", signal.SIGINT, arguments)
    assert stopped.returncode == 130
    assert "--resume" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not (out / "run.json").exists()


def test_a_damaged_artifact_is_written_again_on_resume(tmp_path: Path, fast: Path, command: Command) -> None:
    out = tmp_path / "run"
    shutil.copytree(fast, out)
    (out / "run.json").unlink()
    artifact = result.load(fast).files[0].artifact
    (out / "artifacts" / artifact.files[0]).write_bytes(b"damaged")
    command("run", "--resume", "--out", out, "--quiet")
    assert numbers(result.load(out)) == numbers(result.load(fast))


def test_the_second_run_into_a_folder_refuses(fast: Path, command: Command, images: Path) -> None:
    before = (fast / "run.json").read_bytes()
    done = command("run", *FAST, "--data", images, "--out", fast)
    assert done.returncode == 2
    assert "already holds a run" in done.stderr
    assert "--resume" in done.stderr
    assert (fast / "run.json").read_bytes() == before


def test_two_runs_at_once_into_a_folder_refuse_the_second(
    tmp_path: Path, images: Path, interrupted: Callable[..., subprocess.CompletedProcess[str]], command: Command
) -> None:
    out = tmp_path / "run"
    outcome: list[subprocess.CompletedProcess[str]] = []
    arguments = ["run", *FAST, "--data", str(images), "--out", str(out)]
    killing = partial(interrupted, out, "steps/timings.json", signal.SIGKILL, arguments)
    first = threading.Thread(target=lambda: outcome.append(killing()))
    first.start()
    while not (out / "inputs.json").exists() and first.is_alive():
        pass
    second = command("run", "--resume", "--out", out, "--quiet")
    first.join()
    assert second.returncode == 2
    assert "in use by another process" in second.stderr


def test_resuming_with_another_option_is_refused_by_name(fast: Path, command: Command) -> None:
    done = command("run", "--resume", "--out", fast, "--seed", "5")
    assert done.returncode == 2
    assert "--seed" in done.stderr


def test_resuming_after_an_input_changed_is_refused(tmp_path: Path, images: Path, command: Command) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(images, data)
    command("run", *FAST, "--data", data, "--out", out)
    (out / "run.json").unlink()
    next(iter(sorted(data.iterdir()))).unlink()
    done = command("run", "--resume", "--out", out)
    assert done.returncode == 2
    assert "images" in done.stderr


def test_equal_seeds_give_equal_numbers(tmp_path: Path, fast: Path, images: Path, command: Command) -> None:
    command("run", *FAST, "--data", images, "--out", tmp_path / "again")
    assert numbers(result.load(tmp_path / "again")) == numbers(result.load(fast))


def test_a_picture_of_one_colour_runs(tmp_path: Path, flat_image: Path, command: Command) -> None:
    done = command("run", *FAST, "--data", flat_image, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "run.json").exists(), done.stderr
    scores: Scores = result.load(tmp_path / "run").floor
    assert scores.mean == 100.0  # equal images are capped, not infinite
