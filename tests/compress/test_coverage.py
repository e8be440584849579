"""The coverage of networks: what counts, what is kept, and what becomes of a process that dies."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pydantic
import pytest

from compress import __version__, coverage
from compress.coverage import FLOAT_DB, INT8_DB, Cell, Entry, Row, reached, share
from compress.progress import Reporter
from compress.report import coverage as tables
from export import formats

QUIET = Reporter(quiet=True)
OK, DIFFERS = Cell("ok", 40.0, "12 KiB", 1.0), Cell("differs", 3.0, "3.0 dB, at least 6 expected", 1.0)
REFUSED, MISSING = Cell("refused", None, "no such operator", 1.0), Cell("missing", None, "not installed", 0.0)


def entry_of(name, kind="zoo"):
    return Entry(name, kind, name)


def row_of(name="span", **cells):
    """A row whose files, ``onnx_int8=...``, are as given."""
    named = {key.replace("_", "-"): cell for key, cell in cells.items()}
    return Row(entry_of(name), "super-resolution", 1000, (1, 3, 64, 96), "", named, 2.0, __version__)


def of(**int8):
    """A row of float32 files that work, and these int8 ones."""
    return row_of(**{f"{name}_float32": OK for name in int8}, **{f"{name}_int8": cell for name, cell in int8.items()})


@pytest.mark.parametrize(
    ("row", "runtimes"),
    [
        (of(onnx=OK, tflite=OK, openvino=OK), 3),
        (of(onnx=OK, tflite=REFUSED, openvino=OK), 2),
        (of(onnx=OK, tflite=DIFFERS, openvino=MISSING), 1),
        (row_of(onnx_float32=DIFFERS, onnx_int8=OK, tflite_float32=OK, tflite_int8=OK), 1),
        (row_of(onnx_float32=OK, onnx_int8=REFUSED), 0),
        (replace(row_of(), forward="it fell"), 0),
    ],
)
def test_a_network_counts_by_the_runtimes_in_which_int8_and_float_work(row, runtimes):
    assert row.int8_runtimes == runtimes
    assert reached(row) is (runtimes >= 2)


def test_the_share_is_of_all_networks():
    good, bad = of(onnx=OK, tflite=OK), of(onnx=OK, tflite=DIFFERS)
    assert share([good, bad, bad, replace(bad, forward="it fell", cells={})]) == 0.25
    assert share([good]) == 1.0 and share([]) == 0.0


def test_the_ratio_is_that_of_powers_about_the_mean():
    random = np.random.default_rng(0)
    signal = random.normal(5.0, 1.0, (64, 64, 3)).astype(np.float32)
    noise = random.normal(0.0, 0.1, signal.shape).astype(np.float32)
    assert coverage._snr_db(signal + noise, signal) == pytest.approx(20.0, abs=0.2)
    assert coverage._snr_db(np.zeros_like(signal) + signal.mean(), signal) == pytest.approx(0.0, abs=0.1)
    assert coverage._snr_db(signal, signal) == 200.0
    assert coverage._snr_db(signal * np.nan, signal) == coverage._snr_db(signal * np.inf, signal) == -100.0
    assert coverage._snr_db(signal, np.ones_like(signal)) == -100.0, "a constant output has no signal"
    assert 0 < INT8_DB < FLOAT_DB


FILES = [f"{name}-{dtype}" for name in formats.names() for dtype in ("float32", "int8")]


@pytest.fixture
def child(monkeypatch):
    """``child(answer)``: no process is started; ``answer(entry, cells)`` gives what one would; who asked is listed."""
    asked = []

    def stub(answer):
        def run(command, input, timeout, **other):
            job = json.loads(input)
            entry = Entry(**job["entry"])
            asked.append(entry.name)
            return answer(entry, pydantic.TypeAdapter(dict[str, Cell]).validate_python(job["cells"]))

        monkeypatch.setattr(coverage.subprocess, "run", run)
        return asked

    return stub


def written(entry, cells):
    """The lines of a child that got so far: a row without files, then one after each, among a converter's chatter."""
    lines = []
    for count in range(len(cells) + 1):
        row = replace(row_of(), entry=entry, cells=dict(list(cells.items())[:count]))
        lines += ["{chatter}", pydantic.TypeAdapter(Row).dump_json(row).decode()]
    return "\n".join([*lines, "goodbye"])


