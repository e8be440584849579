"""Results as JSON: the numbers, and what they were made with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from export import timing

REPO = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGEPRESS_SHARED", REPO.parent / "shared"))
RESULTS = Path(__file__).resolve().parent / "results"

_VERSIONS = ("torch", "numpy", "onnxruntime", "openvino", "ai-edge-litert", "ai-edge-quantizer", "litert-torch", "nncf")


def need_shared() -> Path:
    """The folder with the test sets and official weights; the benchmark stops without it."""
    if not SHARED.is_dir():
        sys.exit(f"{SHARED} is absent: the test sets are not in the repository; set EDGEPRESS_SHARED")
    return SHARED / "data"


def commit() -> str:
    """The commit that is checked out; empty outside of a repository."""
    git = ["git", "-C", str(REPO), "rev-parse", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


def write(name: str, numbers: Mapping[str, object], seed: int) -> Path:
    """Write ``results/NAME.json``."""
    git = ["git", "-C", str(REPO)]
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout
    versions = {}
    for package in _VERSIONS:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    record = {
        "benchmark": name,
        "command": f"python benchmarks/{Path(sys.argv[0]).name}",
        "commit": commit(),
        "uncommitted_changes": bool(changed.strip()),
        "machine": {**asdict(timing.host()), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **versions},
        "seed": seed,
        "numbers": numbers,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(path)
    return path
