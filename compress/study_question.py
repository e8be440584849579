"""What a study of quantization policies is about: stored with it, and compared when it is gone on with or joined."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydantic

from compress import __version__
from compress.errors import UsageError
from compress.network import Network
from compress.options import Options
from compress.task import Task
from compress.weights import sha256

__all__ = ["Place", "Question", "ensure_same", "facts"]


@dataclass(frozen=True)
class Question:
    """What is searched, in words that are stored with the study, so that a worker elsewhere can rebuild it."""

    options: Options
    """Of the network and its images; paths are absolute."""
    format: str
    recipe: str
    """TOML: what is done to the network before, and the policy that the candidates change."""
    objectives: tuple[str, ...]
    sampler: str


@dataclass(frozen=True)
class Place:
    """Where a study lives."""

    name: str
    storage: str
    """A path, or an address of a database."""
    out: Path
    """This worker's own folder."""

    @property
    def shown(self) -> str:
        """The storage without a password."""
        from search.storage import hidden

        return hidden(self.storage)


def facts(question: Question, network: Network, task: Task) -> dict[str, Any]:
    """What decides the numbers, as JSON; hashes of all files included."""
    return {
        "question": pydantic.TypeAdapter(Question).dump_python(_lasting(question), mode="json"),
        "sha256 of the weights": network.weights.sha256,
        "sha256 of the images": _together(task.files()),
        "edgepress": __version__,
    }


def ensure_same(stored: Mapping[str, Any], found: Mapping[str, Any], place: Place) -> None:
    """Make sure that a study is of the same network, images and settings.

    Args:
        stored: with the study.
        found: the :func:`facts` of this call.
        place: for the message.

    Raises:
        UsageError: it is not; the message lists what differs.
    """
    before, now = _flat(stored), _flat(found)
    known = [k for k in {**before, **now} if k != "float_score"]
    other = [f"{k}: found {before.get(k)!r}, here {now.get(k)!r}" for k in known if before.get(k) != now.get(k)]
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        raise UsageError(
            f"study {place.name!r} in {place.shown} was begun with other inputs ({'; '.join(other[:3])}{more}); give "
            "the same files and flags, or another --study"
        )


def _lasting(question: Question) -> Question:
    """Without what may differ from call to call."""
    options = replace(question.options, budget=None, trials=None)
    timed = "latency" in question.objectives
    return replace(question, options=options if timed else replace(options, threads=None))


def _together(paths: Sequence[Path]) -> str:
    """One hash of many files."""
    return hashlib.sha256("".join(sha256(path) for path in paths).encode()).hexdigest()


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one; the names are those of the flags."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and key in ("question", "options"):
            flat |= _flat(value)
        else:
            flat[key] = value
    return flat
