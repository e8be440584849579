"""Whole channels out of trained networks: what it costs after recovery, and what it buys in int8.

Official SPAN x4, 48 channels, recovered on T91 and half of BSDS200 towards the whole network; both then quantized by
int8-tuned and timed in one run in LiteRT.  CIFAR ResNet-56 on the 6,000 training images here; beside it the cut that
Torch-Pruning makes (its MagnitudePruner with group norms over all layers, in 20 steps, as its CIFAR example does;
`pip install torch-pruning` for that row), recovered by the same training.  Choices were made on training images.
A training that was cut goes on where it stopped (--work).  Wants a quiet machine for the times.
Writes results/channels.json after every row.
Usage: python benchmarks/channels.py [--work runs/channels] [ROW...]
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import record
from few_bits import training_images
from int8 import SETS, SIZE, WEIGHTS, calibration

from compress import cost, pipeline, recipe, source
from compress.cli import _options
from compress.measure import through
from compress.methods._sparsity import Masks, shaped
from compress.methods.channels import Channels
from compress.methods.reparameterize import merged
from compress.network import Network
from compress.options import Options
from compress.progress import Reporter
from compress.registry import TASKS
from compress.task import Task
from compress.workshop import Workshop
from export import formats, timing
from export.torch_session import TorchSession

if TYPE_CHECKING:
    from torch import nn

REPEATS = 40
INSIDE = r"layer\d\.\d+\.conv1"
"""What Torch-Pruning may cut of a CIFAR ResNet: its shortcuts are padded with zeros, which it does not follow."""
SPAN = Channels(share=0.45, align=8, steps=6000, validate_every=500)
RECOVERY: dict[str, Any] = {"steps": 4000, "batch": 128, "crop": 32, "learning_rate": 0.02, "shrink": (1.0,)}
RESNET = Channels(share=0.5, importance="fisher", samples=256, validate_every=500, **RECOVERY)


def macs(network: Network, size: tuple[int, int]) -> int:
    """Of one input."""
    return cost.measure(merged(network.module), (1, network.channels, *size)).macs


def span(data: Path, work: Path) -> dict[str, object]:
    """Scores of the whole network, of the cut, of what recovered; int8 files, scored and timed side by side."""
    images = work / "calibration"
    if not images.exists():
        calibration(data, images)
    weights = data / "weights/sr" / WEIGHTS["SPAN, 48 channels"]
    options = Options(str(weights), "mobile", calibration=images, input_size=SIZE)
    whole = source.resolve(options.request)
    task, reach = TASKS[whole.task](whole, options.judged_on), pipeline.reach_of(whole)
    judges = {name: TASKS[whole.task](whole, replace(options, data=data / "sr" / name).judged_on) for name in SETS}

    def scores(session: Any) -> dict[str, float]:
        run = through(session, whole, reach)
        return {name: round(judge.judge(run, lambda done: None).mean, 3) for name, judge in judges.items()}

    begun = time.monotonic()
    small = SPAN(whole, task, Workshop(work / "span", Reporter()))
    minutes = (time.monotonic() - begun) / 60
    cut = replace(SPAN, steps=0)(whole, task)
    of_torch = {"whole": whole, "cut": cut, "recovered": small}
    rows: dict[str, object] = {
        "macs_left": round(macs(small, SIZE) / macs(whole, SIZE), 3),
        "minutes": round(minutes, 1),
        **{f"torch, {name}": scores(TorchSession(network.module)) for name, network in of_torch.items()},
    }
    files = {}
    for name, network in (("whole", whole), ("recovered", small)):
        for steps in ("int8", "int8-tuned"):
            made = recipe.load(steps).apply(network, task)
            spec = pipeline.specs_of(made, task, reach, SIZE, options)[-1]
            out = work / "files" / name / steps
            files[f"{name}, {steps}"] = pipeline.write_one(spec, "tflite", out).path(out)
    timed = {n: timing.measure(list(files.values()), SIZE, 3, n, REPEATS) for n in (1, 2) if n <= timing.cores()}
    for place, (title, path) in enumerate(files.items()):
        times = {f"ms, {n} threads": round(found[place].median_ms, 2) for n, found in timed.items()}
        rows[f"tflite {title}"] = {**scores(formats.open_file(path, 2)), "bytes": path.stat().st_size, **times}
    return rows


def torch_pruning(module: nn.Module, share_left: float) -> nn.Module:
    """Cut by Torch-Pruning until no more of the MACs are left."""
    import torch
    import torch_pruning as tp
    from torch import nn

    example = torch.rand(1, 3, 32, 32)
    layers = {n: m for n, m in module.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    stay = [layer for name, layer in layers.items() if not re.fullmatch(INSIDE, name)]
    pruner = tp.pruner.MagnitudePruner(
        module,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        iterative_steps=20,
        pruning_ratio=0.9,
        global_pruning=True,
        ignored_layers=stay,
    )
    before, _ = tp.utils.count_ops_and_params(module, example)
    while tp.utils.count_ops_and_params(module, example)[0] > share_left * before:
        pruner.step()
    return module


def classifier(data: Path, work: Path, cut: Callable[[Network, Task], Network]) -> dict[str, object]:
    """Top-1 of the whole network, of a cut, and of what recovered."""
    images = work / "train"
    if not images.exists():
        training_images(data, images)
    weights = data / "weights/cls/cifar10_resnet/resnet56-4bfd9763.th"
    options = Options(str(weights), "mobile", data=data / "cls/cifar10", calibration=images)
    whole = source.resolve(options.request)
    task = TASKS[whole.task](whole, options.judged_on)
    reach = pipeline.reach_of(whole)

    def top1(network: Network) -> float:
        return round(task.judge(through(TorchSession(network.module), network, reach), lambda done: None).mean, 2)

    small = cut(replace(whole, module=merged(whole.module)), task)
    rows = {
        "whole": top1(whole),
        "cut": top1(small),
        "macs_left": round(macs(small, (32, 32)) / macs(whole, (32, 32)), 3),
    }
    begun = time.monotonic()
    settings = {name: getattr(RESNET, name) for name in (*RECOVERY, "loss", "teacher_weight", "validate_every")}
    workshop = Workshop(work / "recovery", Reporter(), teacher=whole)
    rows["recovered"] = top1(shaped(small, task, workshop, settings, Masks(()), scratch=False))
    return {**rows, "images": task.size, "minutes": round((time.monotonic() - begun) / 60, 1)}


def ours(whole: Network, task: Task) -> Network:
    """Half of the MACs, by the method's own ranking."""
    return replace(RESNET, steps=0)(whole, task)


def theirs(whole: Network, task: Task) -> Network:
    """As much by Torch-Pruning."""
    left = macs(ours(whole, task), (32, 32)) / macs(whole, (32, 32))
    return replace(whole, module=torch_pruning(whole.module, left), graph=None)


ROWS: Mapping[str, Callable[[Path, Path], dict[str, object]]] = {
    "SPAN x4, 48 channels": span,
    "ResNet-56": lambda data, work: classifier(data, work, ours),
    "ResNet-56, Torch-Pruning": lambda data, work: classifier(data, work, theirs),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", metavar="ROW", nargs="*", help="; ".join(ROWS))
    parser.add_argument("--work", type=Path, default=Path("runs/channels"))
    args = parser.parse_args()
    _options.use_threads(None)
    data = record.need_shared()
    known = record.RESULTS / "channels.json"
    for title in args.rows or ROWS:
        work = args.work / title.replace(" ", "-").replace(",", "")
        work.mkdir(parents=True, exist_ok=True)
        row = ROWS[title](data, work)
        print(title, row, flush=True)
        numbers = json.loads(known.read_text())["numbers"] if known.is_file() else {}
        record.write("channels", {**numbers, title: row}, seed=0)


if __name__ == "__main__":
    main()
