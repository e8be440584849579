"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compress.errors import UsageError
from compress.progress import Reporter

if TYPE_CHECKING:
    from compress.source import Request

__all__ = [
    "input_size",
    "key_value",
    "network",
    "output",
    "positive",
    "reporter",
    "request",
    "use_threads",
    "weights",
]


def positive(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return value


def input_size(text: str) -> tuple[int, int]:
    """``HxW``, e.g. ``180x320``."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() and int(p) >= 8 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no HEIGHTxWIDTH of at least 8x8, such as 180x320")
    return int(parts[0]), int(parts[1])


def network(parser: argparse.ArgumentParser) -> None:
    """--model, --weights, --scale, --random, --model-arg."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a name of `compress list models`, a checkpoint (.pth, .safetensors), an .onnx or .lut file, timm:NAME, "
        "or package.module:factory",
    )
    weights(parser)


def weights(parser: argparse.ArgumentParser) -> None:
    """--weights, --scale, --random, --model-arg."""
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="checkpoint (.safetensors, .pth); default: built in"
    )
    parser.add_argument("--scale", metavar="N", type=positive, help="enlargement; default: that of the weights")
    parser.add_argument(
        "--random", action="store_const", const=True, help="random values, to look at speed, size and operators"
    )
    parser.add_argument(
        "--model-arg",
        dest="arguments",
        metavar="KEY=VALUE",
        action="append",
        type=key_value,
        help="for the factory, timm, or a fresh network; may be repeated",
    )


def key_value(text: str) -> tuple[str, str]:
    """``key=value``."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is no KEY=VALUE, such as width=32")
    return key, value


def request(args: argparse.Namespace) -> Request:
    """What the flags of :func:`network` say."""
    from compress.source import Request

    if args.model is None:
        raise UsageError("--model is missing; see `compress list models`")
    return Request(args.model, args.weights, args.scale, bool(args.random), dict(args.arguments or ()))


def output(parser: argparse.ArgumentParser) -> None:
    """--json, --quiet."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout, nothing else")
    parser.add_argument("--quiet", action="store_true", help="no progress, only results and errors")


def reporter(args: argparse.Namespace) -> Reporter:
    """Progress as the flags ask for."""
    return Reporter(quiet=args.quiet or args.json)


def use_threads(threads: int | None) -> None:
    """Let torch use as many threads as asked for, or as there are cores."""
    import torch

    from export import timing

    cores = timing.cores()
    if threads is not None and threads > 4 * cores:
        raise UsageError(f"--threads {threads}: this machine has {cores} cores; give at most {4 * cores}")
    torch.set_num_threads(threads or cores)
