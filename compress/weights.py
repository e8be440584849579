"""Reading and writing checkpoints: plain tensors only, nothing in a file is ever executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compress.errors import WeightsError
from export.artifact import digest as sha256
from export.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["load_into", "read", "sha256", "write"]

_WRAPPERS = ("params_ema", "params", "state_dict", "model")
_SHOWN = 10


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: ``.safetensors``, or anything ``torch.save`` wrote, with plain tensors.

    Wrappers of common training code (``params_ema``, ``params``, ``state_dict``, ``model``) and the
    ``module.`` prefix of data-parallel training are removed.  Pickles are read with ``weights_only=True``
    and never otherwise.

    Raises:
        WeightsError: missing, unreadable, truncated, not plain tensors, or NaN / infinite values.
    """
    import torch

    if not path.is_file():
        raise WeightsError(f"weights {path}: no such file; give a .safetensors or .pth file")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
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
