"""Published weights through the zoo: the score measured here beside the one stated for them.

Every file is given to `--model` alone: the architecture, the scale and the input range are recognised.  Writes
results/official_weights.json; exits 1 where a score is off by more than 0.01 dB or 0.05 points.  The test sets are
looked at here, for the report, and nowhere else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import record

from compress import source
from compress.cli import _options
from compress.measure import through
from compress.network import CLASSIFICATION
from compress.progress import Reporter
from compress.registry import TASKS
from compress.task import Data
from export.receptive_field import Reach
from export.torch_session import TorchSession

SR, CLS = "sr", "cls/cifar10"
TOLERANCE = {"dB": 0.01, "%": 0.05}

STATED: dict[str, tuple[str, dict[str, float]]] = {
    "SPAN x4, 48 channels": (
        "sr/span/spanx4_ch48_deploy_fp16rounded.pth",
        {"Set5": 32.203, "Set14": 28.642, "B100": 27.608},
    ),
    "SPAN x2, 48 channels": ("sr/span/spanx2_ch48_deploy_fp16rounded.pth", {"Set5": 38.070, "Set14": 33.690}),
    "SPAN x4, 28 channels (NTIRE 2025, team 46)": ("sr/ntire2025/team46_span.pth", {"Set5": 31.736, "Set14": 28.403}),
    "DSCF x4 (NTIRE 2025, team 23)": ("sr/ntire2025/team23_DSCF.pth", {"Set5": 31.746, "Set14": 28.342}),
    "SPANF x4 (NTIRE 2025, team 24)": ("sr/ntire2025/team24_spanf.pth", {"Set5": 31.775, "Set14": 28.364}),
    "EFDN x4": ("sr/ntire2025/team00_EFDN.pth", {"Set5": 32.076, "Set14": 28.582}),
    "EFDN x2": ("sr/efdn/EFDNx2_baseline.pth", {"Set5": 37.938, "Set14": 33.429}),
    "RFDN x4": ("sr/rfdn/RFDN_AIM.pth", {"Set5": 32.159}),
    "ResNet-20": ("cls/cifar10_resnet/resnet20-12fca82f.th", {"CIFAR-10": 91.65}),
    "ResNet-56": ("cls/cifar10_resnet/resnet56-4bfd9763.th", {"CIFAR-10": 92.95}),
    "ResNet-8 (MLPerf Tiny)": ("cls/mlperf_tiny/pretrainedResnet.h5", {"CIFAR-10": 87.90}),
}
"""File under ../shared/data/weights, and what ../shared/data/README.md states (CIFAR-10: the first 2,000 images)."""


def measure(file: Path, sets: dict[str, float], data: Path, reporter: Reporter) -> dict[str, object]:
    """The scores of one file."""
    network = source.resolve(source.Request(str(file)))
    run = through(TorchSession(network.module), network, Reach(None, network.unit))  # whole images
    measured, unit = {}, ""
    for name in sets:
        folder = data / (CLS if network.task == CLASSIFICATION else f"{SR}/{name}")
        task = TASKS[network.task](network, Data(evaluation=folder))
        with reporter.bar(f"{network.name}, {name}", task.size) as update:
            scores = task.judge(run, update)
        measured[name], unit = round(scores.mean, 3), scores.unit
    return {
        "network": network.name,
        "parameters": sum(p.numel() for p in network.module.parameters()),
        "file": str(file.relative_to(data)),
        "unit": unit,
        "stated": sets,
        "measured": measured,
        "equal": all(abs(measured[name] - sets[name]) <= TOLERANCE[unit] + 5e-4 for name in sets),
    }


def main() -> int:
    data = record.need_shared()
    _options.use_threads(None)
    reporter = Reporter()
    numbers = {title: measure(data / "weights" / file, sets, data, reporter) for title, (file, sets) in STATED.items()}
    record.write("official_weights", numbers, seed=0)
    off = [title for title, found in numbers.items() if not found["equal"]]
    print("all equal" if not off else f"off: {', '.join(off)}")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
