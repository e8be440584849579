"""What a run found out, as it lies in ``run.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from compress.errors import RunFolderError
from compress.measure import Merge, Seam
from compress.network import SUPER_RESOLUTION
from compress.options import Options
from compress.policies import Choice
from compress.task import Scores
from export.artifact import Artifact
from export.parity import Parity
from export.timing import Host, Latency
from targets.check import Verdict
from targets.profile import TargetProfile

__all__ = ["FileResult", "Result", "StepResult", "load", "to_json"]


@dataclass(frozen=True)
class FileResult:
    """One written file, and what was measured of it."""

    artifact: Artifact
    parity: Parity
    scores: Scores
    latency: Latency
    peak_memory_bytes: int
    """What opening it and running it once added to a process."""


@dataclass(frozen=True)
class StepResult:
    """What a step of the recipe that changes the network's values left of them."""

    name: str
    """Its number and method: ``2-lut-diagonal``."""
    scores: Scores
    """In torch."""
    table_bytes: int | None
    """Of a network of look-up tables."""


@dataclass(frozen=True)
class Result:
    """Everything a run found out."""

    options: Options
    profile: TargetProfile
    recipe_toml: str
    network: str
    scale: int
    task: str
    metric: str
    """Heading of the scores, with their unit."""
    halo: int | None
    """Receptive-field radius, input pixels; None: the whole image."""
    parameters: int
    merge: Merge | None
    """What merging re-parameterisable blocks changed; None: there were none."""
    seam: Seam | None
    """What tiles cost; None: nothing, to the last bit."""
    floor_name: str
    floor: Scores
    """Of what the network must beat."""
    float32: Scores
    """Of the network in torch, before anything was done to it."""
    files: tuple[FileResult, ...]
    verdict: Verdict
    host: Host
    inputs: Mapping[str, Any]
    """SHA-256 of every input file, and the settings."""
    versions: Mapping[str, str]
    peak_memory_bytes: int
    """Of the run's own process."""
    seconds: float
    """Of this invocation; a resumed run counts its own part only."""
    choice: Choice | None = None
    """The quantization policy that a search chose; None: the recipe's."""
    steps: tuple[StepResult, ...] = ()
    """After each step that changes what the network computes."""

    def file(self, name: str) -> FileResult | None:
        """The file called ``format-dtype``, if it was written."""
        return next((f for f in self.files if f.artifact.name == name), None)

    @property
    def title(self) -> str:
        """Network and scale."""
        return f"{self.network} x{self.scale}" if self.task == SUPER_RESOLUTION else self.network

    @property
    def deployed(self) -> FileResult:
        """The file that the verdict is about: the target's, or the last one where the user chose others."""
        wanted = self.file(f"{self.profile.deploy.format}-{self.profile.deploy.dtype}")
        return wanted or self.files[-1]

    def speed_up(self, file: FileResult) -> float | None:
        """How many times faster than the float32 file of the same format; None for that file itself."""
        plain = self.file(f"{file.artifact.format}-float32")
        if plain is None or plain is file:
            return None
        return plain.latency.median_ms / file.latency.median_ms


def to_json(result: Result) -> bytes:
    """The manifest."""
    return pydantic.TypeAdapter(Result).dump_json(result, indent=1)


def load(folder: Path) -> Result:
    """The result of a finished run.

    Raises:
        RunFolderError: no finished run there, or one of another version.
    """
    path = folder / "run.json"
    if not path.is_file():
        hint = "the run is unfinished: add --resume" if (folder / "inputs.json").exists() else "give a run folder"
        raise RunFolderError(f"{path}: no such file; {hint}")
    try:
        return pydantic.TypeAdapter(Result).validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(f"{path}: not a manifest of this version ({where}: {first['msg']}); run again") from None
