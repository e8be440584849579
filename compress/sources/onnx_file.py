"""An .onnx file: quantized, exported, validated and searched as the graph it is."""

from __future__ import annotations

import atexit
import contextlib
import copy
import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress import torchvision_shim
from compress.errors import UsageError, WeightsError
from compress.network import Network, WeightsSource
from compress.registry import SOURCES
from compress.source import Request
from compress.sources.probe import SIZES, contract
from compress.weights import sha256
from export.errors import MissingRuntimeError

__all__ = ["OnnxFile", "OnnxGraph"]

_DOMAINS = ("", "ai.onnx", "com.microsoft")
_OLDEST = 13  # the first in which quantization has a scale for each channel; older files are converted
_TOLERANCE = 1e-3


class OnnxGraph(nn.Module):
    """The graph run by onnxruntime, for networks that cannot be rebuilt in torch; it cannot be traced."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._why = why

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) to whatever the graph gives.

        Raises:
            NotImplementedError: under torch.export; the graph has no torch form.
        """
        if torch.compiler.is_exporting() or type(x) is not Tensor:
            raise NotImplementedError(f"this ONNX graph has no torch form ({self._why}); ONNX and OpenVINO files only")
        return torch.from_numpy(self._session.run(None, {self._input: x.numpy()})[0])


class OnnxFile:
    """An .onnx file with one image in and one image or vector out."""

    def accepts(self, model: str) -> bool:
        """Whether the text ends in .onnx."""
        return Path(model).suffix.lower() == ".onnx"

    def load(self, request: Request) -> Network:
        """The network of that file; its graph goes into ONNX and OpenVINO files as it is, if it is not too old.

        Raises:
            WeightsError: unreadable, external data missing, unknown operators, an input that is no single image.
            UsageError: flags that make no sense with it.
            MissingRuntimeError: onnx or onnxruntime is not installed.
        """
        path = Path(request.model)
        if request.weights is not None or request.random or request.arguments:
            raise UsageError(f"{path} holds its weights: drop --weights, --random and --model-arg")
        try:
            model, outside = _loaded(path)
        except ImportError as error:
            raise MissingRuntimeError(f"package {error.name} is not installed; pip install 'edgepress[onnx]'") from None
        channels, size = _image_input(model, path)
        tried = [request.input_size] if request.input_size is not None else SIZES
        runner, x, expected = _runner(model, path, channels, [size] if size is not None else tried)
        module = _rebuilt(model, runner, x, expected)
        found = contract(module, str(path), [(x.shape[2], x.shape[3])], request.task)
        if request.scale not in (None, found.scale):
            raise UsageError(f"{path} enlarges by {found.scale}, --scale says {request.scale}; drop --scale")
        return Network(
            name=path.stem,
            module=module,
            scale=found.scale,
            channels=channels,
            weights=WeightsSource(path, _digest(model, path, outside), builtin=False),
            task=found.task,
            input_size=size if size is not None else found.input_size,
            classes=found.classes,
            graph=_portable(model, path, outside, x, expected),
        )


