"""Runs of the real command, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPO = Path(__file__).resolve().parents[2]

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def command() -> Command:
    """``command("run", "--model", ...)``: the finished process, output captured."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "compress", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd or REPO,
            check=False,
            env={**os.environ, "PYTHONPATH": str(REPO)},
            timeout=280,
        )

    return run


@pytest.fixture(scope="session")
def interrupted() -> Callable[[Path, str, signal.Signals, list[str]], subprocess.CompletedProcess[str]]:
    """Start a run, and signal it as soon as a file appears in its folder."""

    def run(out: Path, until: str, how: signal.Signals, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "compress", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": str(REPO)},
        )
        deadline = time.monotonic() + 200
        while not (out / until).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(how)
        stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small pictures cut out of the built-in evaluation photographs, one of odd size."""
    from compress.data.builtin import evaluation_images

    folder = tmp_path_factory.mktemp("images")
    first, second = evaluation_images()[:2]
    for path, box in ((first, (40, 30, 200, 190)), (second, (100, 60, 271, 193))):
        with Image.open(path) as picture:
            picture.crop(box).save(folder / path.name)
    return folder


@pytest.fixture(scope="session")
def flat_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture of a single colour."""
    folder = tmp_path_factory.mktemp("flat")
    Image.fromarray(np.full((96, 96, 3), 128, np.uint8)).save(folder / "flat.png")
    return folder
