"""Lets torchvision be imported beside a CPU build of torch, for timm and spandrel, which import it at the top.

torchvision's wheel on PyPI is linked against CUDA; with a CPU torch its library does not load, and importing it
then fails over two operators that nobody here uses.  Declaring them is enough: transforms and models work.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from export.errors import MissingRuntimeError

__all__ = ["need"]

_kept: list[Any] = []  # the declaration lives as long as its object


def need(package: str) -> None:
    """Make a package that imports torchvision importable.

    Raises:
        MissingRuntimeError: the package, or torchvision, is not installed.
    """
    for name in (package, "torchvision"):
        if importlib.util.find_spec(name) is None:
            raise MissingRuntimeError(
                f"package {name} is not installed; pip install 'edgepress[zoo]' (it brings timm, spandrel, torchvision)"
            )
    if not _kept:
        _kept.append(_declared())


def _declared() -> Any:
    import torch

    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    for library in folder.glob("_C*"):
        try:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
            return library
        except OSError:
            continue
    declaration: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        declaration.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return declaration
