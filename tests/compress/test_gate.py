"""The accuracy gate, on results made up by hand; and the manifest they come from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import targets.profile
from compress import gate
from compress.cli import main
from compress.errors import RunFolderError, UsageError
from compress.measure import Merge, Seam
from compress.options import Options
from compress.result import FileResult, Result, load, to_json
from compress.task import ItemScore, Scores
from export.artifact import Artifact
from export.parity import Parity
from export.parity import compare as compare_outputs
from export.timing import Host, Latency
from targets.check import Finding, Verdict

PROTOCOL = "sr-x4-y601-crop4-uint8-matlab-bicubic"


def scores(*values, protocol=PROTOCOL, unit="dB"):
    return Scores(protocol, unit, tuple(ItemScore(f"image{n}", v, 0.9) for n, v in enumerate(values)))


def file_result(format_, dtype, values=(30.0, 31.0, 32.0), file_bytes=1000, unit="dB"):
    artifact = Artifact("artifacts", (f"span.{format_}",), format_, dtype, ("0" * 64,), file_bytes, {"CONV_2D": 21})
    latency = Latency(180, 320, 2, 10.0, 9.0, 12.0, (9.0, 10.0, 12.0))
    return FileResult(artifact, Parity(1e-3, 45.0), scores(*values, unit=unit), latency, 2**20)


def make_result(*files, **changes):
    result = Result(
        options=Options("span", "mobile", data=Path("photos"), formats=("tflite",)),
        profile=targets.profile.load("mobile"),
        recipe_toml="",
        network="span",
        scale=4,
        task="super-resolution",
        metric="PSNR-Y dB",
        halo=22,
        parameters=1000,
        merge=Merge(21, 3e-7),
        seam=None,
        floor_name="bicubic",
        floor=scores(27.0, 28.0, 29.0),
        float32=scores(30.1, 31.1, 32.1),
        files=files or (file_result("tflite", "float32", (30.1, 31.1, 32.1), 4000), file_result("tflite", "int8")),
        verdict=Verdict("mobile", (Finding("format", "pass", "tflite", "tflite"),)),
        host=Host("cpu", "x86_64", 2, 0.5, ""),
        inputs={"recipe": ""},
        versions={"edgepress": "0.1.0"},
        peak_memory_bytes=2**28,
        seconds=1.5,
    )
    return replace(result, **changes)


@pytest.fixture
def baseline(tmp_path):
    """The baseline of the plain result, through its file."""
    gate.write_baseline(make_result(), tmp_path / "baseline.json")
    return gate.load_baseline(tmp_path / "baseline.json")


def failed(findings):
    return [(f.file, f.what) for f in findings if not f.passed]


def with_int8(**changes):
    return make_result(make_result().files[0], file_result("tflite", "int8", **changes))


def test_a_baseline_holds_what_the_run_reached(baseline):
    assert (baseline.edgepress_baseline, baseline.network, baseline.target) == (2, "span-x4", "mobile")
    assert baseline.protocol == PROTOCOL
    assert set(baseline.files) == {"tflite-float32", "tflite-int8"}
    file = baseline.files["tflite-int8"]
    assert file.items == {"image0": 30.0, "image1": 31.0, "image2": 32.0}
    assert (file.mean, file.file_bytes) == (31.0, 1000)
    assert baseline.limits == gate.Limits() == gate.Limits(0.02, 0.10, 0.02)


def test_the_same_run_passes(baseline):
    findings = gate.compare(make_result(), baseline)
    assert len(findings) == 6 and failed(findings) == []


def test_a_better_and_smaller_run_passes(baseline):
    assert failed(gate.compare(with_int8(values=(31.0, 32.0, 33.0), file_bytes=500), baseline)) == []


def test_a_lower_mean_fails(baseline):
    """0.03 dB on every image: more than the mean may lose, less than an image may."""
    findings = gate.compare(with_int8(values=(29.97, 30.97, 31.97)), baseline)
    assert failed(findings) == [("tflite-int8", "mean drop dB")]


def test_one_broken_image_fails_behind_a_good_mean(baseline):
    findings = gate.compare(with_int8(values=(30.2, 30.8, 32.2)), baseline)
    assert failed(findings) == [("tflite-int8", "worst drop dB")]
    (finding,) = [f for f in findings if not f.passed]
    assert finding.found == pytest.approx(0.2) and finding.allowed == 0.1
    assert "image1" in finding.text, "the image is named"


def test_a_larger_file_fails(baseline):
    findings = gate.compare(with_int8(file_bytes=1021), baseline)
    assert failed(findings) == [("tflite-int8", "size growth")]
    assert failed(gate.compare(with_int8(file_bytes=1020), baseline)) == [], "2 % is the limit itself"


@pytest.mark.parametrize(("drop", "passes"), [(0.0199, True), (0.02, True), (0.0201, False)])
def test_a_loss_up_to_the_limit_passes(baseline, drop, passes):
    findings = gate.compare(with_int8(values=tuple(v - drop for v in (30.0, 31.0, 32.0))), baseline)
    assert (failed(findings) == []) is passes


def test_a_psnr_that_is_not_a_number_fails(baseline):
    findings = gate.compare(with_int8(values=(30.0, float("nan"), 32.0)), baseline)
    assert ("tflite-int8", "mean drop dB") in failed(findings)


def test_limits_are_taken_from_the_file(baseline):
    wide = replace(baseline, limits=gate.Limits(1.0, 1.0, 1.0))
    assert failed(gate.compare(with_int8(values=(29.5, 30.5, 31.5), file_bytes=1900), wide)) == []
    none = replace(baseline, limits=gate.Limits(0.0, 0.0, 0.0))
    assert failed(gate.compare(make_result(), none)) == []


def test_a_file_that_is_new_in_the_run_is_not_judged(baseline):
    result = make_result()
    more = replace(result, files=(*result.files, file_result("onnx", "int8", (1.0, 1.0, 1.0))))
    assert failed(gate.compare(more, baseline)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "other"}, "the run's network is other-x4, the baseline's span-x4"),
        ({"scale": 2}, "the run's network is span-x2, the baseline's span-x4"),
        ({"profile": targets.profile.load("desktop")}, "the run's target is desktop, the baseline's mobile"),
        ({"float32": Scores("another", "dB", ())}, f"the run's protocol is another, the baseline's {PROTOCOL}"),
        ({"files": (file_result("tflite", "int8"),)}, "the run wrote no tflite-float32, the baseline has it"),
    ],
    ids=["network", "scale", "target", "protocol", "file"],
)
def test_runs_that_cannot_be_compared_are_no_regression(baseline, change, message):
    with pytest.raises(UsageError, match=f"not comparable: {message}"):
        gate.compare(make_result(**change), baseline)


def test_other_images_cannot_be_compared_and_one_is_named(baseline):
    with pytest.raises(
        UsageError, match=r"not comparable: other images or classes than in the baseline, e\.g\. image2"
    ):
        gate.compare(with_int8(values=(30.0, 31.0)), baseline)


def test_a_missing_baseline_is_told_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match=r"b\.json: no such file; make one with --write-baseline .*b\.json"):
        gate.load_baseline(tmp_path / "b.json")


def edited(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("protocol"), "protocol: Field required"),
        (lambda v: v["files"]["tflite-int8"].update(mean="high"), r"files\.tflite-int8\.mean: .*number"),
        (lambda v: v["limits"].update(mean_drop=-1), r"limits\.mean_drop: .*greater than or equal to 0"),
        (lambda v: v["limits"].update(mean_dorp=0.1), r"limits\.mean_dorp: Unexpected"),
        (lambda v: v.update(edgepress_baseline=3), "version 3, this program reads 2"),
    ],
    ids=["missing-key", "wrong-type", "negative-limit", "misspelt-limit", "other-version"],
)
def test_a_baseline_edited_wrongly_is_told_where(tmp_path, change, message):
    path = tmp_path / "baseline.json"
    gate.write_baseline(make_result(), path)
    edited(path, change)
    with pytest.raises(UsageError, match=rf"baseline\.json: {message}"):
        gate.load_baseline(path)


@pytest.mark.parametrize("content", [b"", b'{"edgepress_baseline": 1, ', b"\xff\xfe", b"[]"])
def test_a_damaged_baseline_is_told_to_be_made_anew(tmp_path, content):
    (tmp_path / "baseline.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"baseline\.json: .*make it anew with --write-baseline"):
        gate.load_baseline(tmp_path / "baseline.json")


@pytest.mark.parametrize(
    "change",
    [lambda v: v.update(files={}), lambda v: v["files"]["tflite-int8"].update(file_bytes=0)],
    ids=["no-files", "zero-bytes"],
)
def test_a_baseline_that_holds_nothing_to_compare_with_does_not_pass(tmp_path, change):
    """A gate that compares nothing would be green for ever."""
    path = tmp_path / "baseline.json"
    gate.write_baseline(make_result(), path)
    edited(path, change)
    with pytest.raises(UsageError, match=r"baseline|not comparable"):
        gate.compare(make_result(), gate.load_baseline(path))


def test_limits_edited_in_the_file_hold(tmp_path):
    path = tmp_path / "baseline.json"
    gate.write_baseline(make_result(), path)
    edited(path, lambda v: v.update(limits={"mean_drop": 0.5}))
    assert gate.load_baseline(path).limits == gate.Limits(mean_drop=0.5)


def test_a_baseline_of_the_first_version_is_told_to_be_made_anew(tmp_path):
    old = {
        "edgepress_baseline": 1,
        "network": "span-x4",
        "target": "mobile",
        "protocol": PROTOCOL,
        "files": {"tflite-int8": {"psnr": 31.0, "images": {"image0": 31.0}, "file_bytes": 1000}},
        "limits": {"psnr_drop_db": 0.02, "image_psnr_drop_db": 0.1, "bytes_growth_ratio": 0.02},
    }
    (tmp_path / "b.json").write_text(json.dumps(old))
    with pytest.raises(UsageError, match=r"b\.json: .*; make it anew with --write-baseline"):
        gate.load_baseline(tmp_path / "b.json")


def classified(*values, counts=(10, 30)):
    """A result in per cent, two classes of unequal counts."""
    items = tuple(ItemScore(n, v, None, c) for n, v, c in zip(("cat", "dog"), values, counts, strict=True))
    result = make_result(task="classification", metric="top-1 %", scale=1, floor=scores(50.0, 50.0, 50.0, unit="%"))
    return replace(result, files=tuple(replace(f, scores=Scores(PROTOCOL, "%", items)) for f in result.files))


def test_per_cent_has_limits_of_its_own(tmp_path):
    gate.write_baseline(classified(90.0, 80.0), tmp_path / "b.json")
    baseline = gate.load_baseline(tmp_path / "b.json")
    assert baseline.limits == gate.Limits(mean_drop=0.3, worst_item_drop=3.0)
    assert baseline.network == "span-x1"
    assert baseline.files["tflite-int8"].items == {"cat": 90.0, "dog": 80.0}
    assert baseline.files["tflite-int8"].mean == pytest.approx(82.5), "weighted by the images of a class"
    assert failed(gate.compare(classified(88.9, 80.0), baseline)) == []
    fewer = {(f.file, f.what) for f in gate.compare(classified(86.9, 81.0), baseline) if not f.passed}
    assert fewer == {("tflite-float32", "worst drop %"), ("tflite-int8", "worst drop %")}
    (worst, *_) = (f for f in gate.compare(classified(86.9, 81.0), baseline) if not f.passed)
    assert "cat" in worst.text and worst.found == pytest.approx(3.1)
    assert {f.what for f in gate.compare(classified(90.0, 79.5), baseline) if not f.passed} == {"mean drop %"}


def test_a_manifest_comes_back_as_it_was(tmp_path):
    (tmp_path / "run.json").write_bytes(to_json(make_result()))
    assert load(tmp_path) == make_result()
    seam = make_result(halo=None, merge=None, seam=Seam(41.5, 0.02, 180, 320, (96, 160)), task="restoration", scale=1)
    (tmp_path / "run.json").write_bytes(to_json(seam))
    assert load(tmp_path) == seam


def test_a_result_says_what_it_is_of():
    assert make_result().title == "span x4"
    assert make_result(task="restoration", scale=1).title == "span"


def test_a_manifest_of_the_first_version_is_told_to_be_made_again(tmp_path):
    values = json.loads(to_json(make_result()))
    values["bicubic"] = values.pop("floor")
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(RunFolderError, match=r"run\.json: not a manifest of this version \(floor: .*\); run again"):
        load(tmp_path)


def test_the_manifest_of_a_run_with_a_broken_file_can_be_read(tmp_path):
    """JSON knows no infinity; a run whose file gives NaN fails its verdict, and must still be told about."""
    parity = compare_outputs(np.full((2, 2, 3), np.nan, np.float32), np.zeros((2, 2, 3), np.float32))
    good = make_result()
    broken = replace(good.files[1], parity=parity)
    (tmp_path / "run.json").write_bytes(to_json(replace(good, files=(good.files[0], broken))))
    assert load(tmp_path).files[1].parity == parity
    assert not parity.as_float


def test_a_folder_without_a_manifest_is_told_why(tmp_path):
    with pytest.raises(RunFolderError, match=r"run\.json: no such file; give a run folder"):
        load(tmp_path)
    (tmp_path / "inputs.json").touch()
    with pytest.raises(RunFolderError, match="the run is unfinished: add --resume"):
        load(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "run.json").write_bytes(to_json(make_result())[:500])
    with pytest.raises(RunFolderError, match=r"run\.json: not a manifest of this version .*run again"):
        load(tmp_path)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A run that lost 0.03 dB against the baseline beside it."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    gate.write_baseline(make_result(), tmp_path / "baseline.json")
    (tmp_path / "run.json").write_bytes(to_json(with_int8(values=(29.97, 30.97, 31.97))))
    return tmp_path


def test_reports_are_written_and_the_exit_code_stays(folders, capsys):
    flags = ["--junit", str(folders / "g.xml"), "--markdown", str(folders / "g.md")]
    assert main(["gate", str(folders), "--baseline", str(folders / "baseline.json"), *flags]) == 1
    assert 'failures="1"' in (folders / "g.xml").read_text()
    assert "1 of 6 checks failed" in (folders / "g.md").read_text()
    assert "::error" not in capsys.readouterr().out


def test_github_gets_annotations_and_a_summary_unasked(folders, monkeypatch, capsys):
    (folders / "summary.md").write_text("of another step\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folders / "summary.md"))
    assert main(["gate", str(folders), "--baseline", str(folders / "baseline.json"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 6 and err.startswith("::error title=tflite-int8::")
    assert (folders / "summary.md").read_text().startswith("of another step\n### compress gate: **1 of 6")
