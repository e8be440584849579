"""The accuracy gate: a finished run against a small JSON that lives in the user's repository."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pydantic

from compress.errors import UsageError
from compress.result import FileResult, Result
from export.files import atomic_write

__all__ = ["Baseline", "Finding", "Limits", "compare", "load_baseline", "write_baseline"]


@dataclass(frozen=True)
class Limits:
    """How much worse a run may be; edit them in the file."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    mean_drop: Annotated[float, pydantic.Field(ge=0)] = 0.02
    """Of the mean score, dB or points."""
    worst_item_drop: Annotated[float, pydantic.Field(ge=0)] = 0.10
    """Of each image's (or class's) own score, so that none can break unseen behind the mean."""
    bytes_growth_ratio: Annotated[float, pydantic.Field(ge=0)] = 0.02
    """File size, relative."""


_VERSION = 2
_LIMITS = {"dB": Limits(), "%": Limits(mean_drop=0.3, worst_item_drop=3.0)}
"""What a fresh baseline allows, by the unit of its scores."""


@dataclass(frozen=True)
class FileBaseline:
    """What a file reached."""

    mean: float
    items: dict[str, float]
    """Score of each image, or class, by name."""
    file_bytes: Annotated[int, pydantic.Field(ge=1)]


@dataclass(frozen=True)
class Baseline:
    """What a run is held against."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    edgepress_baseline: int
    network: str
    target: str
    protocol: str
    files: Annotated[Mapping[str, FileBaseline], pydantic.Field(min_length=1)]
    limits: Limits = Limits()


@dataclass(frozen=True)
class Finding:
    """One comparison."""

    file: str
    what: str
    found: float
    allowed: float
    passed: bool
    text: str

    def to_dict(self) -> dict[str, object]:
        """As JSON takes it."""
        return asdict(self)


def write_baseline(result: Result, path: Path) -> None:
    """Make a baseline of a run."""
    files = {
        f.artifact.name: FileBaseline(f.scores.mean, {i.name: i.value for i in f.scores.items}, f.artifact.file_bytes)
        for f in result.files
    }
    limits = _LIMITS.get(result.floor.unit, Limits())
    name = f"{result.network}-x{result.scale}"
    baseline = Baseline(_VERSION, name, result.profile.name, result.float32.protocol, files, limits)
    atomic_write(path, pydantic.TypeAdapter(Baseline).dump_json(baseline, indent=1) + b"\n")


def load_baseline(path: Path) -> Baseline:
    """A baseline file.

    Raises:
        UsageError: missing, damaged, or of another version.
    """
    try:
        _check_version(path)
        baseline = pydantic.TypeAdapter(Baseline).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"baseline {path}: no such file; make one with --write-baseline {path}") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"baseline {path}: {where or 'file'}: {first['msg']}; make it anew with --write-baseline"
        ) from None
    return baseline


def _check_version(path: Path) -> None:
    """Before anything else, so that an old file is not called damaged."""
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        return  # said better by whoever reads it next
    found = values.get("edgepress_baseline") if isinstance(values, dict) else None
    if isinstance(found, int) and found != _VERSION:
        raise UsageError(
            f"baseline {path}: version {found}, this program reads {_VERSION}; make it anew with --write-baseline"
        )


def compare(result: Result, baseline: Baseline) -> list[Finding]:
    """Every file of the baseline against the run's.

    Raises:
        UsageError: the two are not comparable (network, target, protocol, images), which is no regression.
    """
    pairs = [
        ("network", f"{result.network}-x{result.scale}", baseline.network),
        ("target", result.profile.name, baseline.target),
        ("protocol", result.float32.protocol, baseline.protocol),
    ]
    for what, found, expected in pairs:
        if found != expected:
            raise UsageError(f"not comparable: the run's {what} is {found}, the baseline's {expected}")
    findings: list[Finding] = []
    for name, before in baseline.files.items():
        file = result.file(name)
        if file is None:
            raise UsageError(f"not comparable: the run wrote no {name}, the baseline has it")
        findings += _file(name, file, before, baseline.limits)
    return findings


def _file(name: str, file: FileResult, before: FileBaseline, limits: Limits) -> list[Finding]:
    items = {i.name: i.value for i in file.scores.items}
    if items.keys() != before.items.keys():
        odd = sorted(items.keys() ^ before.items.keys())
        raise UsageError(f"not comparable: other images or classes than in the baseline, e.g. {odd[0]}")
    drop, unit = before.mean - file.scores.mean, file.scores.unit
    worst = max(items, key=lambda i: before.items[i] - items[i])
    worst_drop = before.items[worst] - items[worst]
    growth = file.artifact.file_bytes / before.file_bytes - 1
    return [
        _finding(
            name, f"mean drop {unit}", drop, limits.mean_drop, f"{before.mean:.2f} -> {file.scores.mean:.2f} {unit}"
        ),
        _finding(name, f"worst drop {unit}", worst_drop, limits.worst_item_drop, worst),
        _finding(name, "size growth", growth, limits.bytes_growth_ratio, f"{file.artifact.file_bytes} bytes"),
    ]


def _finding(file: str, what: str, found: float, allowed: float, detail: str) -> Finding:
    passed = found <= allowed + 1e-9
    return Finding(
        file, what, found, allowed, passed, f"{file:<16} {what:<20} {found:+.4f}, at most {allowed:g} ({detail})"
    )
