"""Fixtures shared by all tests: the data beside the repository, small images, the slow twins."""

import importlib.util
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("EDGEPRESS_SHARED", ROOT.parent / "shared"))

# Threads that wait by spinning make small torch calls 30 times slower on a busy machine; read when torch starts.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The same examples every time, so that a red run can be repeated; no deadline, because the machines are shared.
hypothesis.settings.register_profile("edgepress", database=None, deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("edgepress")


def make_photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colour waves with edges and noise, (height, width, 3)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    planes = [127 + 80 * np.sin(x / (5 + c) + seed) * np.cos(y / (7 - c)) + 30 * ((x + y) % 16 < 8) for c in range(3)]
    return np.clip(np.stack(planes, 2) + random.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of benchmark images and weights; tests that need it are skipped without."""
    if not SHARED.is_dir():
        pytest.skip("../shared is absent: benchmark images and weights are not in the repository")
    return SHARED


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def reference() -> Callable[[str], ModuleType]:
    """Loads a slow twin of ``tests/reference`` by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "reference" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def photo() -> Callable[..., NDArray[np.uint8]]:
    """``photo(height, width, seed=0)``: a made-up RGB picture, the same for a seed."""
    return make_photo


@pytest.fixture
def photos_folder(tmp_path: Path) -> Callable[..., Path]:
    """``photos_folder(name, sizes)``: a folder of PNGs ``0.png`` and so on, of (height, width) each; no two alike."""
    seeds = itertools.count()

    def write(name: str = "photos", sizes: Sequence[tuple[int, int]] = ((48, 64), (40, 40), (64, 48))) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            Image.fromarray(make_photo(height, width, next(seeds))).save(folder / f"{number}.png")
        return folder

    return write


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    """timm, with torchvision beside any build of torch; tests that compare with it are skipped where it is absent."""
    from compress import torchvision_shim
    from export.errors import MissingRuntimeError

    try:
        torchvision_shim.need("timm")
    except MissingRuntimeError as error:
        pytest.skip(str(error))
    return importlib.import_module("timm")
