"""``compress search`` and ``compress diagnose --quantization``, on a tiny network of random values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import export.graph
from compress import pipeline, policies, quantization, result
from compress.cli import main
from compress.policies import Judge
from export.errors import UntunableError
from search.space import Knob, Space

STUDY = ("search", "quantization", "--model", "espcn", "--scale", "2", "--random", "--sampler", "grid", "--quiet")
TINY = ("--input-size", "16x16")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small pictures; one of them is held out."""
    from compress.data.builtin import evaluation_images

    folder = tmp_path_factory.mktemp("calibration")
    with Image.open(evaluation_images()[0]) as picture:
        for number in range(4):
            left = 20 + 60 * number
            picture.crop((left, 40, left + 56, 88)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def study(calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished search of two trials with its exit code."""
    out = tmp_path_factory.mktemp("study") / "out"
    arguments = [*STUDY, *TINY, "--calibration", calibration, "--trials", "2", "--objectives", "score,bytes"]
    arguments += ["--recipe", "int8"]
    arguments += ["--out", out]
    return SimpleNamespace(arguments=list(map(str, arguments)), out=out, code=main(list(map(str, arguments))))


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The JSON that a command prints, below what a converter may print in this process."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def no_files(monkeypatch: pytest.MonkeyPatch, instead: Path) -> None:
    """Nothing is written in the end of a search."""
    monkeypatch.setattr(Judge, "write", lambda *a: SimpleNamespace(path=lambda folder: instead))
    monkeypatch.setattr("compress.report.search.html", lambda found: "")


def measured(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The policies that are measured from here on, at no cost."""
    asked: list[object] = []

    def measure(self: Judge, policy: object, format: str, size: tuple[int, int], timed: bool = False):
        asked.append(policy)
        return {"score": float(len(asked)), "bytes": 1.0, **({"latency": 1.0} if timed else {})}

    monkeypatch.setattr(Judge, "measure", measure)
    return asked


def test_a_search_leaves_a_page_files_and_a_recipe(study, capsys):
    assert study.code == 0
    page = (study.out / "search.html").read_text()
    assert page.count("<svg") == 2 and page.count("data:image/png") == 7
    assert "The weights are random" in page and "best so far" in page
    best = json.loads((study.out / "best.json").read_text())
    assert best["trials"] == 2 and best["objectives"] == {"score": "maximize", "bytes": "minimize"}
    assert {p.parent.name for p in study.out.rglob("*.tflite")} == {"float32", "stock", "best"}
    assert "[[step]]" in (study.out / "recipe.toml").read_text()
    from compress import recipe

    assert recipe.load(str(study.out / "recipe.toml")).steps


def test_the_same_command_goes_on_where_it_stopped(study, calibration, monkeypatch, capsys):
    asked = measured(monkeypatch)
    no_files(monkeypatch, calibration / "0.png")
    assert main([*study.arguments, "--json"]) == 0
    found = last(capsys)
    assert found["earlier_trials"] == found["trials"] == 2
    assert len(asked) == 1  # the stock file, to compare with
    assert found["held_out_images"] == 1 and set(found["files"]) == {"float32", "stock", "best"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--seed", "3"], "seed"),
        (["--objectives", "score"], "objectives"),
        (["--sampler", "random"], "sampler"),
        (["--input-size", "24x24"], "input_size: found [16, 16], here [24, 24]"),
        (["--recipe", "float32"], "recipe"),
    ],
)
def test_another_question_under_the_same_name_is_refused(study, monkeypatch, capsys, change, said):
    measured(monkeypatch)
    assert main([*study.arguments, *change]) == 2
    message = capsys.readouterr().err
    assert said in message and "another" in message and "Traceback" not in message


def test_a_worker_joins_and_measures_what_is_left(study, tmp_path, monkeypatch, capsys):
    asked = measured(monkeypatch)
    worker = ["search", "worker", "--study", "quantization-tflite", "--storage", str(study.out / "search.journal")]
    copy = tmp_path / "journal"
    copy.write_bytes((study.out / "search.journal").read_bytes())
    worker[5] = str(copy)
    assert main([*worker, "--out", str(tmp_path / "w"), "--trials", "5", "--json"]) == 0
    found = last(capsys)
    assert found["trials"] == 5 and len(asked) == len(set(asked)) == 3
    assert (tmp_path / "w" / "best.json").is_file()


def test_a_worker_with_other_images_is_refused(calibration, tmp_path, monkeypatch, capsys):
    measured(monkeypatch)
    images = tmp_path / "images"
    images.mkdir()
    for path in calibration.iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "out"
    no_files(monkeypatch, calibration / "0.png")
    begun = [*STUDY, *TINY, "--calibration", images, "--trials", "1", "--out", out]
    assert main(list(map(str, begun))) == 0
    (images / "0.png").write_bytes((calibration / "1.png").read_bytes())
    worker = ["search", "worker", "--study", "quantization-tflite", "--storage", out / "search.journal", "--out"]
    assert main([*map(str, worker), str(tmp_path / "w")]) == 2
    assert "sha256 of the images" in capsys.readouterr().err


def test_a_study_that_times_its_files_has_one_worker(calibration, tmp_path, monkeypatch, capsys):
    measured(monkeypatch)
    no_files(monkeypatch, calibration / "0.png")
    begun = [*STUDY, *TINY, "--calibration", calibration, "--trials", "1", "--objectives", "score,latency"]
    assert main([*map(str, begun), "--out", str(tmp_path / "out")]) == 0
    storage = str(tmp_path / "out" / "search.journal")
    worker = ["search", "worker", "--study", "quantization-tflite", "--storage", storage]
    assert main([*worker, "--out", str(tmp_path / "w")]) == 2
    assert "do not compare" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (["--sampler", "rank-prio"], 2, "did you mean 'rank_prior'"),
        (["--objectives", "score,speed"], 2, "unknown objective 'speed'"),
        (["--objectives", "bytes"], 2, "expected score"),
        (["--format", "tflight"], 2, "did you mean 'tflite'"),
        (["--budget", "soon"], 2, "expected a time"),
        (["--storage", "postgresql://nobody:secret@localhost:1/none"], 3, "nobody:***@localhost"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(calibration, tmp_path, monkeypatch, capsys, change, code, said):
    measured(monkeypatch)
    arguments = [*STUDY, *TINY, "--calibration", calibration, "--out", tmp_path / "out", *change]
    assert main(list(map(str, arguments))) == code
    message = capsys.readouterr().err
    assert said in message and "secret" not in message and "Traceback" not in message


def test_no_calibration_images(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main([*STUDY, "--calibration", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert str(tmp_path / "empty") in capsys.readouterr().err


def test_both_spellings_of_rank_prior(calibration, tmp_path, monkeypatch, capsys):
    measured(monkeypatch)
    for name in ("rank-prior", "rank_prior"):
        arguments = [*STUDY, "--sampler", name, "--calibration", calibration, "--out", tmp_path / name, "--budget", "x"]
        assert main(list(map(str, arguments))) == 2
        assert "--budget 'x'" in capsys.readouterr().err


def test_no_such_study_to_join(tmp_path, capsys):
    worker = ["search", "worker", "--study", "none", "--storage", str(tmp_path / "journal")]
    assert main([*worker, "--out", str(tmp_path / "w")]) == 2
    assert "no study 'none'" in capsys.readouterr().err and not (tmp_path / "journal").exists()


def test_what_quantization_costs(calibration, tmp_path, capsys):
    arguments = ["diagnose", "espcn", "--scale", "2", "--random", "--quantization", "--calibration", calibration]
    out = tmp_path / "page.html"
    assert main([*map(str, arguments), *TINY, "--out", str(out), "--json"]) == 0
    found = last(capsys)
    assert found["steps"][0]["name"] == quantization.STOCK and len(found["steps"]) == 5
    assert all(s["score"] is not None for s in found["steps"]) and 1 <= len(found["culprits"]) <= 5
    assert found["unread"] == "" and found["images"] == 1
    assert "data:image/png" in out.read_text()


def test_a_graph_that_cannot_be_read_leaves_the_stock_row(calibration, monkeypatch, capsys):
    def refuse(path: Path, plain: Path | None = None) -> None:
        raise UntunableError("operator CUMSUM is not known")

    monkeypatch.setattr(export.graph, "read", refuse)
    arguments = ["diagnose", "espcn", "--scale", "2", "--random", "--quantization", "--calibration", calibration]
    assert main([*map(str, arguments), *TINY, "--json"]) == 0
    found = last(capsys)
    assert found["steps"][0]["score"] is not None and all(s["score"] is None for s in found["steps"][1:])
    assert "CUMSUM" in found["unread"] and found["culprits"] == []


@pytest.mark.parametrize("flags", [["--no-export"], ["--format", "tflite", "--format", "onnx"]])
def test_quantization_looks_at_one_format(capsys, flags):
    assert main(["diagnose", "espcn", "--scale", "2", "--random", "--quantization", *flags]) == 2
    assert "one format" in capsys.readouterr().err


def test_a_promise_is_part_of_the_verdict_and_the_blame_is_named(calibration, tmp_path, monkeypatch, capsys):
    """A drop of less than nothing cannot be kept."""
    knobs = {"clipping": "mse", "weights": "nearest", "exact": True, "crops": 64, "training": 0}
    one = Space(tuple(Knob(name, (value,)) for name, value in knobs.items()), valid=policies.space().valid)
    monkeypatch.setattr(policies, "space", lambda: one)
    measured(monkeypatch)
    images = tmp_path / "others"
    images.mkdir()
    for number, path in enumerate(sorted(calibration.iterdir())):
        with Image.open(path) as picture:
            picture.transpose(Image.Transpose.ROTATE_180).save(images / f"{number}.png")
    run = ["run", "--model", "espcn", "--scale", "2", "--random", "--target", "mobile", "--data", calibration]
    run += ["--calibration", images, "--max-drop=-1", "--trials", "1", "--format", "tflite", "--threads", "1"]
    code = main([*map(str, run), *TINY, "--out", str(tmp_path / "run"), "--json"])
    printed = last(capsys)
    missed = next(f for f in printed["verdict"]["findings"] if f["what"] == "loss")
    assert code == 1 and missed["status"] == "fail" and "of the error" in missed["note"]
    assert printed["choice"]["policy"]["clipping"] == "mse" and printed["choice"]["trials"] == 1
    found = result.load(tmp_path / "run")
    kept = replace(found, options=replace(found.options, max_drop=50.0))
    findings = {f.what: f for f in pipeline._verdict(kept, (16, 16), lambda: "not asked for").findings}
    assert findings["loss"].status == "pass" and findings["loss"].note == ""
