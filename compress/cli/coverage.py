"""``compress coverage``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compress.cli import _options

if TYPE_CHECKING:
    from compress.coverage import Entry

__all__ = ["HELP", "TIMM", "add_arguments", "execute"]

HELP = "try every network in every format: how far each gets, and why no further"

TIMM = (
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "efficientnet_lite0",
    "efficientnet_b0",
    "mnasnet_100",
    "fbnetc_100",
    "ghostnet_100",
    "lcnet_050",
    "tinynet_e",
    "mobileone_s0",
    "repvgg_a0",
    "repghostnet_050",
    "resnet18",
    "regnetx_002",
    "regnety_002",
    "densenet121",
    "convnext_atto",
    "edgenext_xx_small",
    "mobilevit_xxs",
    "efficientformer_l1",
    "fastvit_t8",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "poolformer_s12",
    "starnet_s1",
)
"""Classifiers that people take to devices, one of each line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("networks", metavar="NAME", nargs="*", help="only these; default: all")
    parser.add_argument("--kind", choices=("zoo", "spandrel", "timm"), action="append", help="only this kind")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/coverage"), help="default: runs/coverage")
    parser.add_argument("--seconds", metavar="N", type=float, default=900.0, help="for each network; default: 900")
    parser.add_argument("--jobs", metavar="N", type=_options.positive, default=1, help="at a time; default: 1")
    parser.add_argument("--min-share", metavar="X", type=float, help="exit 1 where less than this part is covered")
    parser.add_argument("--from-rows", action="store_true", help="no new tries: write the tables of what is there")
    _options.output(parser)


def execute(args: argparse.Namespace) -> int:
    """0, or 1 when fewer networks than --min-share asks for are covered."""
    import pydantic

    from compress import coverage
    from compress.report import coverage as tables
    from export.files import atomic_write

    entries = _chosen(args)
    if args.from_rows:
        rows = coverage.stored(entries, args.out)
    else:
        rows = coverage.cover(entries, args.out, args.seconds, args.jobs, _options.reporter(args))
    raw = pydantic.TypeAdapter(list[coverage.Row]).dump_json(rows, indent=1)
    atomic_write(args.out / "coverage.json", raw)
    atomic_write(args.out / "coverage.md", tables.markdown(rows))
    atomic_write(args.out / "coverage.html", tables.html(rows, _versions()))
    sys.stdout.write(raw.decode() + "\n" if args.json else f"{tables.text(rows)}\n{args.out / 'coverage.html'}\n")
    return 1 if args.min_share is not None and coverage.share(rows) < args.min_share else 0


def _versions() -> list[tuple[str, str]]:
    from importlib import metadata

    names = ("edgepress", "torch", "onnxruntime", "openvino", "ai-edge-litert", "ai-edge-quantizer", "spandrel", "timm")
    found = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    return [(name, found[name]) for name in names if name in found]


def _chosen(args: argparse.Namespace) -> list[Entry]:
    from compress.errors import UsageError, nearest

    everything = _everything()
    names = [entry.name for entry in everything]
    for name in args.networks:
        if name not in names:
            raise UsageError(f"unknown network {name!r}; {nearest(name, names)}")
    return [
        entry
        for entry in everything
        if (not args.networks or entry.name in args.networks) and (not args.kind or entry.kind in args.kind)
    ]


def _everything() -> list[Entry]:
    from compress.coverage import Entry
    from compress.registry import MODELS
    from compress.spandrel_families import FAMILIES

    return [
        *(Entry(name, "zoo", name) for name in MODELS),
        *(Entry(member.name, "spandrel", member.name) for member in FAMILIES),
        *(Entry(f"timm:{name}", "timm", f"timm:{name}") for name in TIMM),
    ]
