"""``compress search``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from compress.cli import _options

if TYPE_CHECKING:
    from compress.options import Options
    from compress.study_question import Place, Question
    from search.trial import Budget

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "search quantization policies for a network, alone or with other workers"

_PAGE = "search.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands and their flags."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    about = "search how to quantize a network; every policy is written, run and scored in the real runtime"
    quantization = actions.add_parser("quantization", help=about, description=about)
    _network(quantization)
    _study(quantization)
    quantization.add_argument("--trials", metavar="N", type=_options.positive, help="of the whole study")
    quantization.add_argument("--budget", metavar="TIME", help="of this call: 90s, 10m, 1h; default: 10m, or --trials")
    quantization.add_argument("--storage", metavar="URL", help="path or postgresql://...; default: in --out")
    quantization.add_argument("--study", metavar="NAME", help="default: quantization-FORMAT")
    quantization.add_argument("--out", metavar="DIR", type=Path, help="default: runs/search-MODEL-FORMAT")
    _options.output(quantization)
    quantization.set_defaults(action=_quantization)
    about = "help with a study that `compress search quantization` began elsewhere"
    worker = actions.add_parser("worker", help=about, description=about)
    worker.add_argument("--study", metavar="NAME", required=True, help="its name")
    worker.add_argument("--storage", metavar="URL", required=True, help="where it lives")
    worker.add_argument("--out", metavar="DIR", type=Path, required=True, help="this worker's own folder")
    worker.add_argument("--trials", metavar="N", type=_options.positive, help="of the whole study")
    worker.add_argument("--budget", metavar="TIME", help="of this call; default: 10m, or --trials")
    _options.output(worker)
    worker.set_defaults(action=_worker)


def _network(parser: argparse.ArgumentParser) -> None:
    _options.network(parser)
    parser.add_argument("--target", metavar="NAME", help="a device, for its format, recipe and input size")
    parser.add_argument("--task", metavar="NAME", help="default: told by the model")
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        type=Path,
        help="images: every fourth is held out and scored, the others set the ranges; default: built in",
    )
    parser.add_argument("--format", metavar="NAME", help="tflite, onnx or openvino; default: the target's, or tflite")
    parser.add_argument("--recipe", metavar="FILE", help="what is done before; default: the target's, or int8")
    parser.add_argument("--input-size", metavar="HxW", type=_options.input_size, help="declared in the files")
    parser.add_argument("--seed", metavar="N", type=int, help="of the sampler and the calibration crops; default: 0")
    parser.add_argument("--threads", metavar="N", type=_options.positive, help="of the runtime; default: 1")


def _study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sampler", metavar="NAME", default="auto", help="auto, quantune, rank-prior, simq, random, grid, tpe, nsga2"
    )
    parser.add_argument(
        "--objectives",
        metavar="A,B",
        default="score",
        help="of score, bytes, latency, the first decides; default: score",
    )


def execute(args: argparse.Namespace) -> int:
    """0: something was measured."""
    code: int = args.action(args)
    return code


def _quantization(args: argparse.Namespace) -> int:
    from compress import policy_search
    from compress.report import search as report
    from export.files import atomic_write

    question = _question(args)
    place = _place(args, question)
    _options.use_threads(args.threads)
    found = policy_search.begin(question, place, _budget(args), _options.reporter(args))
    page = place.out / _PAGE
    atomic_write(page, report.html(found))
    if args.json:
        json.dump({**policy_search.to_json(found), "page": str(page)}, sys.stdout)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(f"{report.text(found)}\n\nrecipe: {place.out / 'recipe.toml'}\npage: {page}\n")
    return 0


def _worker(args: argparse.Namespace) -> int:
    from compress import policies, policy_search
    from compress.study_question import Place

    place = Place(args.study, _storage(args.storage), args.out)
    outcome = policy_search.join(place, _budget(args), _options.reporter(args))
    best = outcome.best
    if args.json:
        json.dump(outcome.to_json(), sys.stdout)
        sys.stdout.write("\n")
    else:
        words = policies.in_words(best.candidate)
        sys.stdout.write(f"{len(outcome.trials)} trials; best {best.values['score']:.3f}: {words}\n")
    return 0


def _storage(text: str) -> str:
    return text if "://" in text else str(Path(text).resolve())


def _place(args: argparse.Namespace, question: Question) -> Place:
    from compress.study_question import Place

    model = Path(args.model).stem if Path(args.model).is_file() else args.model
    out = args.out or Path("runs") / re.sub(r"[^\w.-]+", "-", f"search-{model}-{question.format}")
    storage = _storage(args.storage) if args.storage else str((out / "search.journal").resolve())
    return Place(args.study or f"quantization-{question.format}", storage, out)


def _budget(args: argparse.Namespace) -> Budget:
    from compress.options import seconds_of
    from compress.studies import told
    from search.trial import Budget

    with told():
        if args.budget is None:
            return Budget(args.trials, None if args.trials else 600.0)
        return Budget(args.trials, seconds_of(args.budget))


def _question(args: argparse.Namespace) -> Question:
    """What was asked, the target's choices filled in."""
    import targets.profile
    from compress import recipe
    from compress.errors import UsageError
    from compress.study_question import Question

    options = _given(args)
    profile = targets.profile.load(options.target) if options.target else None
    name = args.recipe or (profile.deploy.recipe if profile else "int8")
    objectives = tuple(part.strip() for part in args.objectives.split(",") if part.strip())
    if "score" not in objectives or len(set(objectives)) < len(objectives):
        raise UsageError(f"--objectives {args.objectives}: expected score, and bytes or latency with it, each once")
    return Question(
        options,
        args.format or (profile.deploy.format if profile else "tflite"),
        recipe.load(name).to_toml(),
        objectives,
        args.sampler.replace("-", "_"),
    )


def _given(args: argparse.Namespace) -> Options:
    """The options of a run that say something of the network and its images, paths made absolute."""
    import targets.profile
    from compress.errors import UsageError
    from compress.options import Options

    if args.model is None:
        raise UsageError("--model is missing; see `compress list models`")
    names = {f.name for f in fields(Options)} & set(vars(args)) - {"budget", "trials", "recipe"}
    values = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "arguments" in values:
        values["arguments"] = dict(values["arguments"])
    if Path(values["model"]).is_file():
        values["model"] = str(Path(values["model"]).resolve())
    values = {k: v.resolve() if isinstance(v, Path) else v for k, v in values.items()}
    values.setdefault("target", "")
    if values["target"] and "input_size" not in values:
        profile = targets.profile.load(values["target"])
        values["input_size"] = (profile.input.height, profile.input.width)
    return Options(**values)
