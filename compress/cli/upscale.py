"""``compress upscale``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compress.cli import _options

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "enlarge pictures or raw video with a file of ours"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("given", metavar="IN", help="an image, a folder, a .y4m video, or - for a video on stdin")
    parser.add_argument("out", metavar="OUT", help="a .png, a folder, a .y4m, or - for a video on stdout")
    parser.add_argument(
        "--model", metavar="FILE", type=Path, required=True, help="a .tflite, .onnx, .xml, .lut or .c file"
    )
    parser.add_argument("--threads", metavar="N", type=_options.positive, help="default: all cores")
    parser.add_argument("--quiet", action="store_true", help="no progress, only results and errors")


def execute(args: argparse.Namespace) -> int:
    """Enlarge, and say how much was done on stderr."""
    from compress import upscale
    from compress.errors import UsageError
    from compress.progress import Reporter
    from export import timing

    reporter = Reporter(args.quiet)
    moving = [name == "-" or name.endswith(".y4m") for name in (args.given, args.out)]
    if moving[0] != moving[1]:
        raise UsageError(f"{args.given} to {args.out}: video goes to a .y4m file or to -, pictures to .png or a folder")
    if args.given != "-" and not Path(args.given).exists():
        raise UsageError(f"{args.given}: no such file or folder")
    enlarger = upscale.opened(args.model, args.threads or timing.cores())
    if not moving[0]:
        made = upscale.pictures(enlarger, Path(args.given), Path(args.out), reporter)
        reporter.line(f"{len(made)} images, {made[-1]}")
        return 0
    out = sys.stdout.buffer if args.out == "-" else Path(args.out)
    if args.given == "-":
        count = upscale.film(enlarger, sys.stdin.buffer, out, reporter)
    else:
        with Path(args.given).open("rb") as stream:
            count = upscale.film(enlarger, stream, out, reporter)
    reporter.line(f"{count} frames")
    return 0
