"""Networks of the zoo, built from a family and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.errors import UsageError, WeightsError
from compress.network import CLASSIFICATION, SUPER_RESOLUTION, Family, Network, WeightsSource
from compress.registry import MODELS
from compress.weights import header, read, sha256
from export.tiling import round_up

if TYPE_CHECKING:
    from torch import nn

__all__ = ["fingerprint", "fresh", "load", "recognise", "wrap"]

_TRIAL = (24, 32)  # of networks that take any size


def load(name: str, weights: Path | None = None, scale: int | None = None) -> Network:
    """A family's network with the weights of a file, or with the built-in ones.

    Raises:
        UsageError: no such family.
        WeightsError: no weights given and none built in; unreadable weights, weights of another network, or of
            another scale than asked for.
    """
    family = MODELS[name]
    path = weights or family.builtin
    if path is None:
        raise WeightsError(
            f"{name} has no built-in weights: give --weights FILE, or --random to look at its speed, size and operators"
        )
    module = _module(family, path)
    found = getattr(module, "scale", 1)
    if scale is not None and scale != found:
        cure = f"drop --scale, or give x{scale} weights with --weights"
        if weights is None:
            cure = f"built in is x{found} only: give --weights"
        raise WeightsError(f"weights {path} are for scale {found}, --scale asks for {scale}; {cure}")
    return wrap(name, family, module, WeightsSource(path, sha256(path), builtin=weights is None))


def _module(family: Family, path: Path) -> nn.Module:
    """The module of a file; where channels were cut, the family reads its sizes off the shapes before."""
    state, shapes = read(path), header(path).get("widths")
    if shapes is None:
        return family.from_state(state, path)
    from compress.channels.widths import fitted, widen

    module = family.from_state(widen(state, shapes, path), path)
    height, width = getattr(module, "input_size", family.input_size) or round_up(_TRIAL, family.unit)
    return fitted(module, state, path, (1, getattr(module, "channels", 3), height, width))


def fresh(name: str, scale: int | None = None, seed: int = 0, **sizes: Any) -> Network:
    """A family's network with random values, in the form that training starts from.

    Raises:
        UsageError: no such family, or sizes that it does not have.
    """
    import torch

    family = MODELS[name]
    if family.task == SUPER_RESOLUTION and scale is not None:
        sizes["scale"] = scale
    elif scale not in (None, 1):
        raise UsageError(f"{name} does not enlarge images, --scale asks for {scale}; drop --scale")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = family.build(**sizes).eval()
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # torch raises the last for sizes < 0
            raise UsageError(f"model {name}: {error}") from None
    return wrap(name, family, module, WeightsSource(None, fingerprint(module), builtin=False, random=True))


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the names and bytes of all tensors, for weights that came from no file."""
    total = hashlib.sha256()
    for key, value in module.state_dict().items():
        total.update(key.encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).numpy().tobytes())
    return total.hexdigest()


def wrap(name: str, family: Family, module: nn.Module, weights: WeightsSource) -> Network:
    """A module of a family as a network, its contract read off the module's attributes."""
    classify = family.task == CLASSIFICATION
    return Network(
        name=name,
        module=module,
        scale=getattr(module, "scale", 1),
        channels=getattr(module, "channels", 3),
        weights=weights,
        task=family.task,
        unit=family.unit,
        input_size=getattr(module, "input_size", family.input_size) if classify else None,
        classes=getattr(module, "classes", None),
        crop_share=family.crop_share,
    )


def recognise(state: Mapping[str, object]) -> str | None:
    """The family whose checkpoint has tensors of these names; None where there is none."""
    return next((name for name in MODELS if MODELS[name].recognises(state)), None)
