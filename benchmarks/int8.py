"""int8 of official super-resolution weights: ours against the stock quantizers and NNCF, in one run.

Every file is calibrated on T91 and half of BSDS200 and scored through its own runtime on Set5, Set14 and B100.
Needs `pip install nncf`.  Writes results/int8.json after every row; rows that are there are not measured again.
Training costs about five minutes a file on two quiet cores; benchmarks/int8_latency.py times the files.
Usage: python benchmarks/int8.py [--recipes int8,int8-tuned,int8-trained] [NETWORK...]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import record

from compress import pipeline, recipe, source
from compress.cli import _options
from compress.measure import through
from compress.network import Network
from compress.options import Options
from compress.registry import TASKS
from compress.task import Task
from export import formats
from export.artifact import ExportSpec, Session
from export.receptive_field import Reach
from export.torch_session import TorchSession

WEIGHTS = {
    "SPAN, 48 channels": "span/spanx4_ch48_deploy_fp16rounded.pth",
    "SPAN, 28 channels": "ntire2025/team46_span.pth",
    "EFDN": "ntire2025/team00_EFDN.pth",
    "RFDN": "rfdn/RFDN_AIM.pth",
}
SETS = ("Set5", "Set14", "B100")
RECIPES = ("int8", "int8-tuned", "int8-trained")
SIZE = (180, 320)


def calibration(data: Path, folder: Path) -> Path:
    """T91 and BSDS200 training images in one folder, each picture once."""
    folder.mkdir()
    for path in [*(data / "sr/train/T91").iterdir(), *(data / "sr/train/BSDS200_jpg_first100").iterdir()]:
        shutil.copy(path, folder / path.name)
    return folder


Rows = dict[str, dict[str, object]]


def measure(
    title: str, data: Path, scratch: Path, recipes: Sequence[str], rows: Rows, keep: Callable[[], object]
) -> None:
    """Scores, bytes and seconds of every way to int8, added to the rows and kept one by one."""
    weights = data / "weights/sr" / WEIGHTS[title]
    options = Options(str(weights), "mobile", calibration=scratch / "calibration", input_size=SIZE)
    network = source.resolve(options.request)
    reach = pipeline.reach_of(network)
    tasks = {name: TASKS[network.task](network, replace(options, data=data / "sr" / name).judged_on) for name in SETS}

    def scores(session: Session) -> dict[str, float]:
        run = through(session, network, reach)
        return {name: round(task.judge(run, lambda done: None).mean, 3) for name, task in tasks.items()}

    if "torch float32" not in rows:
        rows["torch float32"] = scores(TorchSession(network.module))
        print(title, rows, flush=True)
    for name, make in ways(network, tasks["Set5"], reach, options, scratch, recipes).items():
        if name not in rows or "failed" in rows[name]:
            rows[name] = _row(make, scores)
            print(title, name, rows[name], flush=True)
            keep()


def ways(
    network: Network, task: Task, reach: Reach, options: Options, scratch: Path, recipes: Sequence[str]
) -> dict[str, Callable[[], Path]]:
    """What writes each file."""
    ways: dict[str, Callable[[], Path]] = {}
    for steps in recipes:
        compressed = recipe.load(steps).apply(network, task)
        spec = pipeline.specs_of(compressed, task, reach, SIZE, options)[-1]
        for kind in ("tflite", "onnx", "openvino"):
            ways[f"{kind} {steps}"] = partial(_written, spec, kind, scratch / steps / kind)
    plain = pipeline.specs_of(network, task, reach, SIZE, options)[0]
    inputs = task.calibration_inputs(256, 64, 0)
    for name, settings in _nncf().items():
        ways[name] = partial(_by_nncf, plain, inputs, settings, scratch / name)
    return ways


def _written(spec: ExportSpec, kind: str, out: Path) -> Path:
    return pipeline.write_one(spec, kind, out).path(out)


def _row(make: Callable[[], Path], scores: Callable[[Session], dict[str, float]]) -> dict[str, object]:
    start = time.monotonic()
    try:
        path = make()
    except Exception as error:
        return {"failed": str(error)[:300]}
    seconds = time.monotonic() - start
    total = sum(p.stat().st_size for p in path.parent.glob(path.stem + ".*"))
    return {**scores(formats.open_file(path, 2)), "seconds": round(seconds, 1), "bytes": total}


def _nncf() -> dict[str, Mapping[str, object]]:
    """NNCF's defaults, and the best of the settings that docs/int8.md compares on training images."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Ranges

    minmax = {
        "activations_range_estimator_params": Ranges.MINMAX,
        "weights_range_estimator_params": Ranges.MINMAX,
    }
    mixed = {
        "preset": nncf.QuantizationPreset.MIXED,
        "advanced_parameters": AdvancedQuantizationParameters(**minmax),
    }
    return {"openvino NNCF defaults": {}, "openvino NNCF mixed": mixed}


def _by_nncf(plain: object, inputs: list[np.ndarray], settings: Mapping[str, object], folder: Path) -> Path:
    import nncf
    import openvino

    artifact = formats.write("openvino", plain, folder, "float32")  # type: ignore[arg-type]
    model = openvino.Core().read_model(str(artifact.path(folder)))
    feed = [np.ascontiguousarray(x.transpose(2, 0, 1)[None]) for x in inputs]
    quantized = nncf.quantize(model, nncf.Dataset(feed), subset_size=len(feed), **settings)
    openvino.save_model(quantized, str(folder / "nncf.xml"), compress_to_fp16=False)
    return folder / "nncf.xml"


def main() -> None:
    parser = argparse.ArgumentParser(description="int8 of official super-resolution weights")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("networks", nargs="*", default=list(WEIGHTS))
    given = parser.parse_args()
    _options.use_threads(None)
    data = record.need_shared()
    known = record.RESULTS / "int8.json"
    numbers: dict[str, Rows] = json.loads(known.read_text())["numbers"] if known.is_file() else {}
    for title in given.networks:
        with tempfile.TemporaryDirectory() as scratch:
            calibration(data, Path(scratch) / "calibration")
            rows = numbers.setdefault(title, {})
            keep = partial(record.write, "int8", numbers, 0)
            measure(title, data, Path(scratch), given.recipes.split(","), rows, keep)


if __name__ == "__main__":
    main()
