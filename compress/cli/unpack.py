"""``compress unpack``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "the file that `compress pack` was given, to the last byte"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a .packed file")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: FILE without .packed")


def execute(args: argparse.Namespace) -> int:
    """Write the file as it was."""
    from compress.errors import UsageError
    from export.files import atomic_write
    from export.packing.container import SUFFIX, unpack

    if not args.file.is_file():
        raise UsageError(f"{args.file}: no such file; give a file of `compress pack`")
    if args.out is None and args.file.suffix != SUFFIX:
        raise UsageError(f"{args.file}: the name does not end in {SUFFIX}; name the file with --out")
    out = args.out or args.file.with_suffix("")
    if out.exists():
        raise UsageError(f"{out} is there already; remove it, or choose another --out")
    data = unpack(args.file.read_bytes(), str(args.file))
    atomic_write(out, data)
    sys.stdout.write(f"{out}: {len(data)} bytes, SHA-256 as packed\n")
    return 0
