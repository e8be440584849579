"""What a device allows and costs: one TOML file a device, every number with its source and date."""

from __future__ import annotations

import datetime
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

import pydantic

from targets.errors import ProfileError, TargetError, nearest

__all__ = ["TargetProfile", "load", "load_file", "names"]

_FOLDER = Path(__file__).parent / "profiles"


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Source(_Part):
    """Where facts come from."""

    what: str = pydantic.Field(min_length=3)
    """Title, or repository and path."""
    url: str = ""
    """Empty where the source is a file of measurements."""
    date: datetime.date
    """When the source was read, or the date it states."""


class Limit(_Part):
    """The most that is allowed of one quantity."""

    max: float = pydantic.Field(gt=0)
    source: str
    """Key of a source in ``[sources]``."""
    why: str = ""


class Limits(_Part):
    """Quantities a run is judged by; one that is absent is not judged."""

    file_bytes: Limit | None = None
    peak_memory_bytes: Limit | None = None
    latency_ms: Limit | None = None
    """For one input of the profile's size, on the device."""


class Deploy(_Part):
    """The file that goes to the device."""

    format: str
    dtype: Literal["float32", "int8"]
    recipe: str
    """Name of a recipe of ``compress``, used where the user gives none."""
    threads: int = pydantic.Field(ge=1, le=64)
    runtime: str
    """The runtime and kernels on the device, for the reader."""


class Reference(_Part):
    """Files written and measured beside the deployed one, so that runtimes check each other."""

    formats: tuple[str, ...] = ()


class Input(_Part):
    """The input that latency is stated for, pixels."""

    height: int = pydantic.Field(ge=8, le=4096)
    width: int = pydantic.Field(ge=8, le=4096)


class Device(_Part):
    """The hardware."""

    soc: str
    architectures: tuple[str, ...]
    """Values of ``platform.machine()`` on which a latency measured here says something about the device."""


class Operators(_Part):
    """What the device's fast path takes."""

    supported: tuple[str, ...] = ()
    """Operator names of the format; empty: not known, so not judged."""
    fallback: Literal["slow", "refused"] = "slow"
    """What happens to the others: they run on the plain CPU kernels, or the file does not compile."""
    source: str


class TargetProfile(_Part):
    """One device."""

    name: str = pydantic.Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    device: Device
    deploy: Deploy
    input: Input
    reference: Reference = Reference()
    limits: Limits = Limits()
    operators: Operators | None = None
    notes: tuple[str, ...] = ()
    sources: dict[str, Source] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _sources_exist(self) -> TargetProfile:
        limits = self.limits
        used = [x.source for x in (limits.file_bytes, limits.peak_memory_bytes, limits.latency_ms, self.operators) if x]
        for key in used:
            if key not in self.sources:
                raise ValueError(f"source {key!r} is not in [sources]; known: {', '.join(sorted(self.sources))}")
        return self


def names() -> tuple[str, ...]:
    """The names of the built-in profiles."""
    return tuple(sorted(p.stem for p in _FOLDER.glob("*.toml")))


@cache
def load(name: str) -> TargetProfile:
    """A built-in profile by name, or a profile file by its path (``./my-board.toml``).

    Raises:
        TargetError: no such profile; the message names the nearest.
        ProfileError: the file does not parse or validate.
    """
    if name.endswith(".toml"):
        return load_file(Path(name))
    if name not in names():
        raise TargetError(f"unknown target {name!r}; {nearest(name, names())}, or give a .toml file")
    return load_file(_FOLDER / f"{name}.toml")


def load_file(path: Path) -> TargetProfile:
    """A profile from a TOML file.

    Raises:
        ProfileError: missing file, TOML that does not parse (with its line), an unknown key (the nearest is
            named), a value out of range, or a number without a source.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"target profile {path}: {error}") from None
    try:
        return TargetProfile.model_validate(values)
    except pydantic.ValidationError as error:
        raise ProfileError(f"target profile {path}: " + "; ".join(_explain(e) for e in error.errors()[:5])) from None


def _explain(error: object) -> str:
    details = dict(error)  # type: ignore[call-overload]
    where = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        known = _known_keys(tuple(details["loc"][:-1]))
        return f"unknown key {where!r}; {nearest(str(details['loc'][-1]), known)}"
    return f"{where or 'profile'}: {details['msg']}"


def _known_keys(path: tuple[object, ...]) -> list[str]:
    part: type[pydantic.BaseModel] = TargetProfile
    for key in path:
        field = part.model_fields.get(str(key))
        inner = [a for a in _arguments(field.annotation) if issubclass(a, _Part)] if field else []
        if not inner:
            return sorted(Source.model_fields)
        part = inner[0]
    return sorted(part.model_fields)


def _arguments(annotation: object) -> list[type]:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return [c for c in candidates if isinstance(c, type)]
