"""``compress targets``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "target profiles, and how well latency on devices is predicted: show, judge, fit"


_HOST = Path.home() / ".cache" / "edgepress" / "host-latency.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print a profile")
    show.add_argument("name", help="a name of `compress list targets`, or a profile.toml")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(act=_show)
    judge = actions.add_parser("judge", help="how well each latency model predicts networks that it has not seen")
    judge.add_argument("--models", type=Path, help="a file of latency models (default: the built-in ones)")
    judge.set_defaults(act=_judge)
    fit = actions.add_parser("fit", help="measure small networks here and fit latency models of this machine")
    fit.add_argument("--host", action="store_true", required=True, help="this machine (the only one so far)")
    fit.add_argument("--formats", nargs="+", default=["tflite", "onnx", "openvino"], help="what to time")
    fit.add_argument("--threads", type=int, default=1, help="of each runtime (default: 1)")
    fit.add_argument("--networks", type=int, help="time only the first so many (default: all)")
    fit.add_argument("--out", type=Path, default=_HOST, help=f"where the models go (default: {_HOST})")
    fit.set_defaults(act=_fit)


def execute(args: argparse.Namespace) -> int:
    """Run the action."""
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


def _fit(args: argparse.Namespace) -> int:
    import json

    from compress.host_latency import fit_host, plans
    from compress.progress import Reporter
    from export import formats

    for name in args.formats:
        formats.by_name(name)
    journal = args.out.with_suffix(".jsonl")
    found = fit_host(journal, plans()[: args.networks], args.formats, args.threads, Reporter())
    part = args.out.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n")
    part.replace(args.out)
    sys.stdout.write(f"{args.out}\n")
    args.models = args.out
    return _judge(args)


def _judge(args: argparse.Namespace) -> int:
    from targets import latency

    book = latency.read(args.models) if args.models else latency.built_in()
    data = ", ".join(f"{name} (sha256 {sha[:12]})" for name, sha in book.data.items())
    lines = [f"fitted {book.date} by `{book.command}` from {data}; every network predicted without itself"]
    head = f"{'device / runtime / dtype':56}{'nets':>5}{'median error':>14}{'+-10 %':>8}{'+-20 %':>8}"
    lines.append(f"{head}{'Spearman':>10}{'90 % interval holds':>21}")
    for model in book.models:
        score = model.judged
        holds = score["coverage"]
        lines.append(
            f"{model.device + ' / ' + model.runtime + ' / ' + model.dtype:56}{score['networks']:5.0f}"
            f"{score['median_error']:14.1%}{score['within_10']:8.0%}{score['within_20']:8.0%}{score['spearman']:10.3f}"
            f"{'too few networks' if holds is None else format(holds, '.0%'):>21}"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _show(args: argparse.Namespace) -> int:
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
