"""PixelShuffle in TFLite: the converter's RESHAPE / TRANSPOSE chain against one DEPTH_TO_SPACE, timed in turn.

SPAN x4 with the built-in weights, 320x180, float32 and int8.  Writes results/depth_to_space.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import record

from compress import pipeline, recipe, zoo
from compress.cli import _options
from compress.options import Options
from compress.registry import TASKS
from compress.task import Data
from export import formats, timing
from export.receptive_field import Reach
from export.torch_session import TorchSession

SIZE = (180, 320)


def main() -> None:
    _options.use_threads(None)
    network = zoo.load("span")
    task = TASKS[network.task](network, Data())
    compressed = recipe.load("int8").apply(network, task)
    specs = pipeline.specs_of(compressed, task, Reach(21, 1), SIZE, Options("span", "mobile"))
    numbers = {}
    with tempfile.TemporaryDirectory() as scratch:
        for spec in specs:
            chain, fused = Path(scratch) / f"chain-{spec.card.dtype}", Path(scratch) / f"fused-{spec.card.dtype}"
            with mock.patch("export.tflite_graph.fuse_pixel_shuffle", lambda path: 0):
                before = formats.write("tflite", spec, chain, "chain").path(chain)
            after = formats.write("tflite", spec, fused, "fused").path(fused)
            image = task.sample()[: SIZE[0], : SIZE[1]]
            image = np.pad(image, [(0, SIZE[0] - image.shape[0]), (0, SIZE[1] - image.shape[1]), (0, 0)], "symmetric")
            outputs = [formats.open_file(path, 1).run(image) for path in (before, after)]
            slow, fast = timing.measure([before, after], SIZE, 3, min(2, timing.cores()), repeats=40)
            numbers[spec.card.dtype] = {
                "chain_ms": round(slow.median_ms, 2),
                "depth_to_space_ms": round(fast.median_ms, 2),
                "equal_bits": bool(np.array_equal(*outputs)),
                "against_torch_max": float(np.abs(outputs[1] - TorchSession(network.module).run(image)).max()),
                "operators": [len_of(before), len_of(after)],
            }
    record.write("depth_to_space", numbers, seed=0)


def len_of(path: Path) -> int:
    """How many operators a file holds."""
    return sum(formats.by_name("tflite").operators(path).values())


if __name__ == "__main__":
    main()
