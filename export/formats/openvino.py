"""OpenVINO IR (.xml and .bin), converted from ONNX, run on the CPU plug-in at f32 precision.

int8 comes from the same U8S8 QDQ graph that ONNX Runtime gets, which OpenVINO executes natively: NNCF's own
defaults lose several dB on SPAN (docs/int8.md has the measurement).  The plug-in's default precision is
bfloat16 where the processor has it; f32 is set so that scores can be compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.artifact import ExportSpec, Image, Prepared
from export.formats import onnx

__all__ = ["RUNTIME", "RUNTIME_MODULE", "SUFFIX", "open", "operators", "read_card", "write"]

SUFFIX = ".xml"
RUNTIME = "openvino"
RUNTIME_MODULE = "openvino"
_CARD = "edgepress"


def write(spec: ExportSpec, path: Path) -> None:
    """Write ONNX, convert, sign, save as IR."""
    import openvino

    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        source = Path(scratch) / "source.onnx"
        onnx.write(spec, source)
        model = openvino.convert_model(str(source))
    for number, node in enumerate(model.get_ordered_ops()):  # the converter's names count up across a process
        if node.get_type_name() not in ("Parameter", "Result"):
            node.set_friendly_name(f"{node.get_type_name()}_{number}")
    model.set_rt_info(spec.card.to_json(), [_CARD])
    openvino.save_model(model, str(path), compress_to_fp16=False)


class _OpenVinoSession:
    """A compiled model on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._model: Any = core.compile_model(core.read_model(str(path)), "CPU", settings)
        shape = self._model.input(0).get_partial_shape()
        sides = [shape[2], shape[3]]
        self.input_size = (
            (sides[0].get_length(), sides[1].get_length()) if all(side.is_static for side in sides) else None
        )

    def prepare(self, image: Image) -> Prepared:
        request = self._model.create_infer_request()
        request.set_input_tensor(_tensor(image))
        infer: Prepared = request.infer
        return infer

    def run(self, image: Image) -> Image:
        request = self._model.create_infer_request()
        request.infer({0: _tensor(image)})
        return onnx.image_of(request.get_output_tensor(0).data)


def _tensor(image: Image) -> Any:
    import openvino

    return openvino.Tensor(np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32))


def open(path: Path, threads: int) -> _OpenVinoSession:
    """The file compiled for the CPU."""
    return _OpenVinoSession(path, threads)


def _read(path: Path) -> Any:
    import openvino

    return openvino.Core().read_model(str(path))


def read_card(path: Path) -> str | None:
    """The card's text, from the model's runtime info."""
    model = _read(path)
    return str(model.get_rt_info([_CARD]).astype(str)) if model.has_rt_info([_CARD]) else None


def operators(path: Path) -> Mapping[str, int]:
    """OpenVINO operation type to count, constants and ends left out."""
    counts: dict[str, int] = {}
    for node in _read(path).get_ops():
        kind = node.get_type_name()
        if kind not in ("Constant", "Parameter", "Result"):
            counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))
