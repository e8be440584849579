"""What a network asks of a device: its operators, each with its multiply-accumulates and the numbers it moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from targets.errors import TargetError

__all__ = ["KINDS", "Operator", "Workload", "from_json", "to_json"]

KINDS = (
    "conv",
    "pointwise",
    "grouped",
    "depthwise",
    "transposed",
    "volumetric",
    "linear",
    "matmul",
    "elementwise",
    "activation",
    "normalise",
    "softmax",
    "pool",
    "resize",
    "layout",
    "concat",
)
"""Every kind of operator that is told apart."""


@dataclass(frozen=True)
class Operator:
    """One operator, after normalisation and simple activations have been folded into the layer before them."""

    kind: str
    """One of :data:`KINDS`."""
    macs: int
    """Multiply-accumulates."""
    read: int
    """Numbers of activations that it reads."""
    written: int
    """Numbers that it writes."""
    weights: int = 0
    """Constant numbers that it reads."""
    channels_in: int = 1
    """Of one group."""
    channels_out: int = 1
    """Of one group."""
    taps: int = 1
    """Entries of the kernel in space."""
    groups: int = 1


@dataclass(frozen=True)
class Workload:
    """A network at one input size."""

    name: str
    input_shape: tuple[int, ...]
    """N first, then channels."""
    operators: tuple[Operator, ...]
    """In the order of execution."""

    @property
    def macs(self) -> int:
        """Of all operators."""
        return sum(o.macs for o in self.operators)

    @property
    def traffic(self) -> int:
        """Numbers of activations read and written."""
        return sum(o.read + o.written for o in self.operators)

    @property
    def weights(self) -> int:
        """Constant numbers read."""
        return sum(o.weights for o in self.operators)


_FIELDS = ("kind", "macs", "read", "written", "weights", "channels_in", "channels_out", "taps", "groups")


def to_json(workload: Workload) -> dict[str, object]:
    """Lists of plain values."""
    rows = [[getattr(o, f) for f in _FIELDS] for o in workload.operators]
    return {"name": workload.name, "input_shape": list(workload.input_shape), "operators": rows}


def from_json(values: Mapping[str, object]) -> Workload:
    """What :func:`to_json` wrote.

    Raises:
        TargetError: an operator of an unknown kind, or a row of another length.
    """
    rows, shape = values.get("operators"), values.get("input_shape")
    if not isinstance(rows, Sequence) or not isinstance(shape, Sequence):
        raise TargetError("workload: expected 'operators' and 'input_shape', each a list; make it again")
    operators = []
    for place, row in enumerate(rows):
        if len(row) != len(_FIELDS) or row[0] not in KINDS:
            raise TargetError(
                f"workload: operator {place} is {row!r}, expected {len(_FIELDS)} values, the first a kind of "
                f"{', '.join(KINDS)}; make the workload again"
            )
        operators.append(Operator(str(row[0]), *(int(v) for v in row[1:])))
    return Workload(str(values.get("name", "")), tuple(int(n) for n in shape), tuple(operators))
