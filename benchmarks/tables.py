"""Put the results into the README and the docs, between <!-- bench:NAME --> and <!-- /bench -->.

`--check` changes nothing and exits 1 where a page does not show the results as they are.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from typing import Any

import pydantic
from record import REPO, RESULTS

from compress.coverage import Row
from compress.policies import in_words
from compress.report.coverage import markdown

_SETS = ("Set5", "Set14", "B100")
_MADE = {"bytes": 1024, "seconds": 1}
PAGES = (
    "README.md",
    "docs/int8.md",
    "docs/models.md",
    "docs/coverage.md",
    "docs/search.md",
    "docs/lut.md",
    "docs/pruning.md",
    "docs/run.md",
    "docs/latency.md",
)


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


def int8_scores() -> str:
    """Every way to int8 of the four official networks."""
    rows = []
    for title, ways in _load("int8").items():
        plain = ways["torch float32"]
        for place, (name, found) in enumerate(ways.items()):
            first = "" if place else title
            if "failed" in found:
                rows.append([first, name, found["failed"].splitlines()[0][:80], *[""] * 4])
                continue
            scores = [f"{found[s]:.2f}" + (f" (-{plain[s] - found[s]:.2f})" if place else "") for s in _SETS]
            made = [f"{found[k] / by:.0f}" if k in found else "" for k, by in _MADE.items()]
            rows.append([first, name, *scores, *made])
    return _grid(["x4", "file", *_SETS, "KiB", "seconds to make"], rows)


def int8_headline() -> str:
    """What the TFLite file loses, by recipe."""
    rows = []
    for title, ways in _load("int8").items():
        plain, row = ways["torch float32"], [title]
        row.append(" / ".join(f"{plain[s]:.2f}" for s in _SETS))
        for steps in ("int8", "int8-tuned", "int8-trained"):
            found = ways.get(f"tflite {steps}", {})
            row.append(" / ".join(f"{plain[s] - found[s]:.2f}" for s in _SETS) if "Set5" in found else "")
        rows.append(row)
    return _grid(["x4", "float32 Set5 / Set14 / B100", "`int8` (stock) loses", "`int8-tuned`", "`int8-trained`"], rows)


def int8_latency() -> str:
    """What the rewrites cost in time."""
    rows = []
    for title, files in _load("int8_latency").items():
        for place, kind in enumerate(("tflite", "onnx", "openvino")):
            stock, ours = files[f"{kind} int8"], files[f"{kind} int8-tuned"]
            shown = [f"{t['ms']:.1f} ({t['p10']:.1f}-{t['p90']:.1f})" for t in (stock, ours)]
            rows.append(["" if place else title, kind, *shown, f"{ours['ms'] / stock['ms']:.2f}"])
    return _grid(["x4, 320x180", "ms (p10-p90)", "`int8`", "`int8-tuned`", "ratio"], rows)


def int8_steps() -> str:
    """What each remedy gives on calibration images held out."""
    found = _load("int8_steps")
    plain, rows = found["float32"], []
    for name, score in found["steps"].items():
        rows.append([name, f"{score:.2f}", f"{plain - score:.2f}"])
    return _grid([f"float32: {plain:.2f} dB", "PSNR-Y dB", "lost"], rows)


def lut_engine() -> str:
    """Published tables in our engine."""
    rows, numbers = [], _load("lut_engine")
    engines = {"ms, one core": "ms, one core", "ms, two cores": "two cores", "ms, numba": "numba", "ms, numpy": "numpy"}
    timed = [key for key in engines if all(key in found for found in numbers.values())]  # numba may not be installed
    for title, found in numbers.items():
        scores = [f"{found['psnr'][name]:.2f}" if found["psnr"] else "" for name in _SETS]
        times = [f"{found[k]:.1f}" for k in timed]
        keys = ("ns a pixel", "rows read a pixel", "ns a row", "ns a row, reads alone")
        rows.append([title, *scores, *times, *(f"{found[k]:.1f}" for k in keys), f"{found['table_bytes'] / 1024:.0f}"])
    return _grid(["tables", *_SETS, *(engines[key] for key in timed), *keys, "KiB"], rows)


def lut_instructions() -> str:
    """Instructions for each output pixel."""
    found = _load("lut_instructions")
    machines = list(next(iter(found.values())))
    rows = [[title, *(f"{numbers[machine]:.0f}" for machine in machines)] for title, numbers in found.items()]
    return _grid(["instructions a pixel", *machines], rows)


def lut_separable() -> str:
    """One-dimensional tables."""
    rows = []
    for title, found in _load("lut_separable").items():
        scores = [f"{found['psnr'][name]:.2f}" for name in _SETS]
        times = [*found["ms"].values(), found["ms, two cores"]]
        counts = [found["look-ups a pixel"], *found["instructions a pixel"].values()]
        size = f"{found['table_bytes'] / 1024:.0f}"
        rows.append([title, *scores, size, *(f"{t:.1f}" for t in times), *(f"{c:.0f}" for c in counts)])
    machines = [*found["ms"], "two cores"]
    counted = ["look-ups a pixel", *(f"instructions, {machine}" for machine in found["instructions a pixel"])]
    return _grid(["x4", *_SETS, "KiB", *(f"ms, {machine}" for machine in machines), *counted], rows)


def lut_comparison() -> str:
    """Tables beside small convolutional networks."""
    rows = []
    for title, found in sorted(_load("lut_comparison").items(), key=lambda item: item[1]["ms, 2 threads"]):
        name, file = title.split(" | ")
        scores = [f"{found[name]:.2f}" for name in _SETS]
        times = [f"{found[f'ms, {count} threads']:.1f}" for count in (1, 2)]
        work = [
            f"{found['products a pixel']:.0f}",
            f"{found['rows read a pixel']:.0f}" if "rows read a pixel" in found else "",
        ]
        rows.append([name, file, *scores, *times, f"{found['bytes'] / 1024:.0f}", *work])
    heads = ["x4", "file", *_SETS, "ms, one thread", "two threads", "KiB", "products a pixel", "look-ups a pixel"]
    return _grid(heads, rows)


def lut_training() -> str:
    """Tables trained here, step by step."""
    rows = []
    for title, found in _load("lut_training").items():
        for place, step in enumerate(found["steps"]):
            size = f"{step['table_bytes'] / 1024:.0f}" if "table_bytes" in step else ""
            minutes = f"{step['minutes']:.0f}" if step.get("minutes") else ""
            scores = [f"{step[name]:.2f}" for name in _SETS]
            rows.append([title if place == 0 else "", step["step"], *scores, size, minutes])
    return _grid(["x4", "after", *_SETS, "KiB", "minutes"], rows)


def lut_runtimes() -> str:
    """The same tables as files of every format."""
    rows = []
    for title, found in _load("lut_runtimes").items():
        own = found["files"]["lut"]
        for place, (name, file) in enumerate(sorted(found["files"].items(), key=lambda item: item[1]["ms, 1"])):
            times = [
                f"{file[f'ms, {n}']:.1f} ({file[f'p10-p90, {n}'][0]:.1f}-{file[f'p10-p90, {n}'][1]:.1f})"
                for n in (1, 2)
            ]
            slower = f"{file['ms, 1'] / own['ms, 1']:.0f}x" if name not in ("lut", "c") else ""
            equal = "yes" if file["equal"] else "no"
            rows.append(["" if place else title, name, equal, *times, slower, f"{file['bytes'] / 1024:.0f}"])
    header = ["tables", "file", "the engine's bytes", "ms, one thread (p10-p90)", "two threads", "against .lut", "KiB"]
    return _grid(header, rows)


def sparse_storage() -> str:
    """Bytes of pruned weights."""
    rows = []
    for title, found in _load("sparse_storage").items():
        whole, coder = found["whole_file"], found["constriction"]
        rows.append(
            [
                title,
                f"{found['file_bytes']:,}",
                f"{found['packed_bytes']:,}",
                f"{whole['lzma']:,}",
                f"{found['bytes_per_nonzero']:.2f}",
                f"{found['bound_per_nonzero']:.2f}",
                f"{found['place_bytes'] + found['value_bytes']:,}",
                f"{min(coder['bitmap'], coder['gaps']) + coder['values']:,}",
            ]
        )
    header = ["SPAN x4, zeros", "safetensors, bytes", "packed", "xz", "bytes a nonzero", "bound", "places and values"]
    return _grid([*header, "by constriction"], rows)


def budget() -> str:
    """Seconds that searches took."""
    rows = [[n, f"{v['seconds']:.1f}", f"{v['over %']:+.1f} %", str(v["trials"])] for n, v in _load("budget").items()]
    return _grid(["format, budget", "seconds", "over", "policies tried"], rows)


def latency_summary() -> str:
    """Medians over the devices and runtimes of a dtype."""
    rows = []
    for dtype, ways in _load("latency_models")["summary"].items():
        for place, (way, found) in enumerate(ways.items()):
            first = [f"{dtype}, {found['groups']} fits" if place == 0 else "", way]
            rows.append([*first, *_latency_cells(found)])
    return _grid(["dtype", "model", *_LATENCY], rows)


_LATENCY = ("networks", "median error", "within 10 %", "within 20 %", "Spearman", "90 % interval holds")


def _latency_cells(found: dict[str, float | None]) -> list[str]:
    shares = [f"{found[k]:.0%}" for k in ("within_10", "within_20")]
    holds = found.get("coverage")
    counted = [f"{found['networks']:.0f}", f"{found['median_error']:.1%}", *shares, f"{found['spearman']:.3f}"]
    return [*counted, "too few" if holds is None else f"{holds:.0%}"]


def latency_models() -> str:
    """Every device, runtime and dtype."""
    rows = []
    for title, found in _load("latency_models")["groups"].items():
        refused = len(found["abstained"]) + found["abstained on convolutions over time"]
        rows.append([title, *_latency_cells(found["roofline"]), str(refused)])
    return _grid(["device / runtime / dtype", *_LATENCY, "abstained"], rows)


def few_bits() -> str:
    """Classifiers in 8 and in 4 bits."""
    found = _load("few_bits")
    ways = [k for k in next(iter(found.values())) if k.startswith(("float32", "W8", "W4"))]
    rows = [[title, *(f"{numbers[way]:.2f}" for way in ways)] for title, numbers in found.items()]
    return _grid(["top-1 %", *ways], rows)


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
    """Trials and regret of every sampler on Quantune's table."""
    return _replay("quantune_replay")


