"""ONNX: torch's exporter writes it, onnxruntime quantizes and runs it.

NCHW, float32 in and out; height and width stay open where the network's graph allows it, which is proved by
running another size, and are declared otherwise.  int8 is QDQ with unsigned activations and signed weights
(U8S8): signed activations are slower than float on x86.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import conversions, onnx_graph
from export.artifact import ExportSpec, Image, Prepared, digest
from export.errors import ExportError
from export.policy import QuantPolicy

__all__ = ["RUNTIME", "RUNTIME_MODULE", "SUFFIX", "open", "operators", "read_card", "write"]

SUFFIX = ".onnx"
RUNTIME = "onnxruntime"
RUNTIME_MODULE = "onnxruntime"
_CARD = "edgepress"
_INPUT, _OUTPUT = "image", "output"
_OPSET = 18
_TOLERANCE = 1e-3  # of the peak; a graph that holds its example's size is off by far more


def write(spec: ExportSpec, path: Path) -> None:
    """Export, quantize where the policy says so, sign."""
    if spec.policy is None:
        write_float(spec, path)
    else:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            plain = Path(scratch) / "float32.onnx"
            write_float(spec, plain)
            _quantize(plain, path, spec, spec.policy)
    _sign(path, spec.card.to_json())


def write_float(spec: ExportSpec, path: Path) -> None:
    """The float32 graph: of any height and width where possible, else of the declared size.

    A network that came as an ONNX file is taken as it is.
    """
    if spec.graph is not None:
        shutil.copyfile(spec.graph, path)
        return
    card = spec.card
    settings = ("onnx", spec.input_size, spec.free_size, card.channels, card.unit)
    conversions.once(spec.module, settings, path, lambda: _convert(spec, path))


def _convert(spec: ExportSpec, path: Path) -> None:
    if not (spec.free_size and _export_free(spec, path)):
        _export(spec, path, spec.input_size, None)
    if spec.tables is not None:
        onnx_graph.drop_notes(path)


def _export(spec: ExportSpec, path: Path, size: tuple[int, int], open_sides: Any) -> None:
    import torch

    program = torch.onnx.export(
        spec.module,
        (torch.zeros(1, spec.card.channels, *size),),
        dynamo=True,
        opset_version=_OPSET,
        dynamic_shapes=open_sides,
        input_names=[_INPUT],
        output_names=[_OUTPUT],
        custom_translation_table=_translations(),
        verbose=False,
    )
    if program is None:
        raise ExportError(f"onnx: torch exported nothing for {spec.card.model}")
    program.save(str(path))
    onnx_graph.sums_for_differences(path)


def _translations() -> dict[Any, Any]:
    """Operators that torch's exporter lacks, in terms of ONNX."""
    import torch
    from onnxscript import opset18

    op: Any = opset18

    def sort(x: Any, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Any:
        """By TopK of all elements, which breaks ties by the index, as a stable sort does."""
        count = op.Reshape(op.Gather(op.Shape(x), op.Constant(value_int=dim)), op.Constant(value_ints=[1]))
        return op.TopK(x, count, axis=dim, largest=int(descending), sorted=1)

    return {torch.ops.aten.sort.stable: sort}


def _export_free(spec: ExportSpec, path: Path) -> bool:
    """Whether the file could be written with height and width open, and is right at another size."""
    import torch

    unit = spec.card.unit
    size = (-(-64 // unit) * unit, -(-96 // unit) * unit)
    if size[0] == size[1]:
        size = (size[0], size[1] + unit)
    named = {2 + k: torch.export.Dim(name, min=4, max=16384) for k, name in enumerate(("height", "width"))}
    attempts = [({2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)]
    if unit == 1:
        attempts.insert(0, (named,))
    for open_sides in attempts:
        try:
            _export(spec, path, size, open_sides)
            if _right_at(path, spec, (size[0] + 2 * unit, size[1] - unit)):
                return True
        except Exception as error:  # the exporter raises anything for shapes it cannot keep open
            print(f"edgepress: height and width cannot stay open: {error}")  # noqa: T201  (to conversion.log)
    return False


def _right_at(path: Path, spec: ExportSpec, size: tuple[int, int]) -> bool:
    import torch

    session = _OnnxSession(path, 1)
    if session.input_size is not None:
        return False
    image = np.random.default_rng(0).random((*size, spec.card.channels), np.float32)
    with torch.inference_mode():
        expected = spec.module(torch.from_numpy(_nchw(image)))[0].permute(1, 2, 0).numpy()
    output = session.run(image)
    peak = max(1.0, float(np.abs(expected).max()))
    return output.shape == expected.shape and float(np.abs(output - expected).max()) <= _TOLERANCE * peak


def _quantize(plain: Path, path: Path, spec: ExportSpec, policy: QuantPolicy) -> None:
    """Onnxruntime's int8 file; then, unless the policy is stock, our numbers in it."""
    if not spec.calibration:
        raise ExportError("onnx int8: no calibration images; give --calibration DIR with at least one image")
    if policy.only_in_tflite:
        raise ExportError(f"onnx int8: no kernels for {policy.only_in_tflite}; take format tflite, or leave them out")
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = plain.with_name("preprocessed.onnx")
    # symbolic shape inference gives up on some resizes and then leaves files in the current folder
    quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    settings = ("onnx-int8", digest(ready), policy.granularity, policy.ends, spec.calibration_digest())
    conversions.once(spec.module, settings, path, lambda: _quantize_stock(ready, path, spec, policy))
    if not policy.stock:
        tuned = ("onnx-tuned", digest(path), repr(policy))
        conversions.once(spec.module, tuned, path, lambda: _tune(spec, path, ready, policy))


def _quantize_stock(ready: Path, path: Path, spec: ExportSpec, policy: QuantPolicy) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    name, size = _input(ready)
    quantize_static(
        str(ready),
        str(path),
        _reader(spec.calibration if size is None else spec.inputs_of_size(size), name),
        quant_format=QuantFormat.QDQ,
        per_channel=policy.granularity == "channel",
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=_ends(ready) if policy.ends == "float" else [],
    )


def _ends(path: Path) -> list[str]:
    """Names of the first and the last node with weights."""
    import onnx

    graph = onnx.load(str(path)).graph
    constants = {tensor.name for tensor in graph.initializer}
    found = [n.name for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul") and n.input[1] in constants]
    return found[:1] + found[1:][-1:]


def _tune(spec: ExportSpec, path: Path, plain: Path, policy: QuantPolicy) -> None:
    import torch

    from export import graph as graphs
    from export.graph import onnx as graph_file
    from export.tuning import tune

    graph = graphs.read(path, plain)
    size = _input(plain)[1]
    graph.gives_images, graph.any_size = spec.card.classes is None, size is None
    inputs = spec.calibration if size is None else spec.inputs_of_size(size)
    images = torch.from_numpy(np.concatenate([_nchw(image) for image in inputs]))
    with torch.no_grad():
        graphs.verify(graph, images[:1], spec.module(images[:1]))
    tune(graph, policy, images, spec.progress)
    graph_file.write(graph, path)


def _input(path: Path) -> tuple[str, tuple[int, int] | None]:
    """Name of the input, and its (height, width) unless these are open."""
    session = _OnnxSession(path, 1)
    return session.name, session.input_size


def _reader(images: Any, name: str) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the base class is untyped
        """Hands out one calibration input at a time."""

        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            """The next input, None at the end."""
            image = next(self._left, None)
            return None if image is None else {name: _nchw(image)}

    return Reader()


def _nchw(image: Image) -> Any:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def image_of(output: NDArray[np.float32]) -> Image:
    """(1, C, H, W) as (H, W, C); (1, K) as (K,)."""
    first = output[0]
    return np.ascontiguousarray(first.transpose(1, 2, 0) if first.ndim == 3 else first.reshape(-1))


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
        self.name = self._session.get_inputs()[0].name
        sides = self._session.get_inputs()[0].shape[2:4]
        self.input_size = (sides[0], sides[1]) if all(isinstance(n, int) for n in sides) else None

    def prepare(self, image: Image) -> Prepared:
        feed = {self.name: _nchw(image)}
        return lambda: self._session.run(None, feed)

    def run(self, image: Image) -> Image:
        return image_of(self._session.run(None, {self.name: _nchw(image)})[0])


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
