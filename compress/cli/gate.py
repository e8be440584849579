"""``compress gate``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compress.gate import Finding

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "hold a finished run against a baseline; for continuous integration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--baseline", metavar="FILE", type=Path, help="compare with this baseline")
    mode.add_argument("--write-baseline", metavar="FILE", type=Path, help="make a baseline of this run")
    parser.add_argument("--json", action="store_true", help="findings as JSON on stdout")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="also write the findings as JUnit XML")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write them as a Markdown table")
    parser.add_argument(
        "--github", action="store_true", help="annotate failures; the default where GITHUB_ACTIONS is true"
    )


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
    _report(args, findings)
    return 0 if all(finding.passed for finding in findings) else 1


def _report(args: argparse.Namespace, findings: Sequence[Finding]) -> None:
    """The findings for other programs."""
    from compress import gate_output
    from export.files import atomic_write

    if args.junit is not None:
        atomic_write(args.junit, gate_output.junit(findings, f"compress gate {args.run}"))
    if args.markdown is not None:
        atomic_write(args.markdown, gate_output.markdown(findings))
    if args.github or os.environ.get("GITHUB_ACTIONS") == "true":
        stream = sys.stderr if args.json else sys.stdout  # the runner reads both; JSON stays alone on its own
        stream.write(gate_output.github(findings))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:  # other steps write there too
            file.write(gate_output.markdown(findings))
