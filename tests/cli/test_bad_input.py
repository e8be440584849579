"""What a user can get wrong: one message with its cure, the documented exit code, nothing written."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.cli import main

Command = Callable[..., subprocess.CompletedProcess[str]]
RUN = ["run", "--model", "span", "--target", "mobile", "--format", "onnx", "--quiet"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The message of a command line that exits with 2."""
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    return err


def test_missing_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no such file" in refused(capsys, *RUN, "--weights", tmp_path / "none.pth", "--out", tmp_path / "r")


def test_unreadable_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"not a checkpoint")
    assert "w.pth" in refused(capsys, *RUN, "--weights", tmp_path / "w.pth", "--out", tmp_path / "r")


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_with_code_is_refused_and_not_executed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"params": _Evil(tmp_path / "executed")}, protocol=2))
    message = refused(capsys, *RUN, "--weights", tmp_path / "w.pth", "--out", tmp_path / "r")
    assert "plain tensors" in message
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("command", [["run", "--target", "mobile"], ["export"]], ids=lambda c: c[0])
def test_a_pickle_with_code_as_the_model_is_refused_and_not_executed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"params": _Evil(tmp_path / "executed")}, protocol=2))
    flags = ["--model", tmp_path / "w.pth", "--format", "onnx", "--quiet", "--out", tmp_path / "r"]
    assert "plain tensors" in refused(capsys, *command, *flags)
    assert not (tmp_path / "executed").exists()


def test_wrong_scale_names_both(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = refused(capsys, *RUN, "--scale", "2", "--out", tmp_path / "r")
    assert "scale 4" in message
    assert "--weights" in message


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--target", "moble"], "did you mean 'mobile'"),
        (["--model", "spam"], "did you mean 'span'"),
        (["--format", "onx"], "did you mean 'onnx'"),
        (["--recipe", "int9"], "did you mean 'int8'"),
        (["--task", "super-resolutoin"], "did you mean 'super-resolution'"),
        (["--model", "spam.onx"], "--model takes a zoo name, a checkpoint (.pth, .safetensors), an .onnx or .lut file"),
    ],
)
def test_unknown_names_get_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], hint: str
) -> None:
    given = dict(zip(RUN[1:7:2], RUN[2:8:2], strict=True)) | dict([flags])
    arguments = [part for pair in given.items() for part in pair]
    assert hint in refused(capsys, "run", *arguments, "--out", tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "none.pth"], "none.pth: no such file"),
        (["--model", "none.onnx"], "none.onnx: no such file"),
        (["--model", "no_such_package:net"], "cannot import no_such_package"),
        (["--model", "dncnn"], "dncnn has no built-in weights: give --weights FILE, or --random"),
        (["--model", "dncnn", "--random", "--scale", "2"], "dncnn does not enlarge images"),
        (["--model", "dncnn", "--random", "--model-arg", "depht=3"], "unexpected keyword argument 'depht'"),
        (["--model", "span", "--task", "restoration"], "task restoration: span gives images 4 times as large"),
        (["--model", "span", "--task", "classification"], "task classification: span is no classifier"),
        (["--model", "dncnn", "--random", "--noise", "-3"], "noise of sigma -3"),
    ],
)
def test_models_that_cannot_be_had_say_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], message: str
) -> None:
    rest = ["--target", "mobile", "--format", "onnx", "--quiet", "--out", tmp_path / "r"]
    assert message in refused(capsys, "run", *flags, *rest)


@pytest.mark.parametrize("given", ["width", "=3", "a b=3"])
def test_a_model_argument_without_a_key_and_a_value_exits_2(capsys: pytest.CaptureFixture[str], given: str) -> None:
    assert main(["run", "--model", "span", "--target", "mobile", "--model-arg", given]) == 2
    assert "no KEY=VALUE, such as width=32" in capsys.readouterr().err


def test_unknown_key_in_a_recipe_gets_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[[step]]\nmethod = "quantize"\ngranularty = "tensor"\n')
    message = refused(capsys, *RUN, "--recipe", tmp_path / "r.toml", "--out", tmp_path / "r")
    assert "did you mean 'granularity'" in message


def test_truncated_image_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(data / "cut.png")
    whole = (data / "cut.png").read_bytes()
    (data / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert "cut.png" in refused(capsys, *RUN, "--data", data, "--out", tmp_path / "r")


def test_an_image_of_one_pixel_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(data / "dot.png")
    message = refused(capsys, *RUN, "--data", data, "--out", tmp_path / "r")
    assert "dot.png" in message
    assert "1x1" in message


def test_an_empty_folder_says_what_was_expected(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "found nothing" in refused(capsys, *RUN, "--data", tmp_path / "empty", "--out", tmp_path / "r")


def test_a_missing_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "does not exist" in refused(capsys, *RUN, "--data", tmp_path / "none", "--out", tmp_path / "r")


def test_resume_without_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no run to resume" in refused(capsys, *RUN, "--resume", "--out", tmp_path / "none")


def test_missing_model_and_target_say_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert "compress list models" in refused(capsys, "run", "--target", "mobile")
    assert "compress list targets" in refused(capsys, "run", "--model", "span")


def test_unknown_flag_exits_2() -> None:
    assert main(["run", "--modle", "span"]) == 2


def mounted(folder: Path, options: str) -> bool:
    """Mount a small file system there; False where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_full_disk_exits_3_and_leaves_nothing_half_written(tmp_path: Path, command: Command, images: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if not mounted(small, "size=300k"):
        pytest.skip("needs the right to mount a small file system")
    try:
        done = command(*RUN, "--data", images, "--out", small / "run")
        assert done.returncode == 3, done.stderr
        assert "disk is full" in done.stderr
        assert not [p for p in small.rglob("*") if ".part" in p.name]
        assert not (small / "run" / "run.json").exists()
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_read_only_folder_exits_3(tmp_path: Path, command: Command, images: Path) -> None:
    fixed = tmp_path / "fixed"
    fixed.mkdir()
    if not mounted(fixed, "ro"):
        pytest.skip("needs the right to mount a read-only file system")
    try:
        done = command(*RUN, "--data", images, "--out", fixed / "run")
        assert done.returncode == 3, done.stderr
        assert "read-only" in done.stderr
    finally:
        subprocess.run(["umount", fixed], check=True)
