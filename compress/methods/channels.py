"""Pruning of whole channels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.channels.graph import Dependencies
from compress.channels.importance import scores
from compress.channels.selection import Budget
from compress.channels.trial import pruned
from compress.channels.widths import fitted, save
from compress.errors import UsageError
from compress.methods._sparsity import Masks, shaped
from compress.methods.reparameterize import merged
from compress.network import Network
from compress.registry import METHODS
from compress.weights import read
from compress.workshop import ALONE, Workshop
from export.tiling import round_up

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Channels"]

_EXAMPLE = (24, 32)  # an input of networks that take any size
_SIDE = 48  # of the inputs that gradients are taken on


@METHODS.add("channels")
@dataclass(frozen=True)
class Channels:
    """Cut whole channels, those that matter least first, and train the smaller network towards the whole one.

    Dependency groups (Fang et al., arXiv:2301.12900), one ranking for the whole network; see docs/pruning.md.  It
    trains on the calibration images; ``steps = 0`` trains nothing.
    """

    lossy: ClassVar[bool] = True
    share: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.3
    """Of the cost that goes."""
    budget: Literal["macs", "bytes", "channels"] = "macs"
    importance: Literal["l1", "l2", "taylor", "fisher"] = "taylor"
    align: Annotated[int, pydantic.Field(ge=1)] = 1
    """Layers that are cut keep a multiple of it: 8, 16 or 32 where the target counts in those."""
    most: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.9
    """The largest share of a layer's channels that may go."""
    skip: tuple[str, ...] = ()
    """Patterns of layers whose channels stay, such as ``*tail*``."""
    samples: Annotated[int, pydantic.Field(ge=1)] = 16
    """Calibration inputs that ``taylor`` and ``fisher`` look at."""
    steps: Annotated[int, pydantic.Field(ge=0)] = 6_000
    batch: Annotated[int, pydantic.Field(ge=1)] = 16
    crop: Annotated[int, pydantic.Field(ge=16)] = 48
    loss: Literal["l1", "l2", "charbonnier"] = "l1"
    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 5e-4
    teacher_weight: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    shrink: tuple[float, ...] = (1.0, 0.8, 0.6)
    validate_every: Annotated[int, pydantic.Field(ge=1)] = 1000

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The smaller network, its blocks merged.

        Raises:
            UsageError: the network consists of tables, torch.export cannot follow it, or the share cannot go; a
                classifier, unless ``steps`` is 0.
            DataError: no image that is as large as a crop.
        """
        whole = merged(network.module).eval()
        if replace(network, module=whole).tables is not None:
            raise UsageError(f"{network.name} consists of look-up tables, which have no channels to cut")
        with workshop.place() as folder:
            file = folder / "channels.safetensors"
            if file.is_file():  # a run that goes on: the cut is the one that training began with
                small = fitted(whole, read(file), file, _shape(network))
            else:
                small = self._cut(network, whole, task, workshop.seed)
                folder.mkdir(parents=True, exist_ok=True)
                save(file, whole, small)
        smaller = replace(network, module=small.eval(), graph=None)
        if self.steps == 0:
            return smaller
        own = ("share", "budget", "importance", "align", "most", "skip", "samples")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        teacher = replace(workshop, teacher=workshop.teacher or replace(network, module=whole, graph=None))
        recovered = shaped(smaller, task, teacher, settings, Masks(()), scratch=False)
        if workshop.folder is not None:
            save(workshop.folder / "pruned.safetensors", whole, recovered.module)
        return recovered

    def _cut(self, network: Network, whole: nn.Module, task: Task, seed: int) -> nn.Module:
        x = torch.rand(_shape(network), generator=torch.Generator().manual_seed(0))
        budget = Budget(self.share, self.budget, self.align, self.most, self.skip)
        inputs: list[Tensor] = []
        if self.importance in ("taylor", "fisher"):
            side = round_up((_SIDE, _SIDE), network.unit)[0]
            images = task.calibration_inputs(self.samples, side, seed)
            inputs = [torch.from_numpy(np.ascontiguousarray(i.transpose(2, 0, 1)))[None] for i in images]

        def rank(found: Dependencies) -> NDArray[np.float64]:
            return scores(whole, found, self.importance, inputs, seed)

        try:
            return pruned(whole, x, rank, budget)
        except UsageError as error:
            raise UsageError(f"{network.name}: {error}") from None


def _shape(network: Network) -> tuple[int, int, int, int]:
    """Of a small input, (N, channels, H, W)."""
    return (1, network.channels, *(network.input_size or round_up(_EXAMPLE, network.unit)))
