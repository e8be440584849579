"""TFLite: litert-torch writes it, ai-edge-quantizer quantizes it, ai-edge-litert (XNNPACK) runs it.

NHWC in and out, or NCHW on request; an int8 file takes and gives int8.  PixelShuffle becomes one DEPTH_TO_SPACE,
after which the file can be resized, so images of any size run without padding.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import conversions, tflite_graph, tflite_sizes
from export.artifact import Card, ExportSpec, Image, Prepared, digest
from export.errors import ExportError
from export.policy import QuantPolicy
from export.quiet import native_output_to

__all__ = ["RUNTIME", "RUNTIME_MODULE", "SUFFIX", "open", "operators", "read_card", "write"]

SUFFIX = ".tflite"
RUNTIME = "ai-edge-litert"
RUNTIME_MODULE = "ai_edge_litert.interpreter"
_SIGNATURE = "serving_default"
_TOLERANCE = 1e-3  # of the peak; a graph that holds its example's size is off by far more


def write(spec: ExportSpec, path: Path) -> None:
    """Convert, quantize where the policy says so, simplify, declare the size, sign."""
    if spec.policy is not None and not spec.calibration:
        raise ExportError("tflite int8: no calibration images; give --calibration DIR with at least one image")
    size = _calibration_size(spec)
    _convert(spec, size, path)
    free = _shuffles(spec.policy) and _right_at_another_size(spec, path, size)
    if size != spec.input_size and not free:
        size = spec.input_size
        _convert(spec, size, path)
    if spec.policy is not None:
        _quantize(spec, path, spec.policy)
    else:
        tflite_graph.fuse_pixel_shuffle(path)
    if size != spec.input_size and not tflite_graph.resize_input(path, *spec.input_size, spec.card.unit):
        raise ExportError(f"tflite: {spec.card.model} cannot be declared at {spec.input_size}; give --input-size")
    tflite_graph.write_card(path, replace(spec.card, fixed_size=not free).to_json())


def _shuffles(policy: QuantPolicy | None) -> bool:
    """Whether LiteRT's DEPTH_TO_SPACE takes the file's type: it knows no 16-bit integers."""
    return policy is None or policy.activation_bits == 8


def _calibration_size(spec: ExportSpec) -> tuple[int, int]:
    """That of the calibration inputs, where the network takes it: smaller graphs calibrate faster."""
    if spec.policy is None or not spec.free_size or spec.card.layout != "nhwc":
        return spec.input_size
    height, width = spec.calibration[0].shape[:2]
    return spec.input_size if height % spec.card.unit or width % spec.card.unit else (height, width)


def _right_at_another_size(spec: ExportSpec, path: Path, size: tuple[int, int]) -> bool:
    """Whether the float32 graph, once simplified, can be resized and then still gives the network's values."""
    import torch

    if not spec.free_size or spec.card.layout != "nhwc":
        return False
    unit = spec.card.unit
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        copy = Path(scratch) / path.name
        shutil.copyfile(path, copy)
        tflite_graph.fuse_pixel_shuffle(copy)
        if not tflite_graph.is_resizable(copy, unit):
            return False
        tflite_graph.write_card(copy, spec.card.to_json())
        other = (size[0] + unit, max(size[1] - 2 * unit, unit))
        image = np.random.default_rng(0).random((*other, spec.card.channels), np.float32)
        try:
            with torch.inference_mode():
                x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
                expected = spec.module(x)[0].permute(1, 2, 0).numpy()
            output = _TFLiteSession(copy, 1).run(image)
        except Exception:  # the network or the runtime takes its own size only
            return False
    peak = max(1.0, float(np.abs(expected).max()))
    return output.shape == expected.shape and float(np.abs(output - expected).max()) <= _TOLERANCE * peak


def _convert(spec: ExportSpec, size: tuple[int, int], path: Path) -> None:
    """The float32 graph at a size, as the converter writes it."""
    settings = ("tflite", size, spec.card.layout, spec.card.channels, spec.card.classes is None)
    conversions.once(spec.module, settings, path, lambda: _converted(spec, size, path))


def _converted(spec: ExportSpec, size: tuple[int, int], path: Path) -> None:
    import litert_torch
    import torch

    example = torch.zeros(1, spec.card.channels, *size)
    module = spec.module
    if spec.card.layout == "nhwc":
        images_out = [] if spec.card.classes is not None else [0]
        module = litert_torch.to_channel_last_io(spec.module, args=[0], outputs=images_out).eval()
        example = example.permute(0, 2, 3, 1).contiguous()
    litert_torch.convert(module, (example,)).export(str(path))
    if spec.tables is not None:
        tflite_sizes.open_sides(path)


