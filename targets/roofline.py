"""The time of a network from its operators: a roofline for each, summed over the sequence.

With compute time C/R and memory time B/W of each operator, a network takes T = sum of max(C/R, B/W), which is the
waterline of a sequence of kernels (Lavin, arXiv:2404.03617; the form is derived in that paper's terms), and to it
come a launch for each operator and a fixed cost:

    T = fixed + sum over operators of launch + max(MACs / (rate of the kind * utilisation), memory)
    memory = weights / weight bandwidth + activations / on-chip bandwidth + spilled / off-chip bandwidth
    spilled = max(0, read + written - on-chip size)

Utilisation is the share of a channel block that holds channels, C / (align * ceil(C / align)), for input and output
channels of dense convolutions.  The spilled part is what bends the law of small frames at large ones: on a
Snapdragon 8 Gen 3, EDSR at 960 x 540 takes 6.13 ms where a line through small frames says 2.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.errors import TargetError
from targets.workload import KINDS, Workload

__all__ = ["BYTES", "GROUPS", "Columns", "Roofline", "columns", "operator_ms", "predict_ms"]

Array = NDArray[np.float64]

BYTES: Mapping[str, tuple[float, float]] = {
    "float32": (4, 4),
    "float": (2, 2),  # AI Hub's name for networks given in float; its NPUs compute in fp16
    "float16": (2, 2),
    "int8": (1, 1),
    "w8a8": (1, 1),
    "w8a16": (1, 2),
}
"""Dtype to bytes of a weight and of an activation."""

GROUPS = ("dense", "depthwise", "grouped", "product", "vector", "complex", "concat")
"""Kinds of operator that share a rate."""

_GROUP_OF = {
    **dict.fromkeys(("conv", "pointwise", "transposed", "volumetric", "linear"), "dense"),
    "depthwise": "depthwise",
    "grouped": "grouped",
    "matmul": "product",
    **dict.fromkeys(("elementwise", "pool", "layout", "resize"), "vector"),
    "concat": "concat",
    **dict.fromkeys(("activation", "normalise", "softmax"), "complex"),
}


@dataclass(frozen=True)
class Roofline:
    """The coefficients of one device, runtime and dtype; all positive."""

    fixed_us: float
    """Of one inference."""
    launch_us: float
    """Of one operator."""
    dense_gmacs: float
    """Giga-MACs a second of convolutions and linear layers."""
    depthwise_gmacs: float
    """Of depthwise convolutions."""
    grouped_gmacs: float
    """Of convolutions of more than one channel a group."""
    product_gmacs: float
    """Of products of two activations."""
    vector_gnumbers: float
    """Giga-numbers read a second by additions, pooling, concatenations and the like."""
    complex_gnumbers: float
    """The same of normalisations, softmax and activations with exponentials."""
    concat_gnumbers: float
    """The same of concatenations, which a compiler can leave out by writing the parts where they belong."""
    on_chip_gbytes: float
    """Gigabytes a second of activations that stay on the chip."""
    off_chip_gbytes: float
    """Of the part that does not fit."""
    weight_gbytes: float
    """Of weights."""
    on_chip_mbytes: float
    """Megabytes of one operator's input and output that stay on the chip."""
    align_in: int = 1
    """Input channels come in blocks of so many."""
    align_out: int = 1
    """Output channels come in blocks of so many."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise TargetError(f"roofline: {name} is {value}, expected more than 0; fit the coefficients again")

    @classmethod
    def from_json(cls, values: Mapping[str, float]) -> Roofline:
        """Coefficients by name.

        Raises:
            TargetError: a name is missing or unknown.
        """
        known = {f.name for f in fields(cls)}
        if set(values) != known:
            wrong = ", ".join(sorted(known ^ set(values)))
            raise TargetError(f"roofline: coefficients missing or unknown: {wrong}; fit them again")
        whole = ("align_in", "align_out")
        return cls(**{k: int(v) if k in whole else float(v) for k, v in values.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Columns:
    """The operators of a workload as arrays."""

    macs: Array
    read: Array
    moved: Array
    weights: Array
    into: Array
    out: Array
    group: NDArray[np.intp]
    """Place in :data:`GROUPS`."""
    kind: NDArray[np.intp]
    """Place in :data:`~targets.workload.KINDS`."""
    starts: NDArray[np.intp]
    """Where each network begins; several can be held one behind the other."""

    @classmethod
    def joined(cls, several: Sequence[Columns]) -> Columns:
        """Networks one behind the other."""
        lengths = [len(c.macs) for c in several]
        starts = np.cumsum([0, *lengths[:-1]]).astype(np.intp)
        names = [f.name for f in fields(cls) if f.name != "starts"]
        parts: dict[str, Any] = {name: np.concatenate([getattr(c, name) for c in several]) for name in names}
        return cls(**parts, starts=starts)


def columns(workload: Workload) -> Columns:
    """The operators as arrays."""
    ops = workload.operators

    def of(name: str) -> Array:
        return np.array([getattr(o, name) for o in ops], float)

    group = np.array([GROUPS.index(_GROUP_OF[o.kind]) for o in ops], np.intp)
    kind = np.array([KINDS.index(o.kind) for o in ops], np.intp)
    moved = of("read") + of("written")
    into, out = of("channels_in"), of("channels_out")
    return Columns(of("macs"), of("read"), moved, of("weights"), into, out, group, kind, np.zeros(1, np.intp))


def operator_ms(line: Roofline, ops: Columns, dtype: str) -> tuple[Array, Array]:
    """(compute, memory) of every operator, milliseconds; launches and the fixed cost not included.

    Raises:
        TargetError: an unknown dtype.
    """
    if dtype not in BYTES:
        raise TargetError(f"dtype {dtype!r} is unknown to the roofline; known: {', '.join(BYTES)}")
    of_weight, of_number = BYTES[dtype]
    blocks_in, blocks_out = np.ceil(ops.into / line.align_in), np.ceil(ops.out / line.align_out)
    filled = ops.into * ops.out / (blocks_in * line.align_in * blocks_out * line.align_out)
    rates = np.array([line.dense_gmacs, line.depthwise_gmacs, line.grouped_gmacs, line.product_gmacs, 1.0, 1.0, 1.0])
    work = np.where(ops.group == 0, ops.macs / filled, ops.macs) / rates[ops.group]
    work = np.where(ops.group == 4, ops.read / line.vector_gnumbers, work)
    work = np.where(ops.group == 5, ops.read / line.complex_gnumbers, work)
    work = np.where(ops.group == 6, ops.read / line.concat_gnumbers, work)
    moved = ops.moved * of_number
    spilled = np.maximum(moved - line.on_chip_mbytes * 1e6, 0.0)
    on_chip = np.where(ops.group == 6, 0.0, moved / line.on_chip_gbytes)
    memory = ops.weights * of_weight / line.weight_gbytes + on_chip + spilled / line.off_chip_gbytes
    return work * 1e-6, memory * 1e-6


def predict_ms(line: Roofline, ops: Columns, dtype: str) -> Array:
    """Milliseconds of every network."""
    work, memory = operator_ms(line, ops, dtype)
    counts = np.diff([*ops.starts, len(ops.macs)])
    launches = line.fixed_us + line.launch_us * counts
    return np.asarray(np.add.reduceat(np.maximum(work, memory), ops.starts) + launches * 1e-3, float)
