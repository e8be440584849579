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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("model", metavar="MODEL", help="as for `compress run --model`")
    _options.weights(parser)
    parser.add_argument(
        "--input-size",
        metavar="HxW",
        type=_options.input_size,
        help="that MACs and activations are for; default: the model's own, or 256x256",
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument(
        "--format", dest="formats", metavar="NAME", action="append", help="try only this one; may be repeated"
    )
    formats.add_argument("--no-export", action="store_true", help="try no format: done in seconds")
    parser.add_argument(
        "--out",
        metavar="PATH",
        type=Path,
        help=f"the page (.html), or a folder for {_PAGE}; default: here, or with --json no page",
    )
    _options.output(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the diagnosis and write the page."""
    from compress import diagnose, source
    from compress.report import diagnosis
    from export import formats
    from export.files import atomic_write

    request = _options.request(args)
    wanted = [] if args.no_export else args.formats or formats.names()
    for name in args.formats or ():
        formats.by_name(name)
    page = _page(args)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
    network = source.resolve(request)
    found = diagnose.diagnose(network, args.input_size, wanted, _options.reporter(args))
    if page is not None:
        atomic_write(page, diagnosis.html(found))
    if args.json:
        json.dump(json.loads(diagnose.to_json(found)), sys.stdout)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(f"{diagnosis.text(found)}\n\npage: {page}\n")
    return 0


def _page(args: argparse.Namespace) -> Path | None:
    """Where the page goes; None: nowhere."""
    if args.out is None:
        return None if args.json else Path(_PAGE)
    out: Path = args.out
    return out if out.suffix == ".html" else out / _PAGE
