"""What the families of table networks share: layouts, and their checkpoints in both forms.

The training form's tensors are the small networks'; once written out, a network is one tensor, the bytes of its
``.lut`` file (export/lut/container.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.models import _separable, _tables
from compress.models._simplex import Grid
from compress.models._tables import Branch, Layer, TableNetwork, Unit
from compress.models._taps import Plain, Sampled, pattern_taps
from compress.models._written import Written, file_key, of_file
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into
from export.errors import ExportError
from export.lut.network import PATTERNS, Band, Tables
from export.separable.network import Separable

__all__ = ["Reading", "Sizes", "StageLayout", "add_family", "built", "known_patterns", "trainable"]

_NEAR = 2  # nodes around the diagonal that DFC keeps; of the others, every second one


@dataclass(frozen=True)
class Reading:
    """One table: its pattern, the plane, and the plane that the last stage read."""

    pattern: str
    plane: int
    before: int | None = None


@dataclass(frozen=True)
class StageLayout:
    """One stage."""

    layer: Layer
    outputs: int
    readings: tuple[Reading, ...] = ()
    across: tuple[int, ...] = ()
    """Planes that a single table reads at the pixel itself, instead of patterns."""


@dataclass(frozen=True)
class Sizes:
    """What the small networks and the tables are like."""

    width: int = 64
    depth: int = 4
    interval_bits: int = 4
    window: int = 0
    """Side of the samplers' windows (AutoSample); 0: plain taps."""
    mix: bool = False
    """Whether samplers mix in the plane that the last stage read (AdaRL)."""
    band: bool = False
    """Whether tables are kept near the diagonal only, and coarse elsewhere (DFC)."""

    def checked(self, patterns: str) -> Sizes:
        """These sizes.

        Raises:
            ValueError: some make no network.
        """
        ranges = {"width": (1, 1024), "depth": (0, 16), "interval_bits": (3, 6)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} to {most}")
        reach = 1 + max(max(place) for pattern in patterns for place in PATTERNS[pattern])
        if self.window and not reach <= self.window <= 9:
            raise ValueError(f"window is {self.window}, expected 0 or {reach} to 9")
        if self.mix and not self.window:
            raise ValueError("mix without a window; set window = 3 or 5")
        if self.band and any(len(PATTERNS[pattern]) != 4 for pattern in patterns):
            raise ValueError("band needs patterns of 4 taps")
        return self


def known_patterns(patterns: str) -> Sequence[str]:
    """The letters of some patterns.

    Raises:
        ValueError: unknown ones, or none.
    """
    known = [name for name in PATTERNS if len(name) == 1]
    if not patterns or any(letter not in known for letter in patterns):
        raise ValueError(f"patterns is {patterns!r}, expected letters of {''.join(known)}")
    return patterns


def built(name: str, stages: Sequence[StageLayout], sizes: Sizes, padding: str = "replicate") -> TableNetwork:
    """The training form with fresh values."""
    branches = [
        [_branch(stage, reading, sizes) for reading in stage.readings] or [_across(stage, sizes)] for stage in stages
    ]
    return TableNetwork(name, [stage.layer for stage in stages], branches, padding).train()


def _branch(stage: StageLayout, reading: Reading, sizes: Sizes) -> Branch:
    reader = pattern_taps(reading.pattern, reading.plane, reading.before if sizes.mix else None, sizes.window)
    taps, layer = len(PATTERNS[reading.pattern]), stage.layer
    grid = Grid(taps, sizes.interval_bits, Band(_NEAR, sizes.interval_bits + 1) if sizes.band else None)
    skip = torch.zeros(stage.outputs, taps + 1)
    skip[:, 0], skip[:, -1] = 1.0 if layer.bias else 1.0 / layer.rotations, -float(layer.bias)
    return Branch(reader, Unit(skip, sizes.width, sizes.depth), grid)


def _across(stage: StageLayout, sizes: Sizes) -> Branch:
    taps = len(stage.across)
    reader = Plain([(plane, 0, 0) for plane in stage.across])
    skip = torch.cat([torch.eye(stage.outputs, taps), torch.full((stage.outputs, 1), -float(stage.layer.bias))], 1)
    return Branch(reader, Unit(skip, sizes.width, sizes.depth), Grid(taps, sizes.interval_bits))


Training = Callable[[str, Tensor, Mapping[str, Tensor]], nn.Module]


def trainable(network: Tables) -> nn.Module:
    """A network of tables whose entries, and samplers where there are, can be trained."""
    return _separable.written_out(network) if isinstance(network, Separable) else _tables.written_out(network)


def add_family(name: str, title: str, build: Callable[..., nn.Module], trained: Training | None = None) -> None:
    """Register a family of table networks; ``trained`` makes the training form of a checkpoint's layout and tensors."""

    def from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
        return _loaded(name, state, path, trained)

    marks = (f"{name}_layout|{name}_file",)
    MODELS.add(name)(Family(title=title, task=SUPER_RESOLUTION, build=build, from_state=from_state, marks=marks))


def _loaded(name: str, state: Mapping[str, Tensor], path: Path, trained: Training | None) -> nn.Module:
    """The network of a checkpoint, in the form that it was saved in.

    Raises:
        WeightsError: tensors of something else.
    """
    written = state.get(file_key(name))
    if written is not None and len(state) == 1:
        return Written(of_file(name, written, path)).eval()
    layout = state.get(f"{name}_layout")
    if layout is None or layout.dim() != 2 or layout.shape[1] != 5:
        found = ", ".join(list(state)[:6])
        raise WeightsError(f"weights {path} are not {name}'s: expected {name}_layout; found {found}; choose --model")
    try:
        module = (trained or _saved)(name, layout, state)
    except (KeyError, ValueError, IndexError, TypeError, RuntimeError, ExportError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"weights {path}: no {name} network can be made of them ({reason})") from None
    load_into(module, state, path)
    return module.eval()


def _saved(name: str, layout: Tensor, state: Mapping[str, Tensor]) -> nn.Module:
    """The training form of networks with stages."""
    layers = [Layer(*row[:4]) for row in layout.tolist()]
    branches = [_saved_stage(number, state) for number in range(len(layers))]
    return TableNetwork(name, layers, branches, "reflect" if int(layout[0, 4]) else "replicate")


def _saved_stage(number: int, state: Mapping[str, Tensor]) -> list[Branch]:
    """The tables of a stage."""
    places = {int(key.split(".")[2]) for key in state if key.startswith(f"stages.{number}.")}
    return [_saved_branch(f"stages.{number}.{place}.", state) for place in range(max(places) + 1)]


def _saved_branch(prefix: str, state: Mapping[str, Tensor]) -> Branch:
    taps, bits, width, coarse = state[f"{prefix}shape"].tolist()
    places, logits = state[f"{prefix}reader.places"], state.get(f"{prefix}reader.logits")
    reader = Plain(places.tolist()) if logits is None else Sampled(places.tolist(), logits)
    grid = Grid(taps, bits, Band(width, coarse) if width else None)
    skip, first = state[f"{prefix}contents.skip"], state[f"{prefix}contents.layers.0.weight"]
    depth = sum(key.startswith(f"{prefix}contents.layers.") for key in state) // 2 - 1
    return Branch(reader, Unit(skip, first.shape[0], depth), grid)
