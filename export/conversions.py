"""Conversions of a module that were made before in this process: float32 and int8 files start from the same graph."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from torch import nn

__all__ = ["once"]

_made: WeakKeyDictionary[nn.Module, dict[Hashable, bytes]] = WeakKeyDictionary()


def once(module: nn.Module, settings: Hashable, path: Path, work: Callable[[], None]) -> None:
    """Let ``work`` write the file, or write what it wrote before for the same module, values and settings.

    The files of a module are dropped with it.

    Args:
        module: what is converted; any change of its tensors or its printed structure counts as another one.
        settings: whatever else decides the file.
        path: the file; ``work`` writes just this one.
        work: converts.
    """
    kept = _made.setdefault(module, {})
    key = (settings, _state(module))
    if key not in kept:
        work()
        kept[key] = path.read_bytes()
    else:
        path.write_bytes(kept[key])


def _state(module: nn.Module) -> str:
    """Of all tensors, also those that no checkpoint holds, and the module's structure."""
    total = hashlib.sha256(repr(module).encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).numpy().tobytes())
    return total.hexdigest()
