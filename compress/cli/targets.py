"""``compress targets``."""

from __future__ import annotations

import argparse
import sys

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "show a target profile: what the device allows, and where each number comes from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print a profile")
    show.add_argument("name", help="a name of `compress list targets`, or a profile.toml")
    show.add_argument("--json", action="store_true", help="as JSON")


def execute(args: argparse.Namespace) -> int:
    """Print the profile."""
    from targets import profile

    chosen = profile.load(args.name)
    text = chosen.model_dump_json(indent=1) if args.json else _text(chosen)
    sys.stdout.write(text + "\n")
    return 0


def _text(chosen: object) -> str:
    import tomli_w

    from targets.profile import TargetProfile

    if not isinstance(chosen, TargetProfile):
        raise TypeError(f"expected a TargetProfile, got {type(chosen).__name__}")
    return tomli_w.dumps(chosen.model_dump(mode="python", exclude_none=True)).rstrip()
