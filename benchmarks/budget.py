"""How well `compress run --budget` is kept: seconds that the search of a policy took against those it was given.

The built-in SPAN x4 on the built-in images, for two formats.  Writes results/budget.json.
Usage: python benchmarks/budget.py; about seven minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import record

from compress import pipeline
from compress.cli import _options
from compress.options import Options
from compress.progress import Reporter
from compress.run_folder import RunFolder

BUDGETS = (60, 120)
TARGETS = {"tflite": "mobile", "onnx": "desktop"}


def main() -> None:
    _options.use_threads(None)
    numbers = {}
    for kind, target in TARGETS.items():
        for seconds in BUDGETS:
            with tempfile.TemporaryDirectory() as scratch:
                options = Options("span", target, budget=f"{seconds}s", formats=(kind,), input_size=(48, 64))
                with RunFolder(Path(scratch) / "run", resume=False) as folder:
                    found = pipeline.run(options, folder, Reporter())
            assert found.choice is not None
            took = round(found.choice.seconds, 1)
            over = round(100 * (took / seconds - 1), 1)
            numbers[f"{kind} {seconds} s"] = {"seconds": took, "over %": over, "trials": found.choice.trials}
            print(kind, seconds, numbers[f"{kind} {seconds} s"], flush=True)
    record.write("budget", numbers, seed=0)


if __name__ == "__main__":
    main()
