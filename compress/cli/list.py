"""``compress list``."""

from __future__ import annotations

import argparse
import json
import sys

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "what there is: models, tasks, methods, formats, targets, recipes"


def _models() -> dict[str, str]:
    from compress.registry import MODELS

    return {name: MODELS.summary(name) for name in MODELS}


def _tasks() -> dict[str, str]:
    from compress.registry import TASKS

    return {name: TASKS.summary(name) for name in TASKS}


def _methods() -> dict[str, str]:
    from compress.registry import METHODS

    return {name: METHODS.summary(name) for name in METHODS}


def _formats() -> dict[str, str]:
    from export import formats

    return {
        name: (formats.by_name(name).__doc__ or "").strip().split("\n", 1)[0] for name in formats.names(tables=True)
    }


def _targets() -> dict[str, str]:
    from targets import profile

    return {name: profile.load(name).title for name in profile.names()}


def _recipes() -> dict[str, str]:
    from compress import recipe

    return {name: recipe.summary(name) for name in recipe.names()}


_KINDS = {
    "models": _models,
    "tasks": _tasks,
    "methods": _methods,
    "formats": _formats,
    "targets": _targets,
    "recipes": _recipes,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("kind", choices=list(_KINDS))
    parser.add_argument("--json", action="store_true", help="as a JSON object, name to description")


def execute(args: argparse.Namespace) -> int:
    """Print the names and what each is."""
    found = _KINDS[args.kind]()
    if args.json:
        json.dump(found, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return 0
    width = max((len(name) for name in found), default=0)
    for name, text in found.items():
        sys.stdout.write(f"{name.ljust(width)}  {text}\n")
    return 0
