"""``compress gate``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "hold a finished run against a baseline; for continuous integration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--baseline", metavar="FILE", type=Path, help="compare with this baseline")
    mode.add_argument("--write-baseline", metavar="FILE", type=Path, help="make a baseline of this run")
    parser.add_argument("--json", action="store_true", help="findings as JSON on stdout")


def execute(args: argparse.Namespace) -> int:
    """0 no regression, 1 regression, 2 not comparable."""
    from compress import gate, result

    found = result.load(args.run)
    if args.write_baseline is not None:
        gate.write_baseline(found, args.write_baseline)
        sys.stdout.write(f"{args.write_baseline}: baseline of {len(found.files)} files\n")
        return 0
    findings = gate.compare(found, gate.load_baseline(args.baseline))
    if args.json:
        json.dump([finding.to_dict() for finding in findings], sys.stdout)
        sys.stdout.write("\n")
    else:
        for finding in findings:
            sys.stdout.write(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.text}\n")
    return 0 if all(finding.passed for finding in findings) else 1
