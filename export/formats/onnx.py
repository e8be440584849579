"""ONNX: torch's exporter writes it, onnxruntime quantizes and runs it.

NCHW, float32 in and out, height and width dynamic.  int8 is QDQ with unsigned activations and signed weights
(U8S8): signed activations are slower than float on x86.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.artifact import ExportSpec, Image, Prepared
from export.errors import ExportError

__all__ = ["RUNTIME", "RUNTIME_MODULE", "SUFFIX", "open", "operators", "read_card", "write"]

SUFFIX = ".onnx"
RUNTIME = "onnxruntime"
RUNTIME_MODULE = "onnxruntime"
_CARD = "edgepress"
_INPUT, _OUTPUT = "image", "enlarged"
_OPSET = 18


def write(spec: ExportSpec, path: Path) -> None:
    """Export, quantize where the policy says so, sign."""
    if spec.policy is None:
        write_float(spec, path)
    else:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            plain = Path(scratch) / "float32.onnx"
            write_float(spec, plain)
            _quantize(plain, path, spec)
    _sign(path, spec.card.to_json())


def write_float(spec: ExportSpec, path: Path) -> None:
    """The float32 graph with dynamic height and width."""
    import torch

    height, width = (torch.export.Dim(name, min=4, max=16384) for name in ("height", "width"))
    program = torch.onnx.export(
        spec.module,
        (torch.zeros(1, spec.card.channels, 64, 48),),
        dynamo=True,
        opset_version=_OPSET,
        dynamic_shapes=({2: height, 3: width},),
        input_names=[_INPUT],
        output_names=[_OUTPUT],
        verbose=False,
    )
    if program is None:
        raise ExportError(f"onnx: torch exported nothing for {spec.card.model}")
    program.save(str(path))


def _quantize(plain: Path, path: Path, spec: ExportSpec) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if spec.policy is None or not spec.calibration:
        raise ExportError("onnx int8: no calibration images; give --calibration DIR with at least one image")
    ready = plain.with_name("preprocessed.onnx")
    quant_pre_process(str(plain), str(ready))
    quantize_static(
        str(ready),
        str(path),
        _reader(spec.calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=spec.policy.granularity == "channel",
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


def _reader(images: Any) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the base class is untyped
        """Hands out one calibration input at a time."""

        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            """The next input, None at the end."""
            image = next(self._left, None)
            return None if image is None else {_INPUT: _nchw(image)}

    return Reader()


def _nchw(image: Image) -> Any:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def _sign(path: Path, card: str) -> None:
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {_CARD: card})
    onnx.save(model, str(path))


class _OnnxSession:
    """An inference session on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        sides = self._session.get_inputs()[0].shape[2:4]
        self.input_size = (sides[0], sides[1]) if all(isinstance(n, int) for n in sides) else None

    def prepare(self, image: Image) -> Prepared:
        feed = {self._name: _nchw(image)}
        return lambda: self._session.run(None, feed)

    def run(self, image: Image) -> Image:
        output = self._session.run(None, {self._name: _nchw(image)})[0]
        return np.ascontiguousarray(output[0].transpose(1, 2, 0))


def open(path: Path, threads: int) -> _OnnxSession:
    """The file in ONNX Runtime on the CPU."""
    return _OnnxSession(path, threads)


def read_card(path: Path) -> str | None:
    """The card's text, from the model's metadata properties."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    if not model.graph.node:
        raise ExportError(f"{path}: holds no graph; export it again")
    return next((p.value for p in model.metadata_props if p.key == _CARD), None)


def operators(path: Path) -> Mapping[str, int]:
    """ONNX operator type to count."""
    import onnx

    counts: dict[str, int] = {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items()))
