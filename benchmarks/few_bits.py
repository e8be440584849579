"""Classifiers in W8A8 and W4A8 through LiteRT: stock, by recipe, and by search; top-1 on CIFAR-10 test images.

Policies are chosen on training images held out of the calibration; the 2,000 test images are looked at for the report
alone.  Writes results/few_bits.json after every network.
Usage: python benchmarks/few_bits.py
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import record

from compress import pipeline, policies, recipe, source
from compress.cli import _options
from compress.measure import through
from compress.network import Network
from compress.options import Options
from compress.progress import Reporter
from compress.registry import TASKS
from compress.task import Task
from export import formats
from export.policy import QuantPolicy
from export.torch_session import TorchSession

WEIGHTS = record.RESULTS / "weights"
TRIALS = 8
SIZE = (32, 32)
W4 = QuantPolicy(weight_bits=4, calibration_crops=256, clipping="mse", rounding="gptq", correction="bias")
FIXED: Mapping[str, QuantPolicy] = {
    "W8A8 stock": QuantPolicy(),
    "W8A8 tuned": replace(W4, weight_bits=8, calibration_crops=128),
    "W4A8 nearest": QuantPolicy(weight_bits=4),
    "W4A8 tuned": W4,
    "W4A8 trained": replace(W4, training_steps=300),
}


def networks(data: Path) -> dict[str, Path]:
    """Files of weights by title."""
    return {
        "ResNet-20": data / "weights/cls/cifar10_resnet/resnet20-12fca82f.th",
        "MobileNetV2, width 0.5": WEIGHTS / "mobilenet_v2_cifar10.safetensors",
    }


def training_images(data: Path, folder: Path) -> Path:
    """The 6,000 training images in a folder of their own."""
    folder.mkdir()
    for path in (*(data / "cls/cifar10").glob("train_*"), data / "cls/cifar10/classes.json"):
        shutil.copy(path, folder / path.name)
    return folder


def measure(weights: Path, data: Path, scratch: Path) -> dict[str, object]:
    """Top-1 of every way, on the test images."""
    options = Options(
        str(weights), "mobile", data=data / "cls/cifar10", calibration=scratch / "train", trials=TRIALS, input_size=SIZE
    )
    given = source.resolve(options.request)
    task: Task = TASKS[given.task](given, options.judged_on)
    network = recipe.load("float32").apply(given, task)
    reach = pipeline.reach_of(network)
    rows: dict[str, object] = {"images": task.size}

    def top1(session: object, of: Network) -> float:
        return round(task.judge(through(session, of, reach), lambda done: None).mean, 2)  # type: ignore[arg-type]

    rows["float32"] = top1(TorchSession(network.module), network)
    judge = policies.Judge(replace(network, policy=W4), task, reach, options, scratch / "trials")

    def score(policy: QuantPolicy, name: str) -> float:
        out = scratch / name.replace(" ", "-")
        return top1(formats.open_file(judge.write(policy, "tflite", SIZE, out).path(out), 2), network)

    for name, policy in FIXED.items():
        rows[name] = score(policy, name)
        print(f"  {name}: {rows[name]}", flush=True)
    choice = policies.choose(judge, "tflite", SIZE, options, scratch / "search", Reporter())
    rows["W4A8 searched"] = score(choice.policy, "searched")
    rows["searched policy"], rows["trials"], rows["seconds of the search"] = choice.why, choice.trials, choice.seconds
    print(f"  searched: {rows['W4A8 searched']}, {choice.why}", flush=True)
    return rows


def main() -> None:
    _options.use_threads(None)
    data = record.need_shared()
    numbers: dict[str, object] = {}
    for title, weights in networks(data).items():
        print(title, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            training_images(data, Path(folder) / "train")
            numbers[title] = measure(weights, data, Path(folder))
        record.write("few_bits", numbers, seed=0)


if __name__ == "__main__":
    main()
