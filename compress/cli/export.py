"""``compress export``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from compress.cli import _options

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "write one file of a network, without measuring it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    _options.network(parser)
    parser.add_argument("--format", metavar="NAME", required=True, help="a format of `compress list formats`")
    parser.add_argument(
        "--recipe", metavar="FILE", help="steps as TOML or a built-in name; default: int8, or tables for a .lut file"
    )
    parser.add_argument("--calibration", metavar="DIR", type=Path, help="images for the ranges; default: built in")
    parser.add_argument(
        "--input-size",
        metavar="HxW",
        type=_options.input_size,
        help="declared in the file, for models of any size; default: 180x320",
    )
    parser.add_argument(
        "--layout", choices=("nhwc", "nchw"), default="nhwc", help="input order of TFLite files; default: nhwc"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="where the file goes; default: here")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the calibration crops")
    _options.output(parser)


def execute(args: argparse.Namespace) -> int:
    """Write the file and print what it is."""
    from compress import pipeline, recipe, source
    from compress.options import Options
    from compress.registry import TASKS
    from compress.task import Data
    from export import formats

    request = _options.request(args)
    formats.by_name(args.format)
    steps = recipe.load(args.recipe) if args.recipe else None
    network = source.resolve(request)
    steps = steps or recipe.load("int8" if network.tables is None else "tables")
    task = TASKS[network.task](network, Data(calibration=args.calibration))
    reach = pipeline.reach_of(network)
    size = pipeline.input_size_of(network, reach, args.input_size)
    options = Options(args.model, target="", seed=args.seed, layout=args.layout)
    with _options.reporter(args).bar(f"writing {args.format}", 1) as update:
        spec = pipeline.specs_of(steps.apply(network, task), task, reach, size, options)[-1]
        artifact = pipeline.write_one(spec, args.format, args.out)
        update(1)
    if args.json:
        json.dump({"files": artifact.files, "sha256": artifact.sha256, "file_bytes": artifact.file_bytes}, sys.stdout)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(f"{args.out / artifact.files[0]}  {artifact.file_bytes / 1024:.0f} KiB, {artifact.dtype}\n")
    return 0