def policy_replay() -> str:
    """The same on our own."""
    return _replay("policy_replay")


def _replay(name: str) -> str:
    """Trials and regret of every sampler, in the mean over the models."""
    arms = _load(name)["arms"]
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
    """Trials to the optimum of Quantune's table, model by model."""
    return _by_model("quantune_replay", "trials to within 0")


def policy_models() -> str:
    """Trials to within 0.1 point of the optimum of our own table, network by network."""
    return _by_model("policy_replay", "trials to within 0.1")


def _by_model(name: str, column: str) -> str:
    arms = _load(name)["arms"]
    models = list(next(iter(arms.values()))[column]["models"])
    rows = [[t, *(f"{a[column]['models'][m]:.1f}" for m in models)] for t, a in arms.items()]
    return _grid(["sampler", *models], rows)


def policy_losses() -> str:
    """What policies cost each network: on the images of the choice, and on those of the report."""
    found = _load("policy_table")
    names, rows = found["knobs"], []
    for title, numbers in found["networks"].items():
        plain, digits = numbers["float"], 1 if numbers["unit"] == "%" else 2
        losses = {
            tuple(p): plain - s for p, s in zip(found["policies"], numbers["scores"], strict=True) if s is not None
        }
        stock = losses[("min-max", "nearest", False, 64, 0)]
        shown = [stock, min(losses.values()), statistics.median(losses.values()), max(losses.values())]
        report = numbers["report"]
        after = [report["float"] - report[k] for k in ("stock", "best", "int8-tuned")]
        rows.append(
            [
                f"{title}, {plain:.{digits}f} {numbers['unit']}",
                *(f"{loss:.{digits}f}" for loss in shown),
                in_words({name: numbers["best"][name] for name in names}),
                *(f"{loss:.{digits}f}" for loss in after),
            ]
        )
    header = ["network, float", "stock", "best", "median", "worst", "the best policy"]
    return _grid([*header, "report: stock", "that policy", "`int8-tuned`"], rows)


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
    "sparse_storage": sparse_storage,
    "span_scores": span_scores,
    "span_speed": span_speed,
    "openvino_route": openvino_route,
    "official_weights": official_weights,
    "coverage": coverage,
    "coverage_headline": coverage_headline,
    "search_replay": search_replay,
    "search_models": search_models,
    "int8_scores": int8_scores,
    "int8_headline": int8_headline,
    "int8_steps": int8_steps,
    "int8_latency": int8_latency,
    "few_bits": few_bits,
    "budget": budget,
    "latency_summary": latency_summary,
    "latency_models": latency_models,
    "lut_engine": lut_engine,
    "lut_comparison": lut_comparison,
    "lut_separable": lut_separable,
    "lut_training": lut_training,
    "lut_instructions": lut_instructions,
    "lut_runtimes": lut_runtimes,
    "search_layered": search_layered,
    "search_predictors": search_predictors,
    "policy_losses": policy_losses,
    "policy_replay": policy_replay,
    "policy_models": policy_models,
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
