"""Where a latency model has been seen to hold; elsewhere it abstains, and says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from targets.workload import Workload

__all__ = ["Support", "supported"]

_MARGIN = 2.0  # beyond the largest and smallest network seen
_FALLBACK = 0.5
_SEEN = 2  # networks


@dataclass(frozen=True)
class Support:
    """What the networks of a fit were like."""

    kinds: Mapping[str, int]
    """Kind of operator to the number of networks that have it."""
    fallback: Mapping[str, float]
    """Kind to the share of the networks with it that ran layers on the CPU."""
    least: Mapping[str, float]
    """Quantity of a network to its least value."""
    most: Mapping[str, float]
    """Quantity to its largest value."""

    def refusal(self, workload: Workload) -> str:
        """Why nothing is predicted for this network; empty where something is."""
        for kind in sorted({o.kind for o in workload.operators}):
            share = self.fallback.get(kind, 0.0)
            if share >= _FALLBACK:
                return f"fall-back to the CPU is likely: {share:.0%} of the measured networks with {kind} did"
            if self.kinds.get(kind, 0) < _SEEN:
                return (
                    f"{kind} operators are in {self.kinds.get(kind, 0)} measured networks, at least {_SEEN} are needed"
                )
        for name, value in _quantities(workload).items():
            low, high = self.least[name] / _MARGIN, self.most[name] * _MARGIN
            if not low <= value <= high:
                return f"{name} are {value:.3g}, the measured networks hold for {low:.3g} to {high:.3g}"
        return ""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def supported(fitted: Sequence[Workload], on_cpu: Sequence[Workload] = ()) -> Support:
    """The support of a fit, from its networks and from those that the runtime put on the CPU in part."""
    counts = _counts(fitted)
    failed = _counts(on_cpu)
    shares = {k: n / (n + counts.get(k, 0)) for k, n in failed.items() if n >= _SEEN}
    values = [_quantities(w) for w in fitted]
    names = values[0] if values else {}
    return Support(
        kinds=counts,
        fallback=shares,
        least={n: min(v[n] for v in values) for n in names},
        most={n: max(v[n] for v in values) for n in names},
    )


def _counts(workloads: Sequence[Workload]) -> dict[str, int]:
    found: dict[str, int] = {}
    for workload in workloads:
        for kind in {o.kind for o in workload.operators}:
            found[kind] = found.get(kind, 0) + 1
    return found


def _quantities(workload: Workload) -> dict[str, float]:
    largest = max((o.read + o.written for o in workload.operators), default=0)
    return {
        "MACs": float(workload.macs),
        "operators": float(len(workload.operators)),
        "numbers moved by the largest operator": float(largest),
    }
