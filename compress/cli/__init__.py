"""The ``compress`` command: one module a sub-command, found by its file name.

Exit codes: 0 done and passed; 1 the verdict or the gate failed; 2 a flag, an input or a file that cannot be
used; 3 the machine (disk full, read-only, a missing package); 130 interrupted, go on with ``--resume``.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from compress import __version__
from targets.errors import EdgepressError

__all__ = ["main"]

_CURES = {
    errno.ENOSPC: "the disk is full; free some space, then repeat the command with --resume",
    errno.EDQUOT: "the disk quota is used up; free some space, then repeat the command with --resume",
    errno.EROFS: "the file system is read-only; choose another --out",
    errno.EACCES: "permission denied; choose another --out or mend the permissions",
    errno.EPERM: "operation not permitted; choose another --out or mend the permissions",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another --out",
}


def _commands() -> dict[str, ModuleType]:
    """The modules of this package that are commands, by name."""
    found = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in found}
    return {name.replace("_", "-"): module for name, module in modules.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compress",
        description="From a trained vision network to a checked, fast file on a device.",
        epilog="exit codes: 0 passed, 1 verdict or gate failed, 2 unusable input, 3 machine, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"edgepress {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in _commands().items():
        sub = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(sub)
        sub.set_defaults(execute=module.execute)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has already said why
        return int(stop.code or 0)
    try:
        return int(args.execute(args))
    except EdgepressError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; what was finished is kept, go on with --resume", 130)
    except BrokenPipeError:
        return 0
    except OSError as error:
        where = error.filename or getattr(args, "out", None) or "output"
        cure = _CURES.get(error.errno or 0, f"{error.strerror or error}; mend that, then repeat the command")
        return _fail(f"{where}: {cure}", 3)


def _fail(message: str, code: int) -> int:
    print(f"compress: {message}", file=sys.stderr)
    return code
