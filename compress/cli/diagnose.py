"""``compress diagnose``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from compress.cli import _options

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "look at a network: cost of every layer, health of its kernels, which formats take it"

_PAGE = "diagnose.html"
_LOSSES = "quantization.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("model", metavar="MODEL", help="as for `compress run --model`")
    _options.weights(parser)
    parser.add_argument(
        "--input-size",
        metavar="HxW",
        type=_options.input_size,
        help="that MACs and activations are for; default: the model's own, or 256x256 (with --quantization: 180x320)",
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument(
        "--format", dest="formats", metavar="NAME", action="append", help="try only this one; may be repeated"
    )
    formats.add_argument("--no-export", action="store_true", help="try no format: done in seconds")
    parser.add_argument(
        "--quantization",
        action="store_true",
        help="what int8 costs in --format (tflite), which tensors are to blame, and what helps, measured",
    )
    parser.add_argument("--calibration", metavar="DIR", type=Path, help="images for --quantization; default: built in")
    parser.add_argument(
        "--out",
        metavar="PATH",
        type=Path,
        help=f"the page (.html), or a folder for {_PAGE}; default: here, or with --json no page",
    )
    _options.output(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the diagnosis and write the page."""
    if args.quantization:
        return _quantization(args)
    from compress import diagnose, source
    from compress.errors import UsageError
    from compress.report import diagnosis
    from export import formats
    from export.files import atomic_write

    if args.calibration is not None:
        raise UsageError("--calibration is for --quantization; add that flag")
    request = _options.request(args)
    for name in args.formats or ():
        formats.by_name(name)
    page = _page(args, _PAGE)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
    network = source.resolve(request)
    wanted = [] if args.no_export else args.formats or formats.names(tables=network.tables is not None)
    found = diagnose.diagnose(network, args.input_size, wanted, _options.reporter(args))
    if page is not None:
        atomic_write(page, diagnosis.html(found))
    if args.json:
        json.dump(json.loads(diagnose.to_json(found)), sys.stdout)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(f"{diagnosis.text(found)}\n\npage: {page}\n")
    return 0


def _quantization(args: argparse.Namespace) -> int:
    """Print what quantization costs and write the page."""
    import tempfile

    from compress import quantization, source
    from compress.errors import UsageError
    from compress.options import Options
    from compress.report import quantization as report
    from export import formats
    from export.files import atomic_write

    wanted = args.formats or ["tflite"]
    if args.no_export or len(wanted) > 1:
        raise UsageError("--quantization looks at the files of one format; give one --format, and no --no-export")
    formats.by_name(wanted[0])
    page = _page(args, _LOSSES)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
    options = Options(args.model, target="", calibration=args.calibration, input_size=args.input_size)
    network = source.resolve(_options.request(args))
    with tempfile.TemporaryDirectory() as folder:
        found = quantization.examine(network, wanted[0], options, Path(folder), _options.reporter(args))
        if page is not None:
            atomic_write(page, report.html(found))
    if args.json:
        json.dump(json.loads(quantization.to_json(found.losses)), sys.stdout)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(f"{report.text(found.losses)}\n\npage: {page}\n")
    return 0


def _page(args: argparse.Namespace, name: str) -> Path | None:
    """Where the page goes; None: nowhere."""
    if args.out is None:
        return None if args.json else Path(name)
    out: Path = args.out
    return out if out.suffix == ".html" else out / name