def _digest(model: Any, path: Path, outside: bool) -> str:
    """Of the file; of all that was read where its weights lie in another."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest() if outside else sha256(path)


def _loaded(path: Path) -> tuple[Any, bool]:
    """The checked model, and whether its weights lie outside its file."""
    import onnx

    if not path.is_file():
        raise WeightsError(f"model {path}: no such file")
    try:
        model = onnx.load(str(path), load_external_data=False)
        outside = any(map(onnx.external_data_helper.uses_external_data, model.graph.initializer))
        onnx.load_external_data_for_model(model, str(path.parent))
    except FileNotFoundError as error:
        raise _external(path, error) from None
    except Exception as error:  # protobuf raises its own kinds for a damaged file
        if re.search("external|data file|should be stored in", str(error), re.IGNORECASE):
            raise _external(path, error) from None
        raise WeightsError(f"model {path}: not a readable ONNX file ({_line(error)}); export it again") from None
    if not model.graph.node:
        raise WeightsError(f"model {path}: holds no graph; export it again")
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in _DOMAINS})
    if foreign:
        raise WeightsError(
            f"model {path}: operators of domains that no runtime here knows: {', '.join(foreign[:10])}; expected those "
            "of ONNX itself; export without custom operators"
        )
    if any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in model.graph.node):
        raise WeightsError(
            f"model {path}: is quantized already; give the float file, or score this one with `compress validate`"
        )
    return model, outside


def _external(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"model {path}: its weights lie in a file of their own that is missing ({_line(error)}); put it beside the "
        "model"
    )


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"/onnxruntime_src/.*?\) (?=[A-Z])", " ", text)[:300]  # without a place in somebody's source


def _image_input(model: Any, path: Path) -> tuple[int, tuple[int, int] | None]:
    """Channels and fixed (height, width) of the one input; None: open."""
    import onnx

    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in initial]
    if len(inputs) != 1:
        named = ", ".join(i.name for i in inputs) or "none"
        raise WeightsError(
            f"model {path}: {len(inputs)} inputs ({named}), expected one image; export it with one input"
        )
    kind = inputs[0].type.tensor_type
    sides = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    shown = "x".join(str(s) if s is not None else "?" for s in sides)
    if kind.elem_type != onnx.TensorProto.FLOAT or len(sides) != 4:
        name = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise WeightsError(f"model {path}: input {inputs[0].name} is {name} {shown}, expected FLOAT 1xCxHxW in [0, 1]")
    batch, channels, height, width = sides
    if batch not in (None, 0, 1) or channels not in (1, 3):
        raise WeightsError(
            f"model {path}: input {inputs[0].name} is {shown}, expected one NCHW image of 1 or 3 channels (1xCxHxW, or "
            "an open batch); export it with batch 1"
        )
    if (height is None) != (width is None):
        raise WeightsError(f"model {path}: input {shown} has one open side, expected both or none; export it again")
    return channels, (height, width) if height is not None and width is not None else None


def _runner(
    model: Any, path: Path, channels: int, sizes: Sequence[tuple[int, int]]
) -> tuple[OnnxGraph, Tensor, Tensor]:
    """The graph in onnxruntime, an image (1, C, H, W) of the first size that it takes, and what it gives for it."""
    try:
        runner = OnnxGraph(path, "")
    except Exception as error:  # the runtime raises its own kinds
        raise WeightsError(
            f"model {path} (opset {_opset(model)}): onnxruntime refuses it ({_line(error)}); export it again"
        ) from None
    reasons = []
    for size in sizes:
        x = torch.from_numpy(np.random.default_rng(0).random((1, channels, *size), np.float32))
        try:
            return runner, x, runner(x)
        except Exception as error:  # likewise
            reasons.append(f"{channels}x{size[0]}x{size[1]}: {_line(error)}")
    raise WeightsError(f"model {path}: runs on no image ({'; '.join(reasons)[:400]}); export it at its own fixed size")


def _rebuilt(model: Any, runner: OnnxGraph, x: Tensor, expected: Tensor) -> nn.Module:
    """The graph in torch where it can be rebuilt and gives the same values, else behind onnxruntime."""
    try:
        rebuilt = _in_torch(model)
        with torch.inference_mode():
            output = rebuilt(x)
        if not _same(output, expected):
            raise ValueError("its torch form gives other values")
    except Exception as error:  # the converter knows a part of the operators
        runner._why = _line(error)
        return runner.eval()
    return rebuilt


def _same(output: Tensor, expected: Tensor) -> bool:
    peak = max(1.0, float(expected.abs().max()))
    return output.shape == expected.shape and float((output - expected).abs().max()) <= _TOLERANCE * peak


def _opset(model: Any) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def _portable(model: Any, path: Path, outside: bool, x: Tensor, expected: Tensor) -> Path:
    """The file whose graph goes into others: the one given, or a copy that lives as long as this process.

    A copy is made where the weights lie ``outside`` the file, and where its operators are older than :data:`_OLDEST`
    and can be converted without changing its values.
    """
    import onnx

    if not outside and _opset(model) >= _OLDEST:
        return path.resolve()
    folder = Path(tempfile.mkdtemp(prefix="edgepress-onnx-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copied = folder / path.name
    if _opset(model) < _OLDEST:
        with contextlib.suppress(Exception):  # the converter knows most operators, not all
            onnx.save(onnx.version_converter.convert_version(model, _OLDEST), str(copied))
            if _same(OnnxGraph(copied, "")(x), expected):
                return copied
    if not outside:
        return path.resolve()
    onnx.save(model, str(copied))
    return copied


def _in_torch(model: Any) -> nn.Module:
    """The graph as torch modules, by onnx2torch; an operator version that it lacks is tried as its last one.

    Whoever calls compares the values, so a version that differs in meaning is found out.
    """
    torchvision_shim.need("onnx2torch")
    import onnx2torch.converter as converter

    strict = converter.get_converter

    def lenient(operation_type: str, version: int, domain: str = "") -> Any:
        for candidate in range(version, 0, -1):
            try:
                return strict(operation_type=operation_type, version=candidate, domain=domain)
            except NotImplementedError as error:
                last = error
        raise last

    converter.get_converter = lenient
    plain = copy.deepcopy(model)
    for node in plain.graph.node:  # torch writes allowzero=1 everywhere; it means something for empty tensors only
        kept = [a for a in node.attribute if not (node.op_type == "Reshape" and a.name == "allowzero")]
        del node.attribute[:]
        node.attribute.extend(kept)
    try:
        rebuilt: nn.Module = converter.convert(plain).eval()
        return rebuilt
    finally:
        converter.get_converter = strict


SOURCES.add("onnx")(OnnxFile())
