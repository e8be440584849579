"""``compress lut``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "networks of look-up tables: import published ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    load = actions.add_parser("import", help="read published tables of SR-LUT, MuLUT or ShiftLUT into one file of ours")
    load.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="one .npy of SR-LUT, all of a MuLUT, or the folder of a ShiftLUT",
    )
    load.add_argument("--pattern", metavar="NAME", help="of a single table; default: by its size")
    load.add_argument("--name", metavar="NAME", help="of the network; default: the file's")
    load.add_argument("--out", metavar="FILE", type=Path, help="default: NAME.lut here")
    load.set_defaults(act=_load)
    load.add_argument("--json", action="store_true", help="print the result as JSON on stdout, nothing else")


def execute(args: argparse.Namespace) -> int:
    """Do what the action says."""
    done: int = args.act(args)
    return done


def _load(args: argparse.Namespace) -> int:
    """Write the file and print what it is."""
    from compress import published_folders, published_tables
    from compress.errors import UsageError
    from export.artifact import Card
    from export.lut import container
    from export.lut.network import Tables

    name = args.name or args.files[0].stem
    out = args.out or Path(f"{name}{container.SUFFIX}")
    if out.suffix != container.SUFFIX:
        raise UsageError(f"--out {out}: expected a name that ends in {container.SUFFIX}")
    network: Tables
    if len(args.files) == 1 and args.files[0].is_dir():
        if args.pattern:
            raise UsageError(f"--pattern {args.pattern}: a folder of one-dimensional tables has none; leave it out")
        network = published_folders.load(args.files[0], name)
    else:
        network = published_tables.load(args.files, name, args.pattern)
    container.write(network, out, Card(name, network.scale, 3, network.halo, "int8"))
    if args.json:
        about = {
            "file": str(out),
            "scale": network.scale,
            "table_bytes": network.table_bytes,
            "lookups": network.lookups,
        }
        json.dump(about, sys.stdout)
        sys.stdout.write("\n")
    else:
        size = network.table_bytes / 1024
        sys.stdout.write(
            f"{out}: x{network.scale}, {size:.0f} KiB of tables, {network.lookups} look-ups for each pixel\n"
        )
    return 0
