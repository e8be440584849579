"""C code of ours, compiled once on this machine and kept in a cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from export.errors import ExportError

__all__ = ["compiler", "library"]

_FLAGS = ("-O3", "-march=native"), ("-O3",)


def compiler() -> str | None:
    """A C compiler of this machine: $CC, cc, gcc or clang."""
    names = [name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name]
    return next((found for name in names if (found := shutil.which(name))), None)


def library(files: Mapping[str, str]) -> ctypes.CDLL | None:
    """Sources by file name, the first one compiled, as a loaded library; None where no compiler is.

    Raises:
        ExportError: the compiler refuses them.
    """
    command = compiler()
    if command is None:
        return None
    parts = [part for item in files.items() for part in item]
    key = hashlib.sha256("\0".join([*parts, command, _processor()]).encode()).hexdigest()[:24]
    path = _cache() / f"{key}.so"
    if not path.is_file():
        _compile(command, files, path)
    return ctypes.CDLL(str(path))


def _processor() -> str:
    """What native code was made for: a cache may move to another machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), os.uname().machine)


def _cache() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgepress" / "lut"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        root = Path(tempfile.gettempdir()) / f"edgepress-lut-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
    return root


def _compile(command: str, files: Mapping[str, str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        for name, text in files.items():
            (Path(scratch) / name).write_text(text, encoding="utf-8")
        said = ""
        for flags in _FLAGS:
            arguments = [command, "-std=c99", *flags, "-shared", "-fPIC", f"./{next(iter(files))}", "-o", "made.so"]
            done = subprocess.run(arguments, cwd=scratch, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                (Path(scratch) / "made.so").replace(path)
                return
            said = done.stderr.strip()
        raise ExportError(f"{command} refuses {next(iter(files))}: {said[:300]}")