def _quantize(spec: ExportSpec, path: Path, policy: QuantPolicy) -> None:
    """The tool's int8 file in place of the float one; then, unless the policy is stock, our numbers in it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        plain = Path(scratch) / path.name
        shutil.copyfile(path, plain)
        settings = (
            "tflite-int8",
            digest(plain),
            repr(replace(policy.as_stock, calibration_crops=1)),
            spec.calibration_digest(),
        )
        conversions.once(spec.module, settings, path, lambda: _quantize_stock(plain, path, spec, policy))
        if _shuffles(policy):
            tflite_graph.fuse_pixel_shuffle(path)
            tflite_graph.fuse_pixel_shuffle(plain)
        if not policy.stock:
            tuned = ("tflite-tuned", digest(path), repr(policy))
            conversions.once(spec.module, tuned, path, lambda: _tune(spec, path, plain, policy))


def _tune(spec: ExportSpec, path: Path, plain: Path, policy: QuantPolicy) -> None:
    import torch

    from export import graph as graphs
    from export.graph import tflite
    from export.tuning import tune

    graph = graphs.read(path, plain)
    graph.layout, graph.gives_images = spec.card.layout, spec.card.classes is None
    graph.any_size = spec.card.layout == "nhwc" and tflite_graph.is_resizable(plain, spec.card.unit)
    inputs = spec.inputs_of_size(_input(plain, spec.card.layout)[1])
    images = torch.from_numpy(np.concatenate([_tensor(image, spec.card.layout) for image in inputs]))
    with torch.no_grad():
        expected = spec.module(torch.from_numpy(_tensor(inputs[0], "nchw")))
    if expected.dim() == 4 and spec.card.layout == "nhwc":
        expected = expected.permute(0, 2, 3, 1)
    graphs.verify(graph, images[:1], expected.reshape(1, *expected.shape[1:]))
    tune(graph, policy, images, spec.progress)
    tflite.write(graph, path)


def _quantize_stock(plain: Path, path: Path, spec: ExportSpec, policy: QuantPolicy) -> None:
    """By ai-edge-quantizer alone, with the true minimum and maximum of the calibration inputs."""
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    if policy.packed and policy.layer_bits:
        raise ExportError("tflite int8: packed weights have one width; leave layer_bits out, or packed")
    rules = recipe.static_wi8_ai16() if policy.activation_bits == 16 else recipe.static_wi8_ai8()
    for rule in rules:
        rule["op_config"]["weight_tensor_config"]["num_bits"] = policy.as_stock.weight_bits
    if policy.granularity == "tensor":
        for rule in rules:
            rule["op_config"]["weight_tensor_config"]["granularity"] = qtyping.QuantGranularity.TENSORWISE
    if policy.ends == "float":
        names = tflite_graph.outputs_of_ends(plain)
        rules += [{**rules[0], "regex": f"^{re.escape(n)}", "algorithm_key": "no_quantize"} for n in names]
    name, size = _input(plain, spec.card.layout)
    feed = [{name: _tensor(image, spec.card.layout)} for image in spec.inputs_of_size(size)]
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(rules)
    # the tool's own default is a moving average, which lets the last images decide and clips the first ones
    ranges = calibrator.Calibrator(str(plain), qsv_update_func=qsv_utils.min_max_update)
    ranges.calibrate({_SIGNATURE: feed}, manager)
    tool = quantizer.Quantizer(str(plain))
    tool.load_quantization_recipe(rules)
    path.write_bytes(bytes(tool.quantize(ranges.get_model_qsvs()).quantized_model))


def _input(path: Path, layout: str) -> tuple[str, tuple[int, int]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    (name,) = interpreter.get_signature_list()[_SIGNATURE]["inputs"]
    return name, _sides(interpreter.get_input_details()[0]["shape"], layout)


def _sides(shape: Sequence[int], layout: str) -> tuple[int, int]:
    """(height, width) of a 4-D shape."""
    first = 1 if layout == "nhwc" else 2
    return int(shape[first]), int(shape[first + 1])


def _tensor(image: Image, layout: str) -> Image:
    return np.ascontiguousarray((image if layout == "nhwc" else image.transpose(2, 0, 1))[None], np.float32)


def _layout(card: Card | None, shape: Sequence[int]) -> str:
    """The order that the file's card states; of a file of others, where the few channels are."""
    if card is not None:
        return card.layout
    return "nchw" if shape[1] in (1, 3) and shape[3] not in (1, 3) else "nhwc"


class _TFLiteSession:
    """Interpreters, one for each of the last few input sizes."""

    _KEPT = 2

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._ready: OrderedDict[tuple[int, int], Any] = OrderedDict()
        declared = self._interpreter(None).get_input_details()[0]["shape"]
        if len(declared) != 4:
            raise ExportError(f"{path}: its input has shape {tuple(declared)}, expected one image (1, H, W, C)")
        text = tflite_graph.read_card(path)
        card = Card.from_json(text, path) if text is not None else None
        self._order = _layout(card, declared)
        fixed = self._order != "nhwc" or (card is not None and card.fixed_size)
        free = not fixed and tflite_graph.is_resizable(path, card.unit if card is not None else 1)
        self.input_size = None if free else _sides(declared, self._order)

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
            self._ready[size] = self._interpreter(_tensor(image, self._order).shape[1:])
            while len(self._ready) > self._KEPT:
                self._ready.popitem(last=False)
        self._ready.move_to_end(size)
        return self._ready[size]

    def prepare(self, image: Image) -> Prepared:
        interpreter = self._at(image)
        details = interpreter.get_input_details()[0]
        interpreter.set_tensor(details["index"], _encode(_tensor(image, self._order), details))
        invoke: Prepared = interpreter.invoke
        return invoke

    def run(self, image: Image) -> Image:
        self.prepare(image)()
        interpreter = self._at(image)
        details = interpreter.get_output_details()[0]
        output: Image = _decode(interpreter.get_tensor(details["index"]), details)[0]
        if output.ndim != 3:
            return output.reshape(-1)
        return output if self._order == "nhwc" else np.ascontiguousarray(output.transpose(1, 2, 0))


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
