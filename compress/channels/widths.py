"""Widths of layers: a module made as narrow as given tensors, and the file that it is kept in."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.channels.calls import follow
from compress.errors import WeightsError
from compress.weights import load_into, write

__all__ = ["KEY", "fitted", "resized", "save", "shapes_before", "widen"]

KEY = "widths"
"""Of the header of a safetensors file: the shapes before the cut of the tensors that were cut, as JSON."""


def resized(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a module with other tensors, and the sizes in its layers that follow from them."""
    module = copy.deepcopy(module)
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    names: dict[str, int] = {}
    for prefix, part in module.named_modules():
        for own, old in (*part._parameters.items(), *part._buffers.items()):
            if old is not None:
                owners.setdefault(id(old), []).append((part, own))
                names[f"{prefix}.{own}" if prefix else own] = id(old)
    new: dict[int, Tensor] = {}
    for name, value in tensors.items():
        for part, own in owners[names[name]]:  # a tensor that several layers share stays one
            if own in part._parameters:
                value = new.setdefault(names[name], nn.Parameter(value))
            setattr(part, own, value)
    for part in module.modules():
        _describe(part)
    return module


_SIZES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("out_features", "in_features"),
    nn.BatchNorm1d: ("num_features",),
    nn.BatchNorm2d: ("num_features",),
    nn.GroupNorm: ("num_channels",),
    nn.PReLU: ("num_parameters",),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
}
"""The attributes that repeat the shape of a layer's weight."""


def _describe(layer: nn.Module) -> None:
    """Let a layer say the sizes that its tensors have."""
    weight: Any = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        return
    sizes: dict[str, Any] = {}
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        depthwise = layer.groups == layer.in_channels and layer.groups > 1
        groups = len(weight) // (layer.out_channels // layer.in_channels) if depthwise else layer.groups
        sizes = {"out_channels": len(weight), "groups": groups, "in_channels": weight.shape[1] * groups}
    elif isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d)):
        sizes = {"in_channels": len(weight), "out_channels": weight.shape[1] * layer.groups}
    elif isinstance(layer, nn.LayerNorm):
        sizes = {"normalized_shape": tuple(weight.shape)}
    else:
        names = next((names for kind, names in _SIZES.items() if isinstance(layer, kind)), ())
        sizes = dict(zip(names, weight.shape, strict=False))  # no names: of another kind
    for name, value in sizes.items():
        setattr(layer, name, value)


def shapes_before(before: nn.Module, after: nn.Module) -> str:
    """The shapes before the cut of all tensors that were cut, as JSON."""
    old, new = before.state_dict(), after.state_dict()
    return json.dumps({k: list(v.shape) for k, v in old.items() if v.shape != new[k].shape})


def save(path: Path, before: nn.Module, after: nn.Module) -> None:
    """Write a cut module; the file appears when it is complete."""
    header = {"format": "edgepress-weights-1", KEY: shapes_before(before, after), "torch": str(torch.__version__)}
    write(path, after.state_dict(), header)


def widen(state: Mapping[str, Tensor], shapes: str, path: Path) -> dict[str, Tensor]:
    """Zeros of the shapes that the tensors of a file had before the cut; the others as they are.

    Raises:
        WeightsError: the header does not say shapes, or names other tensors than the file holds.
    """
    try:
        old = {str(k): tuple(int(n) for n in v) for k, v in json.loads(shapes).items()}
    except (ValueError, TypeError, AttributeError):
        raise WeightsError(
            f"weights {path}: its header's {KEY} are no shapes by tensor; write the file again"
        ) from None
    for name, shape in old.items():
        if (
            name not in state
            or state[name].dim() != len(shape)
            or any(n > m for n, m in zip(state[name].shape, shape, strict=True))
        ):
            found = tuple(state[name].shape) if name in state else "no such tensor"
            raise WeightsError(
                f"weights {path}: {name} was cut from {shape} by its header, found {found}; the header is of another "
                "file: write it again"
            )
    return {k: torch.zeros(old[k], dtype=v.dtype) if k in old else v for k, v in state.items()}


def fitted(dense: nn.Module, state: Mapping[str, Tensor], path: Path, shape: tuple[int, ...]) -> nn.Module:
    """A module of the shapes before the cut, made as narrow as the tensors of a file, with their values.

    Args:
        dense: before the cut; left as it is.
        state: what the file holds.
        path: of the file, for messages.
        shape: of an input, (N, channels, H, W), on which the widths are tried.

    Raises:
        WeightsError: the tensors do not fit together, by layer.
    """
    own = dense.state_dict()
    module = resized(dense, {k: torch.empty_like(v) for k, v in state.items() if k in own and own[k].shape != v.shape})
    load_into(module, state, path)
    trial = copy.deepcopy(module).eval()
    running = follow(trial)
    try:
        with torch.no_grad():
            trial(torch.zeros(shape))
    except Exception as error:  # networks raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        layer = running[-1] if running else "(network)"
        raise WeightsError(
            f"weights {path}: the widths do not fit together at layer {layer}: {reason}; the tensors are of another "
            "cut than its neighbours': write the file again"
        ) from None
    return module.eval()
