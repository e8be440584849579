"""`compress run`, `export`, `validate` and `gate` on the users' own networks, small enough to take seconds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress import result
from compress.cli import main
from compress.result import Result
from export import formats

REPO = Path(__file__).resolve().parents[2]
FLAGS = ["--target", "desktop", "--format", "onnx", "--threads", "1", "--quiet"]
SMALL = "--input-size=32x48"
COLOURS = {"blue": (20, 30, 220), "green": (30, 200, 40), "red": (210, 20, 30)}
NETS = '''
import torch
from torch import nn


class Enlarging(nn.Module):
    """Nearest neighbours, and a little of a convolution."""

    def __init__(self, width=4):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, x):
        plain = x.repeat_interleave(4, 1)
        return nn.functional.pixel_shuffle(plain + 0.01 * self.last(torch.relu(self.first(x))), 2)


class Smoothing(nn.Module):
    """The mean of 3x3 pixels, and a little of a convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
        with torch.no_grad():
            for value in self.parameters():
                value.zero_()
            for channel in range(3):
                self.first.weight[channel, channel] = 1 / 9
                self.last.weight[channel, channel, 0, 0] = 1.0

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


class Rooted(Smoothing):
    """Takes roots of what may be below zero."""

    def forward(self, x):
        return self.last(torch.sqrt(self.first(x - 0.5)))


