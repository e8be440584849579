"""What the rewrites of int8-tuned cost in time: its files against the stock ones, all in turn, in one run.

Official SPAN x4 at 320x180, two threads, LiteRT, ONNX Runtime and OpenVINO.  The time does not depend on the numbers
in a file, so weights are rounded to nearest here, which takes seconds.  Wants a quiet machine.
Writes results/int8_latency.json.
Usage: python benchmarks/int8_latency.py
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import record
from int8 import SIZE, WEIGHTS, calibration

from compress import pipeline, recipe, source
from compress.cli import _options
from compress.options import Options
from compress.registry import TASKS
from export import timing

NETWORKS = ("SPAN, 48 channels", "SPAN, 28 channels")
REPEATS = 30


def main() -> None:
    _options.use_threads(None)
    data = record.need_shared()
    numbers: dict[str, dict[str, object]] = {}
    for title in NETWORKS:
        files: dict[str, Path] = {}
        with tempfile.TemporaryDirectory() as scratch:
            images = calibration(data, Path(scratch) / "calibration")
            weights = data / "weights/sr" / WEIGHTS[title]
            options = Options(str(weights), "mobile", calibration=images, input_size=SIZE)
            network = source.resolve(options.request)
            task, reach = TASKS[network.task](network, options.judged_on), pipeline.reach_of(network)
            for steps in ("int8", "int8-tuned"):
                made = recipe.load(steps).apply(network, task)
                assert made.policy is not None
                if not made.policy.stock:
                    made = replace(made, policy=replace(made.policy, rounding="nearest", correction="bias"))
                spec = pipeline.specs_of(made, task, reach, SIZE, options)[-1]
                for kind in ("tflite", "onnx", "openvino"):
                    out = Path(scratch) / steps / kind
                    files[f"{kind} {steps}"] = pipeline.write_one(spec, kind, out).path(out)
            found = timing.measure(list(files.values()), SIZE, network.channels, min(2, timing.cores()), REPEATS)
        numbers[title] = {
            name: {"ms": round(t.median_ms, 2), "p10": round(t.p10_ms, 2), "p90": round(t.p90_ms, 2)}
            for name, t in zip(files, found, strict=True)
        }
        print(title, numbers[title], flush=True)
    record.write("int8_latency", numbers, seed=0)


if __name__ == "__main__":
    main()
