"""Fit and judge the latency models on AI Hub's published times, leaving whole networks out.

Networks of one architecture (ESRGAN and Real-ESRGAN x4plus) are left out together.  Rows with layers on the CPU are
not fitted; they say which operators make the runtime fall back.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from latency_networks import NETWORKS
from record import REPO, SHARED, need_shared, write

from compress.operators import workload
from targets.fitting import Measured, fit
from targets.judging import half_width, score
from targets.latency import VERSION
from targets.residual import features, learn
from targets.roofline import columns, predict_ms
from targets.support import supported
from targets.workload import Operator, Workload

PRECISIONS = ("w8a8", "w8a16", "float")
RUNTIMES = ("tflite", "qnn_dlc")
_FEWEST = 12  # networks for a fit
_SAME = {"esrgan": "real_esrgan_x4plus"}
_NN_METER = "within 10 %: 99 % (Cortex-A76 TFLite 2.1, Adreno 640 and 630), 83.4 % (Myriad VPU), on its own 26,000 nets"

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Out:
    """One network predicted without itself."""

    key: Key
    model: str
    measured: float
    roofline: float
    features: list[float]
    refused: str


def build() -> dict[str, Workload]:
    """The operators of every network that can be built."""
    found = {}
    for name, built in NETWORKS.items():
        module = built.make()
        millions = sum(p.numel() for p in module.parameters()) / 1e6
        if built.millions and abs(millions / built.millions - 1) > 0.03:
            sys.exit(f"{name} has {millions:.3f} M parameters, AI Hub states {built.millions}; mend its description")
        found[name] = workload(module, built.shape, name)
        print(f"{name}: {found[name].macs / 1e9:.2f} GMAC", flush=True)
    return found


def measurements(path: Any) -> list[dict[str, str]]:
    """The rows of the NPU runtimes."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [r for r in rows if r["runtime"] in RUNTIMES and r["precision"] in PRECISIONS]


def left_out(key: Key, points: list[Measured], nets: dict[str, Workload], on_cpu: list[str]) -> list[Out]:
    """Every network predicted by a fit on the others."""
    whole = fit(points, key[2])
    found = []
    for point in points:
        family = _SAME.get(point.model, point.model)
        others = [p for p in points if _SAME.get(p.model, p.model) != family]
        line = fit(others, key[2], begin=whole)
        failed = [nets[m] for m in on_cpu if m != point.model]
        refused = supported([nets[p.model] for p in others], failed).refusal(nets[point.model])
        guess = float(predict_ms(line, point.columns, key[2])[0])
        found.append(Out(key, point.model, point.ms, guess, features(line, point.columns, key[2]), refused))
    return found


def corrected(outs: list[Out]) -> dict[tuple[Key, str], float]:
    """Every prediction with the residual that trees learn from all other networks on all devices."""
    rows = np.array([o.features for o in outs])
    residuals = np.array([np.log(o.measured / o.roofline) for o in outs])
    names = np.array([_SAME.get(o.model, o.model) for o in outs])
    found = {}
    for name in sorted(set(names)):
        test = names == name
        added = learn(rows[~test], residuals[~test], list(names[~test]))(rows[test])
        for out, more in zip([o for o in outs if _SAME.get(o.model, o.model) == name], added, strict=True):
            found[out.key, out.model] = out.roofline * float(np.exp(more))
    return found


def large_frame(points: list[Measured]) -> dict[str, float]:
    """What the fit on small frames says of MLPerf Mobile's EDSR on a Snapdragon 8 Gen 3, where 6.13 ms were measured.

    12 convolutions of 32 channels and one to 12, as the brief of the measurements gives the network.
    """
    convs = [(3 if n == 0 else 32, 12 if n == 12 else 32) for n in range(13)]
    pixels = 960 * 540
    edsr = [Operator("conv", 9 * a * b * pixels, a * pixels, b * pixels, 9 * a * b, a, b, 9) for a, b in convs]
    net = Workload("EDSR", (1, 3, 540, 960), (*edsr, Operator("layout", 0, 12 * pixels, 12 * pixels)))
    line = fit(points, "w8a8")
    straight = 0.243 + net.macs / 23.4e9  # the brief's line through the super-resolution networks
    return {"measured": 6.13, "roofline": float(predict_ms(line, columns(net), "w8a8")[0]), "straight line": straight}


