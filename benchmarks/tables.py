"""Put the results into the README and the docs, between <!-- bench:NAME --> and <!-- /bench -->.

`--check` changes nothing and exits 1 where a page does not show the results as they are.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pydantic
from record import REPO, RESULTS

from compress.coverage import Row
from compress.report.coverage import markdown

PAGES = ("README.md", "docs/int8.md", "docs/models.md", "docs/coverage.md", "docs/search.md")


def _load(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())["numbers"]


def _grid(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def span_scores() -> str:
    """PSNR of network and files on the three sets."""
    rows = []
    for title, numbers in _load("span").items():
        for place, kind in enumerate(("torch-float32", "tflite-int8", "onnx-int8", "openvino-int8")):
            sets = numbers["psnr"][kind]
            rows.append(["" if place else title, kind, *(f"{sets[name]:.2f}" for name in ("Set5", "Set14", "B100"))])
    return _grid(["SPAN x4", "", "Set5", "Set14", "B100"], rows)


def span_speed() -> str:
    """Latency and size of every file."""
    rows = []
    for title, numbers in _load("span").items():
        files = numbers["files"]
        for place, (name, file) in enumerate(files.items()):
            plain = files[f"{name.rsplit('-', 1)[0]}-float32"]["median_ms"]
            ratio = f"{plain / file['median_ms']:.1f}x" if name.endswith("int8") else ""
            low, high = file["p10_p90_ms"]
            latency = f"{file['median_ms']:.0f} ({low:.0f}-{high:.0f})"
            rows.append(["" if place else title, name, latency, ratio, f"{file['bytes'] / 1024:.0f}"])
    return _grid(["SPAN x4", "file", "ms (p10-p90)", "against float32", "KiB"], rows)


def openvino_route() -> str:
    """PSNR of OpenVINO's int8 routes."""
    numbers = _load("openvino_route")
    rows = [[title, f"{v['psnr']:.2f}", f"{v['seconds']:.0f}"] for title, v in numbers.items()]
    return _grid(["route", "PSNR-Y dB", "seconds"], rows)


def official_weights() -> str:
    """Measured beside published scores."""
    rows = []
    for title, found in _load("official_weights").items():
        unit, digits = found["unit"], 2
        pairs = [
            f"{name} {found['measured'][name]:.{digits}f} ({stated:.{digits}f})"
            for name, stated in found["stated"].items()
        ]
        rows.append([title, found["network"], f"{found['parameters']:,}", f"{', '.join(pairs)} {unit}"])
    return _grid(["weights", "recognised as", "parameters", "measured here (published)"], rows)


def coverage() -> str:
    """How far every network gets."""
    rows = pydantic.TypeAdapter(list[Row]).validate_python(
        [{**r, "cells": {k: {**c, "seconds": 0.0} for k, c in r["cells"].items()}} for r in _load("coverage")["rows"]]
    )
    return markdown(rows).strip()


def coverage_headline() -> str:
    """One line of it."""
    return coverage().split("\n", 1)[0]


def search_replay() -> str:
    """Trials and regret of every sampler, in the mean over six models."""
    arms = _load("quantune_replay")["arms"]
    columns = [c for c in next(iter(arms.values())) if c not in ("seeds", "seconds")]
    rows = []
    for title, found in arms.items():
        first = found[columns[0]]
        low, high = first["geometric interval"]
        means = [f"{found[c]['mean']:.{1 if c.startswith('trials') else 2}f}" for c in columns]
        rows.append([title, str(found["seeds"]), *means, f"{first['geometric']:.1f} ({low:.1f}-{high:.1f})"])
    last = "geometric mean of the trials to the optimum (95 %)"
    return _grid(["sampler", "seeds", "trials to the optimum", *columns[1:], last], rows)


def search_models() -> str:
    """Trials to the optimum, model by model."""
    arms = _load("quantune_replay")["arms"]
    models = list(next(iter(arms.values()))["trials to within 0"]["models"])
    rows = [[t, *(f"{a['trials to within 0']['models'][m]:.1f}" for m in models)] for t, a in arms.items()]
    return _grid(["sampler", *models], rows)


def search_layered() -> str:
    """Hypervolume after so many trials on the made-up network."""
    found = _load("quantune_replay")["layered"]["hypervolume"]
    counts = list(next(iter(found.values())))
    rows = [[t, *(f"{v[c]['mean']:.3f} +- {v[c]['std']:.3f}" for c in counts)] for t, v in found.items()]
    return _grid(["sampler", *(f"{c} trials" for c in counts)], rows)


def search_predictors() -> str:
    """Rank correlation on the model that was left out."""
    found = _load("quantune_replay")["predictors"]
    rows = []
    for title, judged in found.items():
        for kind in ("spearman", "kendall_at_top"):
            name = "Spearman" if kind == "spearman" else "Kendall, best fifth"
            rows.append([title, name, *(f"{j[kind]:.2f}" for j in judged)])
    return _grid(["predictor", "", *(j["model"] for j in next(iter(found.values())))], rows)


TABLES: dict[str, Callable[[], str]] = {
    "span_scores": span_scores,
    "span_speed": span_speed,
    "openvino_route": openvino_route,
    "official_weights": official_weights,
    "coverage": coverage,
    "coverage_headline": coverage_headline,
    "search_replay": search_replay,
    "search_models": search_models,
    "search_layered": search_layered,
    "search_predictors": search_predictors,
}


def filled(text: str) -> str:
    """The page with every block made anew."""
    pattern = re.compile(r"<!-- bench:(\w+) -->\n.*?<!-- /bench -->", re.DOTALL)
    return pattern.sub(lambda m: f"<!-- bench:{m[1]} -->\n{TABLES[m[1]]()}\n<!-- /bench -->", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = []
    for name in PAGES:
        page = REPO / name
        before = page.read_text()
        after = filled(before)
        if before != after:
            stale.append(name)
            if not args.check:
                page.write_text(after)
    print("changed" if stale else "up to date", *stale)
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
