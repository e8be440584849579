"""The verdict: what passes on a device, what fails, and what cannot be known from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from targets.profile import Limit, TargetProfile

__all__ = ["Facts", "Finding", "Verdict", "check"]


@dataclass(frozen=True)
class Facts:
    """What is known of the file that is to be deployed."""

    format: str
    dtype: str
    file_bytes: int
    operators: Mapping[str, int]
    """Operator name to count."""
    peak_memory_bytes: int | None
    """Measured on this host; None: not measured."""
    latency_ms: float | None
    """Median on this host; None: not measured."""
    input_size: tuple[int, int]
    """(height, width) that the latency is for."""
    host: str
    """``platform.machine()`` of the host that measured."""
    quality: float
    """The file's score through its own runtime; larger is better."""
    float_quality: float
    """The same of the network before compression."""
    floor_quality: float
    """Of the trivial method (bicubic); a file at or below it is broken."""
    unit: str
    """Of the three, e.g. ``dB``."""
    most_loss: float | None = None
    """What the user allows quantization to cost, in that unit; None: nothing was said."""
    blame: str = ""
    """Where the loss comes from, if it is too large."""


@dataclass(frozen=True)
class Finding:
    """One line of the verdict."""

    what: str
    status: Literal["pass", "fail", "unknown"]
    found: str
    expected: str
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """All findings for one file on one target."""

    target: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed; unknown findings do not count against the file."""
        return all(f.status != "fail" for f in self.findings)


def check(facts: Facts, profile: TargetProfile) -> Verdict:
    """Hold a file against a profile; limits that the profile does not state are left out."""
    findings = [
        _equal("format", facts.format, profile.deploy.format),
        _equal("dtype", facts.dtype, profile.deploy.dtype),
        _quality(facts),
        *_loss(facts),
        *_operators(facts, profile),
        *_bytes("file size", facts.file_bytes, profile.limits.file_bytes),
        *_bytes("peak memory", facts.peak_memory_bytes, profile.limits.peak_memory_bytes),
        *_latency(facts, profile),
    ]
    return Verdict(profile.name, tuple(findings))


def _equal(what: str, found: str, expected: str) -> Finding:
    return Finding(what, "pass" if found == expected else "fail", found, expected)


def _quality(facts: Facts) -> Finding:
    loss = facts.float_quality - facts.quality
    found = f"{facts.quality:.2f} {facts.unit}, {loss:.2f} {facts.unit} below the network"
    broken = not facts.quality > facts.floor_quality
    return Finding(
        "quality",
        "fail" if broken else "pass",
        found,
        f"more than {facts.floor_quality:.2f} {facts.unit}, the trivial method's",
        "the file is broken, or the policy does not suit the network" if broken else "",
    )


def _loss(facts: Facts) -> list[Finding]:
    if facts.most_loss is None:
        return []
    loss = facts.float_quality - facts.quality
    kept = loss <= facts.most_loss
    found, most = f"{loss:.3f} {facts.unit}", f"at most {facts.most_loss:g} {facts.unit} (--max-drop)"
    return [Finding("loss", "pass" if kept else "fail", found, most, "" if kept else facts.blame)]


def _operators(facts: Facts, profile: TargetProfile) -> list[Finding]:
    operators = profile.operators
    if operators is None or not operators.supported or facts.format != profile.deploy.format:
        return []
    slow = {name: n for name, n in facts.operators.items() if name not in operators.supported}
    total = sum(facts.operators.values())
    found = f"{total - sum(slow.values())} of {total} on the fast path"
    if not slow:
        return [Finding("operators", "pass", found, "all")]
    named = ", ".join(f"{name} x{n}" for name, n in sorted(slow.items()))
    if operators.fallback == "refused":
        return [Finding("operators", "fail", found, "all", f"the device's compiler refuses {named}")]
    return [Finding("operators", "unknown", found, "all", f"falls back to plain CPU kernels: {named}")]


def _bytes(what: str, found: int | None, limit: Limit | None) -> list[Finding]:
    if limit is None:
        return []
    expected = f"at most {_mebibytes(limit.max)}"
    if found is None:
        return [Finding(what, "unknown", "not measured", expected, limit.why)]
    return [Finding(what, "pass" if found <= limit.max else "fail", _mebibytes(found), expected, limit.why)]


def _mebibytes(count: float) -> str:
    return f"{count / 2**20:.2f} MiB"


def _latency(facts: Facts, profile: TargetProfile) -> list[Finding]:
    limit = profile.limits.latency_ms
    size = f"{facts.input_size[1]}x{facts.input_size[0]}"
    if limit is None:
        return []
    expected = f"at most {limit.max:g} ms for {size}"
    if facts.latency_ms is None:
        return [Finding("latency", "unknown", "not measured", expected, limit.why)]
    found = f"{facts.latency_ms:.1f} ms on this {facts.host} host"
    if facts.host not in profile.device.architectures:
        note = f"this host is no {profile.device.soc}; measure there"
        return [Finding("latency", "unknown", found, expected, note)]
    return [Finding("latency", "pass" if facts.latency_ms <= limit.max else "fail", found, expected, limit.why)]
