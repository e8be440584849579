"""``compress validate``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from compress.cli import _options

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "score a file through its own runtime"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="a .tflite, .onnx or .xml file")
    parser.add_argument("--task", metavar="NAME", default="super-resolution", help="default: super-resolution")
    parser.add_argument("--data", metavar="DIR", type=Path, help="as for `compress run`; default: built in")
    parser.add_argument("--scale", metavar="N", type=_options.positive, help="for files that do not say their own")
    parser.add_argument("--halo", metavar="N", type=_options.positive, help="receptive-field radius, likewise")
    parser.add_argument("--min-psnr", metavar="DB", type=float, help="exit 1 below this mean PSNR")
    parser.add_argument("--threads", metavar="N", type=_options.positive, default=1, help="default: 1")
    _options.output(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the scores; 1 when the mean is below --min-psnr."""
    from compress.task import TASKS
    from export import formats, tiling

    scale, halo = _contract(args)
    task = TASKS[args.task](scale, args.data, None)
    session = formats.open_file(args.artifact, args.threads)
    with _options.reporter(args).bar(f"scoring {args.artifact.name}", len(task.evaluation)) as update:
        scores = task.judge(lambda image: tiling.enlarge(session, image, scale, halo), update)
    if args.json:
        json.dump({"psnr": scores.psnr, "ssim": scores.ssim, **asdict(scores)}, sys.stdout)
        sys.stdout.write("\n")
    else:
        for image in scores.images:
            sys.stdout.write(f"  {image.psnr:6.2f} dB  {image.name}\n")
        sys.stdout.write(f"{scores.psnr:.2f} dB mean of {len(scores.images)} images, {scores.protocol}\n")
    return 1 if args.min_psnr is not None and scores.psnr < args.min_psnr else 0


def _contract(args: argparse.Namespace) -> tuple[int, int | None]:
    """Scale and halo: the file's own word, else the flags."""
    from compress.errors import UsageError
    from export import formats

    card = formats.read_card(args.artifact)
    if card is None:
        if args.scale is None or args.halo is None:
            raise UsageError(f"{args.artifact} was not written by edgepress: give --scale and --halo")
        return args.scale, args.halo
    if args.scale not in (None, card.scale):
        raise UsageError(f"{args.artifact} is for scale {card.scale}, --scale says {args.scale}; drop the flag")
    return card.scale, card.halo
