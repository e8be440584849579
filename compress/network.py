"""What flows through a run: a network, and what the rest of the house must know about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from compress.errors import UsageError
from export.lut.network import tables_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.source import Request
    from compress.task import Data, Task
    from compress.workshop import Workshop
    from export.lut.network import Tables
    from export.policy import QuantPolicy

__all__ = [
    "CLASSIFICATION",
    "RESTORATION",
    "SUPER_RESOLUTION",
    "Family",
    "Method",
    "Network",
    "Source",
    "TaskFactory",
    "WeightsSource",
]

SUPER_RESOLUTION = "super-resolution"
RESTORATION = "restoration"
CLASSIFICATION = "classification"


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights came from."""

    path: Path | None
    """None: random values, or weights that another library fetched."""
    sha256: str
    """Of the file; of the tensors where there is none."""
    builtin: bool
    random: bool = False
    """Never trained: speed, size and operators mean something, scores do not."""


@dataclass(frozen=True)
class Network:
    """A torch module and its contract.

    The module maps (N, channels, H, W) in [0, 1] to (N, channels, scale*H, scale*W), nominally in [0, 1], or,
    for classification, to logits (N, classes); the normalisation that its training used is inside.
    """

    name: str
    module: nn.Module
    scale: int
    """1 but for super-resolution."""
    channels: int
    weights: WeightsSource
    policy: QuantPolicy | None = None
    """How to quantize it on export; None leaves it in float."""
    task: str = SUPER_RESOLUTION
    unit: int = 1
    """Sides of the input must be multiples of this."""
    input_size: tuple[int, int] | None = None
    """The one (height, width) it takes; None: any."""
    classes: int | None = None
    """Length of the output vector; None: an image comes out."""
    crop_share: float = 0.875
    """Classification: the part of a photograph's shorter side that the centre crop keeps (timm's crop_pct)."""
    graph: Path | None = None
    """The ONNX file that the module stands for; a method that changes the module must set it to None."""

    @property
    def tables(self) -> Tables | None:
        """The look-up tables that the module consists of, which are integers already; None for every other network."""
        return tables_of(self.module)

    @property
    def size(self) -> int:
        """Numbers that were learned: parameters, or entries of tables."""
        return self.tables.table_bytes if self.tables else sum(p.numel() for p in self.module.parameters())

    def ensure_quantizable(self) -> None:
        """Refuse to quantize look-up tables.

        Raises:
            UsageError: it consists of them.
        """
        if self.tables is not None:
            raise UsageError(
                f"{self.name} consists of look-up tables, which are integers already: nothing is left to quantize; "
                "--recipe tables writes them as they are"
            )


@dataclass(frozen=True)
class Family:
    """A registered model: how to make its module fresh, and from the tensors of a checkpoint.

    Modules carry what their tensors do not say as plain attributes: ``scale`` (super-resolution),
    ``classes`` (classification) and, where it is not 3, ``channels``.
    """

    title: str
    """One line: what it is, and the paper."""
    task: str
    build: Callable[..., nn.Module]
    """The training form with fresh values that follow torch's global seed, in training mode.  Takes ``scale``
    (super-resolution) or ``classes`` and ``channels`` (classification) and the family's own sizes, all by
    keyword and with the published values as defaults.  Blocks with a merged form offer ``merge()``."""
    from_state: Callable[[Mapping[str, Tensor], Path], nn.Module]
    """The loaded module in evaluation mode, its sizes read off the tensors; the path is for messages.  Raises
    WeightsError for tensors of another network, or missing, extra and wrongly shaped ones."""
    marks: tuple[str, ...]
    """Names of tensors which, all present, tell a checkpoint of this family; ``a|b``: either."""
    builtin: Path | None = None
    """Weights that ship with the package."""
    unit: int = 1
    """Sides of the input must be multiples of this."""
    input_size: tuple[int, int] | None = None
    """Classification: the size the published weights take."""
    crop_share: float = 0.875

    def recognises(self, state: Mapping[str, object]) -> bool:
        """Whether tensors of these names are this family's."""
        return all(any(name in state for name in mark.split("|")) for mark in self.marks)


class Method(Protocol):
    """A registered method: a frozen dataclass whose fields are the recipe and whose call does the work."""

    __doc__: str | None
    # A method that changes what the network computes, in float, says ``lossy: ClassVar[bool] = True``, and runs score
    # the network after it; one that puts another network in its place says ``replaces`` too.

    def __call__(self, network: Network, task: Task, workshop: Workshop = ...) -> Network:
        """A changed network; the one given is left as it was.

        Raises:
            UsageError: the method is for another kind of network or task.
        """
        ...


class TaskFactory(Protocol):
    """A registered task: builds the task for a network."""

    __doc__: str | None

    def __call__(self, network: Network, data: Data) -> Task:
        """The task on the user's images, or on the built-in ones."""
        ...


class Source(Protocol):
    """A registered kind of model: what ``--model`` may name."""

    __doc__: str | None

    def accepts(self, model: str) -> bool:
        """Whether the text names one of this kind."""
        ...

    def load(self, request: Request) -> Network:
        """The network, in evaluation mode."""
        ...
