"""The model of this machine: small networks, a journal that is gone on with, models that can be read."""

import json

import pytest

from compress import host_latency
from compress.host_latency import fit_host, plans
from compress.operators import workload
from compress.progress import SILENT
from export.errors import ExportError
from targets import latency


def test_every_plan_is_built_and_runs_its_kind():
    kinds = {"add": "elementwise", "mul": "elementwise", "shuffle": "layout"}
    for plan in plans():
        found = {o.kind for o in workload(plan.build(), (1, 3, plan.side, plan.side)).operators}
        assert kinds.get(plan.kind, plan.kind) in found, plan
    assert len({p.name for p in plans()}) == len(plans())


def test_a_stopped_run_measures_only_what_is_missing(tmp_path, monkeypatch):
    journal, asked, measured = tmp_path / "host.jsonl", plans()[:6], []

    def made_up(plan, name, dtype, threads, _journal):
        measured.append(plan.name)
        return 1.0 + workload(plan.build(), (1, 3, plan.side, plan.side)).macs / 1e8

    monkeypatch.setattr(host_latency, "_measured", made_up)
    row = {"network": asked[0].name, "format": "onnx", "dtype": "int8", "threads": 1, "ms": 2.0, "reason": ""}
    journal.write_text(json.dumps(row) + "\n" + json.dumps(row)[:20])
    found = fit_host(journal, asked, ["onnx"], 1, SILENT)
    assert len(measured) == 2 * len(asked) - 1
    path = tmp_path / "models.json"
    path.write_text(json.dumps(found))
    assert [m.dtype for m in latency.read(path).models] == ["float32", "int8"]


def test_nothing_measured_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(host_latency, "_measured", lambda *_: None)
    with pytest.raises(ExportError, match="fewer than 4 networks"):
        fit_host(tmp_path / "host.jsonl", plans()[:4], ["onnx"], 1, SILENT)
