"""``compress doctor``."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "check this machine: packages, runtimes, processor, disk"

_PACKAGES = {
    "torch": "the networks",
    "litert_torch": "writes TFLite",
    "ai_edge_quantizer": "quantizes TFLite",
    "ai_edge_litert": "runs TFLite",
    "onnx": "writes ONNX",
    "onnxscript": "writes ONNX",
    "onnxruntime": "quantizes and runs ONNX",
    "openvino": "writes and runs OpenVINO",
}
_INT8 = ("avx512_vnni", "avx_vnni", "asimddp", "amx_int8")
_DISK_BYTES = 1 << 30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    cure: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--json", action="store_true", help="as JSON")


def execute(args: argparse.Namespace) -> int:
    """0 when all is well, 3 when something that a run needs is missing."""
    checks = [*_python(), *_packages(), *_owners(), *_processor(), *_compiler(), *_disk(), *_runtimes()]
    if args.json:
        json.dump([asdict(check) for check in checks], sys.stdout)
        sys.stdout.write("\n")
    else:
        for check in checks:
            cure = f"  -> {check.cure}" if check.cure and not check.ok else ""
            sys.stdout.write(f"{'ok  ' if check.ok else 'FAIL'}  {check.what:<22} {check.found}{cure}\n")
    return 0 if all(check.ok for check in checks) else 3


def _python() -> Iterator[Check]:
    yield Check("python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer")


def _packages() -> Iterator[Check]:
    owners = metadata.packages_distributions()
    for module, purpose in _PACKAGES.items():
        found = util.find_spec(module) is not None
        version = metadata.version(owners[module][0]) if found and module in owners else "missing"
        yield Check(module, found, f"{version} ({purpose})", "pip install 'edgepress[all]'")


def _owners() -> Iterator[Check]:
    """Other distributions bring top-level packages of our names and overwrite them without a word."""
    owners = metadata.packages_distributions()
    for name in ("compress", "export", "search", "targets"):
        others = sorted(set(owners.get(name, [])) - {"edgepress"})
        yield Check(
            f"package {name}",
            not others,
            f"shared with {', '.join(others)}" if others else "ours alone",
            f"pip uninstall {' '.join(others)}, then reinstall edgepress",
        )


def _processor() -> Iterator[Check]:
    """Information, never a failure: int8 runs everywhere, but it is not faster everywhere."""
    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.is_file() else set()
    fast = [flag for flag in _INT8 if flag in words]
    found = ", ".join(fast) if fast else "none found: int8 may be no faster than float here"
    yield Check("int8 dot products", True, found)


def _compiler() -> Iterator[Check]:
    """Information: look-up tables run without either, only slower."""
    from export.compiled import compiler

    yield Check(
        "C compiler", True, compiler() or "none: look-up tables run in numba or numpy, their C source not at all"
    )
    found = util.find_spec("numba") is not None
    version = f"{metadata.version('numba')} (look-up tables without a C compiler)" if found else "missing"
    cure = " (not needed with a C compiler; pip install 'edgepress[numba]')"
    yield Check("numba", True, version if found else version + cure)


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path()).free
    yield Check("free disk here", free > _DISK_BYTES, f"{free / 2**30:.1f} GiB", "free at least 1 GiB")


def _runtimes() -> Iterator[Check]:
    """Each runtime is imported in a process of its own, so that one that crashes is found out too."""
    import subprocess

    from export import formats

    for name in formats.names():
        module = formats.by_name(name).RUNTIME_MODULE
        done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False)
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield Check(
            f"runtime {name}", done.returncode == 0, "loads" if done.returncode == 0 else reason, "see the line above"
        )
