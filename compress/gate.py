"""The accuracy gate: a finished run against a small JSON that lives in the user's repository."""

from __future__ import annotations

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

    psnr_drop_db: Annotated[float, pydantic.Field(ge=0)] = 0.02
    """Mean PSNR."""
    worst_image_drop_db: Annotated[float, pydantic.Field(ge=0)] = 0.10
    """Each image's own PSNR, so that one picture cannot break unseen behind the mean."""
    bytes_growth_ratio: Annotated[float, pydantic.Field(ge=0)] = 0.02
    """File size, relative."""


@dataclass(frozen=True)
class FileBaseline:
    """What a file reached."""

    psnr: float
    images: dict[str, float]
    """PSNR of each image by name."""
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
        f.artifact.name: FileBaseline(f.scores.psnr, {i.name: i.psnr for i in f.scores.images}, f.artifact.file_bytes)
        for f in result.files
    }
    baseline = Baseline(1, f"{result.network}-x{result.scale}", result.profile.name, result.float32.protocol, files)
    atomic_write(path, pydantic.TypeAdapter(Baseline).dump_json(baseline, indent=1) + b"\n")


def load_baseline(path: Path) -> Baseline:
    """A baseline file.

    Raises:
        UsageError: missing, damaged, or of another version.
    """
    try:
        baseline = pydantic.TypeAdapter(Baseline).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"baseline {path}: no such file; make one with --write-baseline {path}") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"baseline {path}: {where or 'file'}: {first['msg']}; make it anew with --write-baseline"
        ) from None
    if baseline.edgepress_baseline != 1:
        raise UsageError(f"baseline {path}: version {baseline.edgepress_baseline}, this program reads 1")
    return baseline


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
    images = {i.name: i.psnr for i in file.scores.images}
    if images.keys() != before.images.keys():
        odd = sorted(images.keys() ^ before.images.keys())
        raise UsageError(f"not comparable: other images than in the baseline, e.g. {odd[0]}")
    drop = before.psnr - file.scores.psnr
    worst = max(images, key=lambda i: before.images[i] - images[i])
    worst_drop = before.images[worst] - images[worst]
    growth = file.artifact.file_bytes / before.file_bytes - 1
    return [
        _finding(
            name, "mean PSNR drop dB", drop, limits.psnr_drop_db, f"{before.psnr:.2f} -> {file.scores.psnr:.2f} dB"
        ),
        _finding(name, "worst image drop dB", worst_drop, limits.worst_image_drop_db, worst),
        _finding(name, "size growth", growth, limits.bytes_growth_ratio, f"{file.artifact.file_bytes} bytes"),
    ]


def _finding(file: str, what: str, found: float, allowed: float, detail: str) -> Finding:
    passed = found <= allowed + 1e-9
    return Finding(
        file, what, found, allowed, passed, f"{file:<16} {what:<20} {found:+.4f}, at most {allowed:g} ({detail})"
    )