def done(entry, cells, code=0, stdout=None, stderr=""):
    """A child that got to its end, but for its exit code."""
    every = {name: cells.get(name, OK) for name in FILES}
    return subprocess.CompletedProcess([], code, written(entry, every) if stdout is None else stdout, stderr)


def test_every_network_is_tried_once_and_kept(tmp_path, child):
    asked = child(done)
    entries = [entry_of("span"), entry_of("SwinIR", "spandrel"), Entry("timm:resnet18", "timm", "timm:resnet18")]
    rows = coverage.cover(entries, tmp_path, 60.0, 1, QUIET)
    assert [r.entry for r in rows] == entries and asked == ["span", "SwinIR", "timm:resnet18"]
    assert all(list(r.cells) == FILES and r.int8_runtimes == 3 for r in rows)
    assert sorted(p.name for p in (tmp_path / "rows").iterdir()) == [
        "spandrel-SwinIR.json",
        "timm-timm-resnet18.json",
        "zoo-span.json",
    ]
    assert coverage.cover(entries, tmp_path, 60.0, 2, QUIET) == rows and len(asked) == 3, "nothing is tried again"
    assert coverage.stored(entries, tmp_path) == rows


def test_what_a_stopped_run_finished_is_kept(tmp_path, child):
    entries = [entry_of(name) for name in ("a", "b", "c")]

    def stopped(entry, cells):
        if entry.name == "b":
            raise KeyboardInterrupt
        return done(entry, cells)

    asked = child(stopped)
    with pytest.raises(KeyboardInterrupt):
        coverage.cover(entries, tmp_path, 60.0, 1, QUIET)
    child(done)
    asked.clear()
    assert [r.entry.name for r in coverage.cover(entries, tmp_path, 60.0, 1, QUIET)] == ["a", "b", "c"]
    assert "a" not in asked and "b" in asked


def test_a_file_that_kills_its_process_costs_itself_and_the_others_are_tried_again(tmp_path, child):
    jobs = []

    def crashing(entry, cells):
        jobs.append(dict(cells))
        if FILES[2] in cells:
            return done(entry, cells)
        before = dict.fromkeys(FILES[:2], OK)
        return done(entry, cells, -11, stdout=written(entry, before))

    child(crashing)
    (row,) = coverage.cover([entry_of("span")], tmp_path, 60.0, 1, QUIET)
    assert (row.forward, list(row.cells)) == ("", FILES)
    assert (row.cells[FILES[2]].status, row.cells[FILES[2]].detail) == ("refused", "its process was killed by SIGSEGV")
    assert all(row.cells[name] == OK for name in FILES if name != FILES[2])
    assert [list(job) for job in jobs] == [[], FILES[:3]], "what it had done is not done twice"


def test_a_process_that_dies_at_every_file_comes_to_an_end(tmp_path, child):
    asked = child(lambda entry, cells: done(entry, cells, -9, stdout=written(entry, cells)))
    (row,) = coverage.cover([entry_of("span")], tmp_path, 60.0, 1, QUIET)
    assert len(asked) == len(FILES) + 1 and {c.detail for c in row.cells.values()} <= {
        "its process was killed by SIGKILL"
    }
    assert not reached(row)


def test_a_file_that_takes_too_long_costs_itself_too(tmp_path, child):
    def slow(entry, cells):
        if FILES[0] in cells:
            return done(entry, cells)
        raise subprocess.TimeoutExpired([], 7.0, output=written(entry, {}).encode() + b'\n\xff{"entry')

    child(slow)
    (row,) = coverage.cover([entry_of("slow")], tmp_path, 7.0, 1, QUIET)
    assert row.cells[FILES[0]].detail == "stopped after 7 s" and row.cells[FILES[1]] == OK