def classifier():
    """Three logits: as blue, as green, as red as the image is on the whole."""
    mean = nn.Conv2d(3, 4, 1)
    net = nn.Sequential(mean, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        for part in (mean, net[4]):
            part.weight.zero_()
            part.bias.zero_()
        mean.weight[:3, :, 0, 0] = torch.eye(3)
        net[4].weight[:, :3] = torch.eye(3).flip(0)
    net.input_size = (32, 32)
    return net
'''


@pytest.fixture(scope="module", autouse=True)
def nets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a Python file of the user's, on the path."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "tiny_nets.py").write_text(NETS)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("tiny_nets", None)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures for each of three colours, one of which is of another colour than its folder says."""
    root = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / "val" / name).mkdir(parents=True)
        for number in range(4):
            seen = COLOURS["red"] if (name, number) == ("blue", 0) else colour
            noisy = np.clip(random.normal(seen, 10, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / "val" / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``ran("name", *flags)``: the folder of a run, made at the first request."""
    done: dict[str, Path] = {}

    def run(name: str, *flags: str | Path) -> Path:
        if name not in done:
            out = tmp_path_factory.mktemp(name) / "run"
            code = main(["run", *map(str, flags), *FLAGS, "--out", str(out)])
            assert code in (0, 1), "the verdict may fail: the target asks for another format"
            done[name] = out
        return done[name]

    return run


@pytest.fixture(scope="module")
def classified(ran: Callable[..., Path], labelled: Path) -> Path:
    """A run of a classifier on labelled pictures."""
    return ran("classified", "--model", "tiny_nets:classifier", "--data", labelled)


@pytest.fixture(scope="module")
def restored(ran: Callable[..., Path], images: Path) -> Path:
    """A run of a denoiser."""
    return ran("restored", "--model", "tiny_nets:Smoothing", "--data", images, "--noise", "40", SMALL)


@pytest.fixture(scope="module")
def enlarged(ran: Callable[..., Path], images: Path) -> Path:
    """A run of a super-resolution network with an argument."""
    flags = ["--model", "tiny_nets:Enlarging", "--model-arg", "width=5", "--data", images, SMALL]
    return ran("enlarged", *flags)


def complete(out: Path) -> Result:
    """The result of a run whose reports are there."""
    assert {"run.json", "report.html", "report.md"} <= {p.name for p in out.iterdir()}
    assert not list(out.rglob(".part*"))
    return result.load(out)


def test_a_classifier_is_scored_on_labels_and_its_file_decides_alike(classified: Path) -> None:
    found = complete(classified)
    assert (found.task, found.metric, found.floor_name) == ("classification", "top-1 %", "chance")
    assert found.float32.mean == pytest.approx(100 * 11 / 12)
    assert {i.name: i.value for i in found.float32.items} == {"blue": 75.0, "green": 100.0, "red": 100.0}
    assert found.floor.mean == pytest.approx(100 / 3)
    assert [f.scores.mean for f in found.files] == [found.float32.mean] * 2, "colours are far apart: int8 sees them too"
    assert all((f.latency.height, f.latency.width) == (32, 32) for f in found.files)
    card = formats.read_card(found.files[1].artifact.path(classified))
    assert card is not None
    assert (card.task, card.classes, card.scale, card.dtype) == ("classification", 3, 1, "int8")


def test_values_that_are_not_finite_stop_a_run_at_the_first_layer(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["run", "--model", "tiny_nets:Rooted", "--data", str(images), *FLAGS, "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert code == 2
    assert "NaN or infinite values on calibration image 0, first in last (Conv2d)" in said
    assert not list(tmp_path.rglob("*.onnx"))


def test_the_reports_of_a_classifier_speak_of_classes(classified: Path) -> None:
    page = (classified / "report.html").read_text()
    assert "top-1 %" in page
    assert "Every class" in page
    assert "dB" not in (classified / "report.md").read_text()


def test_its_file_is_validated_by_what_it_says_of_itself(
    capsys: pytest.CaptureFixture[str], classified: Path, labelled: Path
) -> None:
    file = classified / "artifacts" / "classifier_int8.onnx"
    assert main(["validate", str(file), "--data", str(labelled), "--json", "--min-score", "91.6"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["mean"] == pytest.approx(100 * 11 / 12)
    assert {i["name"]: i["count"] for i in scores["items"]} == dict.fromkeys(COLOURS, 4)
    assert main(["validate", str(file), "--data", str(labelled), "--quiet", "--min-score", "91.7"]) == 1
    assert main(["validate", str(file), "--quiet"]) == 2


def test_the_gate_takes_per_cent(capsys: pytest.CaptureFixture[str], tmp_path: Path, classified: Path) -> None:
    baseline = tmp_path / "baseline.json"
    assert main(["gate", str(classified), "--write-baseline", str(baseline)]) == 0
    assert json.loads(baseline.read_text())["limits"]["worst_item_drop"] == 3.0
    assert main(["gate", str(classified), "--baseline", str(baseline)]) == 0
    worse = json.loads(baseline.read_text())
    worse["files"]["onnx-int8"]["items"]["blue"] = 80.0
    baseline.write_text(json.dumps(worse))
    assert main(["gate", str(classified), "--baseline", str(baseline)]) == 1
    assert "worst drop %" in capsys.readouterr().out


def test_without_labels_a_classifiers_files_must_agree_with_it(ran: Callable[..., Path]) -> None:
    found = complete(ran("agreeing", "--model", "tiny_nets:classifier"))
    assert found.metric == "agreement %"
    assert found.float32.mean == found.file("onnx-float32").scores.mean == 100.0
    assert found.floor.mean == pytest.approx(100 / 3)


def test_a_denoiser_is_scored_on_noise_and_beats_it(restored: Path) -> None:
    found = complete(restored)
    assert (found.task, found.metric, found.floor_name, found.scale) == ("restoration", "PSNR dB", "input", 1)
    assert found.float32.protocol == "restoration-noise40-rgb-uint8"
    assert found.float32.mean > found.floor.mean + 3
    for file in found.files:
        assert file.scores.mean == pytest.approx(
            found.float32.mean, abs=0.01 if file.artifact.dtype == "float32" else 1
        )
    assert (found.halo, found.seam, found.title) == (1, None, "Smoothing")
    assert (restored / "report.html").read_text().count("data:image/png;base64,") == 12  # two images, six panels each


def test_its_file_is_validated_with_the_same_noise(
    capsys: pytest.CaptureFixture[str], restored: Path, images: Path
) -> None:
    file = str(restored / "artifacts" / "Smoothing_int8.onnx")
    assert main(["validate", file, "--data", str(images), "--noise", "40", "--json"]) == 0
    expected = result.load(restored).file("onnx-int8").scores.mean
    assert json.loads(capsys.readouterr().out)["mean"] == pytest.approx(expected)


def test_a_network_of_the_users_is_enlarged_as_any_other(enlarged: Path) -> None:
    found = complete(enlarged)
    assert (found.task, found.scale, found.title) == ("super-resolution", 2, "Enlarging x2")
    assert found.parameters == (3 * 9 + 1) * 5 + (5 * 9 + 1) * 12
    assert {f.artifact.files[0] for f in found.files} == {"Enlarging_x2_float32.onnx", "Enlarging_x2_int8.onnx"}
    assert found.options.arguments == {"width": "5"}


def test_a_resumed_run_needs_no_flag_again(tmp_path: Path, enlarged: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(enlarged, out)
    (out / "run.json").unlink()
    before = result.load(enlarged)
    assert main(["run", "--resume", "--out", str(out), "--quiet"]) == (0 if before.verdict.passed else 1)
    assert result.load(out).files == before.files
    assert main(["run", "--resume", "--out", str(out), "--model-arg", "width=6"]) == 2


def test_a_file_of_one_run_is_the_model_of_another(ran: Callable[..., Path], restored: Path, images: Path) -> None:
    """``--model FILE.onnx``: the graph is taken as it is, and quantized."""
    file = restored / "artifacts" / "Smoothing_float32.onnx"
    out = ran("from_onnx", "--model", file, "--data", images, "--noise", "40", SMALL)
    found, before = complete(out), result.load(restored)
    assert (found.network, found.task, found.halo) == ("Smoothing_float32", "restoration", 1)
    assert found.float32.mean == pytest.approx(before.float32.mean, abs=0.005)
    scores = {f.artifact.name: f.scores.mean for f in found.files}
    assert scores == pytest.approx({f.artifact.name: f.scores.mean for f in before.files}, abs=0.05)
    assert found.inputs["weights"]["path"] == str(file)
    operators = [r.file("onnx-float32").artifact.operators for r in (found, before)]
    assert operators[0] == operators[1]


def test_a_random_network_of_the_zoo_runs(ran: Callable[..., Path], images: Path) -> None:
    flags = ["--random", "--model-arg", "width=4", "--data", images, SMALL]
    found = complete(ran("random", "--model", "dncnn", *flags))
    assert (found.network, found.task) == ("dncnn", "restoration")
    assert found.inputs["weights"]["path"] == "random"
    assert found.float32.mean == pytest.approx(found.file("onnx-float32").scores.mean, abs=0.01)


def test_a_checkpoint_alone_is_exported(capsys: pytest.CaptureFixture[str], tmp_path: Path, images: Path) -> None:
    from compress import zoo
    from compress.weights import write

    write(tmp_path / "mine.safetensors", zoo.fresh("span", scale=2, channels=4).module.state_dict(), {})
    flags = ["--format", "onnx", "--recipe", "float32", "--out", str(tmp_path / "out"), "--json"]
    assert main(["export", "--model", str(tmp_path / "mine.safetensors"), *flags]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["span_x2_float32.onnx"]
    assert main(["validate", str(tmp_path / "out/span_x2_float32.onnx"), "--data", str(images), "--quiet"]) == 0


def test_the_users_file_is_found_from_the_folder_it_lies_in(nets: Path, tmp_path: Path) -> None:
    """As installed: the program's own path does not hold the current folder."""
    code = "import sys; sys.path.remove(''); from compress.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "export", "--model", "tiny_nets:Smoothing", "--format", "onnx"]
    done = subprocess.run(
        [*command, "--recipe", "float32", "--input-size", "32x48", "--out", tmp_path, "--quiet"],
        capture_output=True,
        text=True,
        cwd=nets,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "Smoothing_float32.onnx").is_file()


def test_coverage_is_written_from_what_is_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import pydantic

    from compress import __version__
    from compress.coverage import Cell, Entry, Row

    cells = {
        f"{name}-{dtype}": Cell("ok", 70.0, "1 KiB", 1.0) for name in formats.names() for dtype in ("float32", "int8")
    }
    row = Row(Entry("span", "zoo", "span"), "super-resolution", 9, (1, 3, 64, 96), "", cells, 1.0, __version__)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/zoo-span.json").write_bytes(pydantic.TypeAdapter(Row).dump_json(row))
    flags = ["coverage", "--from-rows", "--out", str(tmp_path)]
    assert main([*flags, "span", "--min-share", "1.0"]) == 0
    assert "1 of 1 networks (100%)" in capsys.readouterr().out
    assert {"coverage.json", "coverage.md", "coverage.html"} <= {p.name for p in tmp_path.iterdir()}
    assert main([*flags, "dncnn", "--min-share", "0.5"]) == 1, "nothing was tried"
    assert main([*flags, "spam"]) == 2
    assert "did you mean 'span'" in capsys.readouterr().err
