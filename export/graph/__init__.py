"""A file's operators and grids, read back so that torch can run, judge and tune exactly what the runtime runs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from export.errors import ExportError, UntunableError

if TYPE_CHECKING:
    from torch import Tensor

    from export.graph.ir import Graph

__all__ = ["read", "verify"]

_TOLERANCE = 1e-3  # of the peak
_READERS = {".tflite": "export.graph.tflite", ".onnx": "export.graph.onnx"}


def read(path: Path, plain: Path | None = None) -> Graph:
    """The graph of a file.

    Args:
        path: ``.tflite`` or ``.onnx``.
        plain: the float file that a quantized one was made of; its constants are what the graph runs unquantized with.

    Raises:
        UntunableError: another format, an operator that no reader knows (named), or files that do not belong together.
    """
    if path.suffix not in _READERS:
        raise UntunableError(f"{path}: graphs are read of {' and '.join(_READERS)} files only")
    reader = importlib.import_module(_READERS[path.suffix])
    try:
        graph: Graph = reader.read(path)
        if plain is not None:
            graph.adopt(reader.read(plain))
    except ExportError as error:
        raise UntunableError(str(error)) from None
    return graph


def verify(graph: Graph, images: Tensor, expected: Tensor) -> None:
    """Make sure that a graph computes what the network computes.

    Args:
        graph: run unquantized.
        images: inputs in the graph's layout.
        expected: the network's outputs for them, in the graph's layout.

    Raises:
        UntunableError: it does not, or it does not run.
    """
    import torch

    try:
        with torch.no_grad():
            found = graph.run(images, quantized=False)
        apart = float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    except Exception as error:  # whatever an operator that was read wrongly raises
        raise UntunableError(f"the graph read back from the file does not run ({error})") from error
    if not apart <= _TOLERANCE:
        raise UntunableError(f"the graph read back from the file is {apart:.1e} of the peak off the network")
