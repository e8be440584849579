"""``compress validate``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from compress.cli import _options

if TYPE_CHECKING:
    from export.artifact import Card

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "score a file through its own runtime"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="a .tflite, .onnx, .xml, .lut or .c file")
    parser.add_argument("--task", metavar="NAME", help="default: what the file says")
    parser.add_argument("--data", metavar="DIR", type=Path, help="as for `compress run`; default: built in")
    parser.add_argument("--scale", metavar="N", type=_options.positive, help="for files that do not say their own")
    parser.add_argument("--halo", metavar="N", type=_options.positive, help="receptive-field radius, likewise")
    parser.add_argument("--unit", metavar="N", type=_options.positive, default=1, help="of its sides, likewise")
    parser.add_argument("--classes", metavar="N", type=_options.positive, help="of a classifier, likewise")
    parser.add_argument("--channels", metavar="N", type=int, choices=(1, 3), default=3, help="likewise; default: 3")
    parser.add_argument("--noise", metavar="SIGMA", type=float, default=25.0, help="restoration's; default: 25")
    parser.add_argument("--min-score", metavar="X", type=float, help="exit 1 below this mean (dB, or per cent)")
    parser.add_argument("--threads", metavar="N", type=_options.positive, default=1, help="default: 1")
    _options.output(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the scores; 1 when the mean is below --min-score."""
    from compress.errors import UsageError
    from compress.measure import through
    from compress.network import CLASSIFICATION, Network, WeightsSource
    from compress.registry import TASKS
    from compress.task import Data
    from export import formats
    from export.receptive_field import Reach

    card = _contract(args)
    session = formats.open_file(args.artifact, args.threads)
    if card.task == CLASSIFICATION and args.data is None:
        raise UsageError("a classifier alone has nothing to be compared with; give --data with labelled images")
    if card.task == CLASSIFICATION and session.input_size is None:
        raise UsageError(f"{args.artifact} states no input size; export it again")
    network = Network(
        name=card.model,
        module=None,  # type: ignore[arg-type]  # the file takes its place
        scale=card.scale,
        channels=card.channels,
        weights=WeightsSource(args.artifact, "", builtin=False),
        task=card.task,
        input_size=session.input_size,
        classes=card.classes,
        crop_share=card.crop_share,
    )
    task = TASKS[args.task or card.task](network, Data(args.data, None, args.noise))
    run = through(session, network, Reach(card.halo, card.unit))
    with _options.reporter(args).bar(f"scoring {args.artifact.name}", task.size) as update:
        scores = task.judge(run, update)
    if args.json:
        json.dump({"mean": scores.mean, "ssim": scores.ssim, **asdict(scores)}, sys.stdout)
        sys.stdout.write("\n")
    else:
        for item in scores.items:
            sys.stdout.write(f"  {item.value:6.2f} {scores.unit}  {item.name}\n")
        sys.stdout.write(f"{scores.mean:.2f} {scores.unit} mean of {task.size} images, {scores.protocol}\n")
    return 1 if args.min_score is not None and scores.mean < args.min_score else 0


def _contract(args: argparse.Namespace) -> Card:
    """What the file says of itself; for files of others the flags."""
    from compress.errors import UsageError
    from compress.network import CLASSIFICATION, RESTORATION, SUPER_RESOLUTION
    from export import formats
    from export.artifact import Card

    card = formats.read_card(args.artifact)
    if card is not None:
        if args.scale not in (None, card.scale):
            raise UsageError(f"{args.artifact} is for scale {card.scale}, --scale says {args.scale}; drop the flag")
        return card
    if args.classes is not None:
        return Card(args.artifact.stem, 1, args.channels, None, "", CLASSIFICATION, classes=args.classes)
    if args.scale is None or args.halo is None:
        raise UsageError(
            f"{args.artifact} was not written by edgepress: give --scale and --halo, or --classes for a classifier"
        )
    task = SUPER_RESOLUTION if args.scale > 1 else RESTORATION
    return Card(args.artifact.stem, args.scale, args.channels, args.halo, "", task, args.unit)
