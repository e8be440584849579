"""``compress pack``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "make a file of pruned weights small; `compress unpack` gives back every byte"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a .safetensors, .onnx or .tflite file")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: FILE.packed")
    parser.add_argument("--json", action="store_true", help="print the sizes as JSON on stdout, nothing else")


def execute(args: argparse.Namespace) -> int:
    """Write the packed file, and say how small it is beside what its entropy allows."""
    from compress.errors import UsageError
    from export.files import atomic_write
    from export.packing.container import SUFFIX, pack, unpack
    from export.packing.regions import regions_of

    if not args.file.is_file():
        raise UsageError(f"{args.file}: no such file; give a .safetensors, .onnx or .tflite file")
    out = args.out or args.file.with_name(args.file.name + SUFFIX)
    if out.exists():
        raise UsageError(f"{out} is there already; remove it, or choose another --out")
    data = args.file.read_bytes()
    packed, summary = pack(data, regions_of(args.file, data))
    unpack(packed, str(out))
    atomic_write(out, packed)
    each = {"bytes_per_nonzero": summary.bytes_per_nonzero, "bound_per_nonzero": summary.bound_per_nonzero}
    if args.json:
        json.dump({"file": str(out), **asdict(summary), **each}, sys.stdout)
        sys.stdout.write("\n")
        return 0
    share = 100 * (1 - summary.nonzeros / max(1, summary.numbers))
    sys.stdout.write(
        f"{out}: {summary.packed_bytes} bytes, from {summary.file_bytes}\n"
        f"  {summary.nonzeros} of {summary.numbers} numbers are not zero ({share:.1f} % are); each takes "
        f"{summary.bytes_per_nonzero:.2f} bytes: {summary.position_bytes} for the places, {summary.value_bytes} for "
        f"the values\n"
        f"  coded one by one, each would take at least {summary.bound_per_nonzero:.2f} bytes (entropy)\n"
    )
    if summary.minus_zeros:
        sys.stdout.write(
            f"  {summary.minus_zeros} of them are minus zero, as weights times a mask leave it; + 0.0 makes it zero\n"
        )
    return 0
