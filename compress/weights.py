"""Reading and writing checkpoints: plain tensors only, nothing in a file is ever executed."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.errors import WeightsError
from export.artifact import digest as sha256
from export.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["SUFFIXES", "header", "load_into", "read", "sha256", "write"]

SUFFIXES = (".pth", ".pt", ".th", ".ckpt", ".safetensors", ".h5", ".hdf5")
"""Of the files that hold a checkpoint."""
_WRAPPERS = ("params_ema", "params", "state_dict", "model")
_SHOWN = 10
_TFLITE_FLOAT32 = 0  # TensorType.FLOAT32 of the schema
_TFLITE_LAYERS = {  # BuiltinOperator of the schema: Keras's layer, its kernel, and the axes that give Keras's layout
    3: ("conv2d", "kernel", (1, 2, 3, 0)),
    4: ("depthwise_conv2d", "depthwise_kernel", (1, 2, 3, 0)),
    9: ("dense", "kernel", (1, 0)),
}


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: ``.safetensors``, or anything ``torch.save`` wrote, with plain tensors.

    Also of a Keras ``.h5`` file, under Keras's names and in its layouts (``conv2d/kernel`` is HWIO), and of a
    float ``.tflite`` file, whose layers get the names that Keras gives in order of execution: ``conv2d``,
    ``conv2d_1`` and so on; batch normalisation is folded into them.

    Wrappers of common training code (``params_ema``, ``params``, ``state_dict``, ``model``) and the
    ``module.`` prefix of data-parallel training are removed.  Pickles are read with ``weights_only=True``
    and never otherwise.

    Raises:
        WeightsError: missing, unreadable, truncated, not plain tensors, or NaN / infinite values.
    """
    import torch

    if not path.is_file():
        raise WeightsError(f"weights {path}: no such file; give a .safetensors or .pth file")
    readers = {".safetensors": _read_safetensors, ".h5": _read_keras, ".hdf5": _read_keras, ".tflite": _read_tflite}
    state = readers.get(path.suffix.lower(), _read_pickle)(path)
    for wrapper in _WRAPPERS:
        inner = state.get(wrapper)
        if isinstance(inner, Mapping):
            state = dict(inner)
            break
    tensors = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"weights {path}: no tensors inside, found keys {list(state)[:_SHOWN]}")
    try:
        tensors = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        bad = [k for k, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]
    except (NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"weights {path}: tensors of an unusual kind ({error}); save dense float32") from None
    if bad:
        raise WeightsError(
            f"weights {path}: NaN or infinite values in {_list(bad)}; the training run broke, use an earlier checkpoint"
        )
    return tensors


def header(path: Path) -> dict[str, str]:
    """What the header of a safetensors file says beside its tensors; nothing for other files."""
    if path.suffix.lower() != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _read_safetensors(path: Path) -> dict[str, object]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights {path}: not a readable safetensors file ({error}); fetch it again") from None


def _read_pickle(path: Path) -> dict[str, object]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(
            f"weights {path}: the pickle holds more than plain tensors, or is damaged; it was not executed. "
            f"Save a state dict (torch.save(model.state_dict(), ...)) or safetensors. ({reason})"
        ) from None
    except Exception as error:  # a damaged file makes the reader raise anything
        reason = (str(error) or type(error).__name__).split("\n", 1)[0]
        raise WeightsError(f"weights {path}: not a readable checkpoint ({reason}); fetch it again") from None
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"weights {path}: expected a dict of tensors, found {type(loaded).__name__}")
    return dict(loaded)


def _optional(module: str, extra: str, path: Path) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise WeightsError(
            f"weights {path}: to read {path.suffix} files, pip install 'edgepress[{extra}]' (found no {module})"
        ) from None


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error) or type(error).__name__).split("\n", 1)[0]


def _read_keras(path: Path) -> dict[str, object]:
    import torch

    h5py = _optional("h5py", "keras", path)
    state: dict[str, object] = {}

    def keep(name: str, item: Any) -> None:
        parts = name.split(":")[0].removeprefix("model_weights/").split("/")
        if not isinstance(item, h5py.Dataset) or parts[0] == "optimizer_weights":
            return
        if item.dtype.kind not in "fiu" or item.external or item.is_virtual:  # never bytes of another file
            return
        value = np.asarray(item[()])
        name = "/".join(parts[1:] if parts[0] in parts[1:2] else parts)
        state[name] = torch.from_numpy(np.array(value, value.dtype.newbyteorder("="), order="C"))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)  # follows no links
    except Exception as error:  # a damaged file makes the reader raise anything
        raise WeightsError(
            f"weights {path}: not a readable Keras .h5 file ({_reason(error)}); fetch it again"
        ) from None
    return state


def _read_tflite(path: Path) -> dict[str, object]:
    import torch

    tools = _optional("ai_edge_litert.tools.flatbuffer_utils", "tflite", path)
    try:
        model = tools.read_model(str(path))
        arrays = _tflite_arrays(model, path)
    except WeightsError:
        raise
    except Exception as error:  # a damaged file makes the reader raise anything
        raise WeightsError(f"weights {path}: not a readable .tflite file ({_reason(error)}); fetch it again") from None
    return {name: torch.from_numpy(np.array(value, np.float32, order="C")) for name, value in arrays.items()}


def _tflite_arrays(model: Any, path: Path) -> dict[str, np.ndarray]:
    """Kernels and biases by Keras's names and in its layouts; other constants by their own names."""
    graph, arrays, count = model.subgraphs[0], {}, dict.fromkeys(_TFLITE_LAYERS, 0)
    constants = {
        number: np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).reshape(tensor.shape)
        for number, tensor in enumerate(graph.tensors)
        if tensor.type == _TFLITE_FLOAT32 and model.buffers[tensor.buffer].data is not None
    }
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        number = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))
        if number not in _TFLITE_LAYERS:
            continue
        layer, kernel, axes = _TFLITE_LAYERS[number]
        layer += f"_{count[number]}" if count[number] else ""
        count[number] += 1
        if int(op.inputs[1]) not in constants:
            raise WeightsError(f"weights {path}: the kernel of {layer} is not float32; give the float .tflite file")
        arrays[f"{layer}/{kernel}"] = constants.pop(int(op.inputs[1])).transpose(axes)
        if int(op.inputs[-1]) in constants and len(op.inputs) > 2:
            arrays[f"{layer}/bias"] = constants.pop(int(op.inputs[-1]))
    return arrays | {graph.tensors[number].name.decode(): value for number, value in constants.items()}


def load_into(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy the tensors into the module; every key and every shape must match.

    Raises:
        WeightsError: lists the missing, unexpected and wrongly shaped tensors, at most ten of each.
    """
    own = module.state_dict()
    missing = [k for k in own if k not in state]
    extra = [k for k in state if k not in own]
    shapes = [
        f"{k} (found {tuple(state[k].shape)}, expected {tuple(own[k].shape)})"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    found = [("missing", missing), ("unexpected", extra), ("wrong shape", shapes)]
    if any(names for _, names in found):
        detail = "; ".join(f"{what}: {_list(names)}" for what, names in found if names)
        raise WeightsError(
            f"weights {path} do not fit {type(module).__name__}: {detail}; "
            "check --model and --scale against the checkpoint"
        )
    module.load_state_dict(dict(state))


def write(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write safetensors with a metadata header, appearing under its name only when complete."""
    from safetensors.torch import save_file

    with atomic_path(path) as part:
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, part, dict(metadata))
        part.chmod(0o644)  # the writer leaves it readable to its owner alone


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