@pytest.mark.parametrize("content", ["", "{", "[]", "other version"])
def test_a_row_that_is_damaged_or_of_another_version_is_made_again(tmp_path, child, content):
    asked = child(done)
    coverage.cover([entry_of("span")], tmp_path, 60.0, 1, QUIET)
    path = tmp_path / "rows/zoo-span.json"
    if content == "other version":
        content = json.dumps({**json.loads(path.read_text()), "version": "0.0.0"})
    path.write_text(content)
    assert coverage.stored([entry_of("span")], tmp_path) == []
    coverage.cover([entry_of("span")], tmp_path, 60.0, 1, QUIET)
    assert asked == ["span", "span"] and len(coverage.stored([entry_of("span")], tmp_path)) == 1


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [
        (-11, "", "its process was killed by SIGSEGV"),
        (1, "Traceback\nValueError: no good\n", "ValueError: no good"),
        (3, "", "exit code 3"),
        (0, "", "its process wrote no row"),
    ],
)
def test_a_process_that_dies_before_its_first_row_costs_one_network(tmp_path, child, code, stderr, reason):
    child(lambda entry, cells: done(entry, cells, *((code, "goodbye", stderr) if entry.name == "bad" else ())))
    bad, good = coverage.cover([entry_of("bad"), entry_of("good")], tmp_path, 60.0, 1, QUIET)
    assert (bad.entry.name, bad.forward, bad.cells) == ("bad", reason, {}) and not reached(bad)
    assert reached(good)


def attempted(entry, names, known=None):
    rows = []
    coverage.attempt(entry, names, known or {}, rows.append)
    return rows


def test_a_network_that_cannot_be_built_is_a_row_with_its_reason():
    (row,) = attempted(Entry("spam", "zoo", "spam"), ["onnx"])
    assert row.forward.startswith("unknown model 'spam'; did you mean 'span'?") and row.cells == {}


def test_a_small_network_is_tried_file_after_file():
    rows = attempted(Entry("fsrcnn-s", "zoo", "fsrcnn-s"), ["onnx"])
    assert [list(row.cells) for row in rows] == [[], ["onnx-float32"], ["onnx-float32", "onnx-int8"]]
    last = rows[-1]
    assert (last.forward, last.task, last.input_shape) == ("", "super-resolution", (1, 3, 64, 96))
    assert last.cells["onnx-float32"].status == "ok" and last.cells["onnx-float32"].snr_db > FLOAT_DB
    assert last.cells["onnx-int8"].snr_db is not None and last.parameters > 1000


def test_int8_is_not_tried_where_there_is_no_float_file():
    known = {"onnx-float32": REFUSED}
    row = attempted(Entry("fsrcnn-s", "zoo", "fsrcnn-s"), ["onnx"], known)[-1]
    assert row.cells["onnx-int8"] == replace(REFUSED, detail=coverage.AS_FLOAT32, seconds=0.0)


def test_the_tables_name_what_does_not_work():
    rows = [of(onnx=OK, tflite=OK), replace(of(onnx=OK, tflite=REFUSED), entry=entry_of("SwinIR", "spandrel"))]
    rows.append(replace(row_of(), entry=Entry("timm:x", "timm", "timm:x"), forward="forward raised <ValueError> | x"))
    for text in (tables.text(rows), tables.markdown(rows), tables.html(rows, [("torch", "2")])):
        assert "1 of 3 networks (33%) work in int8 in at least 2 runtimes" in text
        assert "no such operator" in text and "forward raised" in text
    assert "40 dB" in tables.text(rows)
    assert "<ValueError>" not in tables.html(rows, []) and "<ValueError>" not in tables.markdown(rows)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [Entry("fsrcnn-s", "zoo", "fsrcnn-s"), Entry("Compact", "spandrel", "Compact")])
def test_a_real_process_tries_a_network_in_every_format(tmp_path, entry):
    (row,) = coverage.cover([entry], tmp_path, 280.0, 1, QUIET)
    assert row.forward == ""
    assert set(row.cells) == {f"{name}-{dtype}" for name in formats.names() for dtype in ("float32", "int8")}
    assert [key for key, cell in row.cells.items() if key.endswith("float32") and cell.status != "ok"] == []
    assert reached(row)
