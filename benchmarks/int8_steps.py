"""What each remedy for int8 gives on official SPAN-48 x4: `compress diagnose --quantization`, as numbers.

Calibrated on T91 and BSDS200 training images, scored through LiteRT on every fourth of them, held out.
Writes results/int8_steps.json.
Usage: python benchmarks/int8_steps.py; about ten minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import record
from int8 import WEIGHTS, calibration

from compress import quantization, source
from compress.cli import _options
from compress.options import Options
from compress.progress import Reporter


def main() -> None:
    _options.use_threads(None)
    data = record.need_shared()
    weights = data / "weights/sr" / WEIGHTS["SPAN, 48 channels"]
    with tempfile.TemporaryDirectory() as scratch:
        options = Options(
            str(weights), "mobile", calibration=calibration(data, Path(scratch) / "images"), input_size=(64, 64)
        )
        network = source.resolve(options.request)
        found = quantization.examine(network, "tflite", options, Path(scratch) / "files", Reporter()).losses
    steps = {step.name: step.score for step in found.steps}
    culprits = [{"tensor": c.name, "share": c.share, "remedy": c.remedy, "gain": c.gain} for c in found.culprits]
    numbers = {"float32": found.float_score, "images": found.images, "steps": steps, "culprits": culprits}
    record.write("int8_steps", numbers, seed=0)


if __name__ == "__main__":
    main()
