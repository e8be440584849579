"""``compress train``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compress.cli import _options

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "train a network from scratch, with or without a teacher"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--recipe", metavar="FILE", type=Path, required=True, help="settings as TOML, see examples/")
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        action="append",
        required=True,
        help="HR images (may be repeated), or one labelled folder for a classifier",
    )
    parser.add_argument("--teacher", metavar="MODEL", help="to learn from: whatever --model of `compress run` takes")
    parser.add_argument("--teacher-weights", metavar="FILE", type=Path, help="its checkpoint; default: built in")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="takes the checkpoint, the log, the weights"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--threads", metavar="N", type=_options.positive, help="default: all cores")
    parser.add_argument("--quiet", action="store_true", help="no progress, only results and errors")


def execute(args: argparse.Namespace) -> int:
    """Train, and print where the weights are."""
    from compress import train
    from compress.errors import UsageError
    from compress.progress import Reporter
    from compress.source import Request, resolve

    recipe = train.load_recipe(args.recipe)
    if args.teacher_weights and not args.teacher:
        raise UsageError("--teacher-weights without --teacher; name the teacher, e.g. --teacher span")
    _options.use_threads(args.threads)
    teacher = resolve(Request(args.teacher, args.teacher_weights)) if args.teacher else None
    weights = train.train(recipe, args.data, args.out, teacher, args.resume, Reporter(args.quiet))
    sys.stdout.write(f"{weights}\n")
    return 0
