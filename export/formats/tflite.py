"""TFLite: litert-torch writes it, ai-edge-quantizer quantizes it, ai-edge-litert (XNNPACK) runs it.

NHWC in and out; an int8 file takes and gives int8.  PixelShuffle becomes one DEPTH_TO_SPACE, after which the
file can be resized, so images of any size run without padding.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import tflite_graph
from export.artifact import ExportSpec, Image, Prepared
from export.errors import ExportError
from export.quiet import native_output_to

__all__ = ["RUNTIME", "RUNTIME_MODULE", "SUFFIX", "open", "operators", "read_card", "write"]

SUFFIX = ".tflite"
RUNTIME = "ai-edge-litert"
RUNTIME_MODULE = "ai_edge_litert.interpreter"
_SIGNATURE = "serving_default"


def write(spec: ExportSpec, path: Path) -> None:
    """Convert, quantize where the policy says so, simplify, declare the size, sign."""
    calibration = spec.calibration if spec.policy is not None else ()
    height, width = calibration[0].shape[:2] if calibration else spec.input_size
    _convert(spec, (height, width), path)
    if spec.policy is not None:
        path.write_bytes(_quantized(path, spec))
    tflite_graph.fuse_pixel_shuffle(path)
    if (height, width) != spec.input_size and not tflite_graph.resize_input(path, *spec.input_size):
        _convert_at_size(spec, path)
    tflite_graph.write_card(path, spec.card.to_json())


def _convert(spec: ExportSpec, size: tuple[int, int], path: Path) -> None:
    import litert_torch
    import torch

    example = torch.zeros(1, *size, spec.card.channels)
    module = litert_torch.to_channel_last_io(spec.module, args=[0], outputs=[0]).eval()
    litert_torch.convert(module, (example,)).export(str(path))


def _convert_at_size(spec: ExportSpec, path: Path) -> None:
    """For graphs that hold their size: convert at the declared size, with calibration inputs mirrored to fit."""
    _convert(spec, spec.input_size, path)
    path.write_bytes(_quantized(path, spec))
    tflite_graph.fuse_pixel_shuffle(path)


def _quantized(path: Path, spec: ExportSpec) -> bytes:
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    if spec.policy is None or not spec.calibration:
        raise ExportError("tflite int8: no calibration images; give --calibration DIR with at least one image")
    rules = recipe.static_wi8_ai8()
    if spec.policy.granularity == "tensor":
        for rule in rules:
            rule["op_config"]["weight_tensor_config"]["granularity"] = qtyping.QuantGranularity.TENSORWISE
    name, height, width = _input(path)
    feed = [{name: _mirrored(image, height, width)[None]} for image in spec.calibration]
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(rules)
    # the tool's own default is a moving average, which lets the last images decide and clips the first ones
    ranges = calibrator.Calibrator(str(path), qsv_update_func=qsv_utils.min_max_update)
    ranges.calibrate({_SIGNATURE: feed}, manager)
    tool = quantizer.Quantizer(str(path))
    tool.load_quantization_recipe(rules)
    return bytes(tool.quantize(ranges.get_model_qsvs()).quantized_model)


def _input(path: Path) -> tuple[str, int, int]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    (name,) = interpreter.get_signature_list()[_SIGNATURE]["inputs"]
    shape = interpreter.get_input_details()[0]["shape"]
    return name, int(shape[1]), int(shape[2])


def _mirrored(image: Image, height: int, width: int) -> Image:
    """The image cut, or mirrored on, to a size."""
    extra = [(0, max(0, height - image.shape[0])), (0, max(0, width - image.shape[1])), (0, 0)]
    return np.pad(image, extra, mode="symmetric")[:height, :width].astype(np.float32)


class _TFLiteSession:
    """Interpreters, one for each of the last few input sizes."""

    _KEPT = 2

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._ready: OrderedDict[tuple[int, int], Any] = OrderedDict()
        declared = self._interpreter(None).get_input_details()[0]["shape"]
        self.input_size = None if tflite_graph.is_resizable(path) else (int(declared[1]), int(declared[2]))

    def _interpreter(self, shape: tuple[int, ...] | None) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        with native_output_to(Path(os.devnull)):  # it announces its delegate each time
            interpreter = Interpreter(str(self._path), num_threads=self._threads)
            if shape is not None:
                interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [1, *shape])
            interpreter.allocate_tensors()
        return interpreter

    def _at(self, image: Image) -> Any:
        size = (image.shape[0], image.shape[1])
        if self.input_size is not None and size != self.input_size:
            raise ExportError(f"{self._path}: takes {self.input_size} only, got {size}; run it tiled")
        if size not in self._ready:
            self._ready[size] = self._interpreter(image.shape)
            while len(self._ready) > self._KEPT:
                self._ready.popitem(last=False)
        self._ready.move_to_end(size)
        return self._ready[size]

    def prepare(self, image: Image) -> Prepared:
        interpreter = self._at(image)
        details = interpreter.get_input_details()[0]
        interpreter.set_tensor(details["index"], _encode(image[None], details))
        invoke: Prepared = interpreter.invoke
        return invoke

    def run(self, image: Image) -> Image:
        self.prepare(image)()
        interpreter = self._at(image)
        details = interpreter.get_output_details()[0]
        output: Image = _decode(interpreter.get_tensor(details["index"]), details)[0]
        return output


def _encode(values: NDArray[np.float32], details: Mapping[str, Any]) -> NDArray[Any]:
    """Float to the tensor's own type; rounded half to even and saturated."""
    if details["dtype"] == np.float32:
        return np.asarray(values, np.float32)
    scale, zero = details["quantization"]
    info = np.iinfo(details["dtype"])
    return np.asarray(np.clip(np.rint(values / np.float32(scale)) + zero, info.min, info.max), details["dtype"])


def _decode(values: NDArray[Any], details: Mapping[str, Any]) -> NDArray[np.float32]:
    if details["dtype"] == np.float32:
        return np.array(values, np.float32)
    scale, zero = details["quantization"]
    return np.asarray((values.astype(np.float32) - np.float32(zero)) * np.float32(scale), np.float32)


def open(path: Path, threads: int) -> _TFLiteSession:
    """The file in LiteRT with XNNPACK."""
    return _TFLiteSession(path, threads)


def read_card(path: Path) -> str | None:
    """The card's text, from the flatbuffer's metadata."""
    return tflite_graph.read_card(path)


def operators(path: Path) -> Mapping[str, int]:
    """Operator name, as in the schema's BuiltinOperator, to count."""
    return tflite_graph.operators(path)
