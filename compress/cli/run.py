"""``compress run``."""

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

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "compress a network for a target: score, quantize, export, check, time, report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags; those that are not given stay None, so that a resumed run can tell."""
    _options.network(parser)
    parser.add_argument("--target", metavar="NAME", help="a device of `compress list targets`, or a profile.toml")
    parser.add_argument("--task", metavar="NAME", help="a name of `compress list tasks`; default: told by the model")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="images to score on; layouts: docs/data.md; default: built in"
    )
    parser.add_argument("--calibration", metavar="DIR", type=Path, help="images for the ranges; default: built in")
    parser.add_argument(
        "--noise", metavar="SIGMA", type=float, help="restoration: added to clean images, grey levels; default: 25"
    )
    parser.add_argument(
        "--input-size",
        metavar="HxW",
        type=_options.input_size,
        help="declared in the files and timed; default: the model's own, or the target's",
    )
    parser.add_argument("--layout", choices=("nhwc", "nchw"), help="input order of TFLite files; default: nhwc")
    parser.add_argument("--recipe", metavar="FILE", help="steps as TOML, or a built-in name; default: the target's")
    parser.add_argument("--budget", metavar="TIME", help="search a quantization policy for so long: 90s, 10m, 1h")
    parser.add_argument("--trials", metavar="N", type=_options.positive, help="search among so many policies")
    parser.add_argument(
        "--max-drop",
        metavar="X",
        type=float,
        help="search until quantization costs at most so many dB or points, and fail (exit 1) if it costs more",
    )
    parser.add_argument(
        "--format", dest="formats", metavar="NAME", action="append", help="only this format; may be repeated"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="run folder; default: runs/MODEL-TARGET, numbered")
    parser.add_argument(
        "--resume", action="store_true", help="finish the run in --out, with the options it was started with"
    )
    parser.add_argument("--seed", metavar="N", type=int, help="of the calibration crops; default: 0")
    parser.add_argument("--threads", metavar="N", type=_options.positive, help="default: the target's")
    _options.output(parser)


def execute(args: argparse.Namespace) -> int:
    """0 when the verdict passes, 1 when it fails."""
    from compress.errors import UsageError
    from compress.run_folder import RunFolder, next_free

    if args.resume and args.out is None:
        raise UsageError("--resume needs the run folder: add --out DIR")
    options = _resumed(args) if args.resume else _given(args)
    _check_names(options)
    out = args.out or next_free(Path("runs"), f"{_stem(options.model)}-{Path(options.target).stem}")
    with RunFolder(out, args.resume) as folder:
        from compress import pipeline, result
        from compress.report import table

        folder.keep_options(options)
        _options.use_threads(options.threads)
        outcome = pipeline.run(options, folder, _options.reporter(args))
    if args.json:
        json.dump(json.loads(result.to_json(outcome)), sys.stdout)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(table.summary(outcome, out) + "\n")
    return 0 if outcome.verdict.passed else 1


def _stem(model: str) -> str:
    """A folder name for a name, a file or a factory."""
    return re.sub(r"[^\w.-]+", "-", Path(model).stem if Path(model).is_file() else model)


def _values(args: argparse.Namespace) -> dict[str, object]:
    """What was given on the command line, paths made absolute so that a run can be resumed from anywhere."""
    from compress.options import Options

    given = {f.name: getattr(args, f.name) for f in fields(Options) if getattr(args, f.name) is not None}
    if "arguments" in given:
        given["arguments"] = dict(given["arguments"])
    if Path(given.get("model", "")).is_file():
        given["model"] = str(Path(given["model"]).resolve())
    return {k: v.resolve() if isinstance(v, Path) else tuple(v) if isinstance(v, list) else v for k, v in given.items()}


def _given(args: argparse.Namespace) -> Options:
    from compress.errors import UsageError
    from compress.options import Options

    values = _values(args)
    for name in ("model", "target"):
        if name not in values:
            raise UsageError(f"--{name} is missing; see `compress list {name}s`, e.g. --model span --target mobile")
    return Options(**values)  # type: ignore[arg-type]


def _resumed(args: argparse.Namespace) -> Options:
    """The options the run was started with; flags that say otherwise are an error."""
    from compress.errors import RunFolderError
    from compress.run_folder import stored_options

    options = stored_options(args.out)
    if options is None:
        return _given(args)
    other = [k for k, v in _values(args).items() if getattr(options, k) != v]
    if other:
        raise RunFolderError(
            f"{args.out} was started with another --{', --'.join(other)}; leave the flag out, or choose another --out"
        )
    return options


def _check_names(options: Options) -> None:
    """Refuse unknown names before anything is written."""
    import targets.profile
    from compress import recipe, source
    from compress.registry import TASKS
    from export import formats

    profile = targets.profile.load(options.target)
    recipe.load(options.recipe or profile.deploy.recipe)
    for name in options.formats:
        formats.by_name(name)
    if options.task is not None:
        TASKS[options.task]
    source.kind_of(options.model)