def main() -> int:
    need_shared()
    path = SHARED / "measurements" / "aihub_perf.csv"
    rows, nets = measurements(path), build()
    every = {r["model"] for r in rows}
    groups: dict[Key, list[Measured]] = defaultdict(list)
    on_cpu: dict[Key, list[str]] = defaultdict(list)
    arrays = {n: columns(w) for n, w in nets.items()}
    for row in rows:
        key, name = (row["device"], row["runtime"], row["precision"]), row["model"]
        if name not in nets:
            continue
        if row["primary_unit"] != "NPU" or row["layers_cpu"] not in ("", "0"):
            on_cpu[key].append(name)
        else:
            groups[key].append(Measured(name, arrays[name], float(row["inference_ms"])))
    # a kind that few networks have (convolutions over time) is not fitted: it would bend the others
    over_time = {n for n, w in nets.items() if any(o.kind == "volumetric" for o in w.operators)}
    usual = {k: [p for p in v if p.model not in over_time] for k, v in groups.items()}
    kept = {k: v for k, v in usual.items() if len(v) >= _FEWEST}
    outs = [o for k in sorted(kept) for o in left_out(k, kept[k], nets, on_cpu[k])]
    better = corrected(outs)
    models: list[dict[str, Any]] = []
    table: dict[str, Any] = {}
    for key in sorted(kept):
        mine = [o for o in outs if o.key == key]
        told = [o for o in mine if not o.refused]
        measured = [o.measured for o in told]
        plain = score([o.roofline for o in told], measured)
        trees = score([better[key, o.model] for o in told], measured)
        width = half_width(np.log([o.measured / o.roofline for o in told]))
        volumetric = len(groups[key]) - len(kept[key])
        table[" / ".join(key)] = {
            "roofline": asdict(plain),
            "roofline, nothing abstained": asdict(score([o.roofline for o in mine], [o.measured for o in mine])),
            "with trees": asdict(trees),
            "abstained": {o.model: o.refused for o in mine if o.refused},
            "abstained on convolutions over time": volumetric,
            "rows with layers on the CPU": len(on_cpu[key]),
        }
        support = supported([nets[p.model] for p in kept[key]], [nets[m] for m in on_cpu[key]])
        entry = {"device": key[0], "runtime": key[1], "dtype": key[2], "roofline": asdict(fit(kept[key], key[2]))}
        models.append({**entry, "support": support.to_json(), "half_width": width, "judged": asdict(plain)})
    summary = {p: _summary([t for k, t in table.items() if k.endswith(f"/ {p}")]) for p in PRECISIONS}
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    book = {
        "version": VERSION,
        "command": "python benchmarks/latency_models.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "data": {path.name: sha},
        "models": models,
    }
    (REPO / "targets" / "data" / "latency.json").write_text(json.dumps(book, indent=1) + "\n")
    numbers = {
        "data": {path.name: sha},
        "networks in the measurements": len(every),
        "networks built": len(nets),
        "not built": sorted(every - set(nets)),
        "summary": summary,
        "groups": table,
        "EDSR x2, 960x540, w8a8": large_frame(kept["Samsung Galaxy S24", "tflite", "w8a8"]),
        "nn-Meter, published": _NN_METER,
    }
    write("latency_models", numbers, seed=0)
    for precision, found in summary.items():
        print(precision, json.dumps(found))
    return 0


def _summary(tables: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Medians over the groups of one precision."""
    found = {}
    for way in ("roofline", "roofline, nothing abstained", "with trees"):
        values = {n: [t[way][n] for t in tables if t[way][n] is not None] for n in tables[0][way]}
        found[way] = {n: float(median(v)) for n, v in values.items() if v}
        found[way]["groups"] = len(tables)
    return found


if __name__ == "__main__":
    sys.exit(main())
