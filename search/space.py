"""What can be chosen: named knobs, each with its choices, and the candidates they span."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.errors import SpaceError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["ENUMERABLE", "Candidate", "Knob", "Space", "Value"]

Value = str | int | float | bool | None

ENUMERABLE = 20_000
"""Spaces up to this size are enumerated; larger ones are sampled."""

_DRAWS = 10_000


class Candidate(Mapping[str, Value]):
    """One choice for each knob; immutable and hashable, equal whatever the order of its knobs.

    >>> Candidate({"bits": 8, "clip": "max"}) == Candidate({"clip": "max", "bits": 8})
    True
    """

    __slots__ = ("_choices", "_hash")

    def __init__(self, choices: Mapping[str, Value]) -> None:
        self._choices = dict(choices)
        self._hash = hash(frozenset(self._choices.items()))

    def __getitem__(self, name: str) -> Value:
        return self._choices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidate) and self._hash == other._hash and self._choices == other._choices

    def __repr__(self) -> str:
        return "Candidate(" + ", ".join(f"{k}={v!r}" for k, v in self._choices.items()) + ")"


@dataclass(frozen=True)
class Knob:
    """One thing to choose.

    Attributes:
        name: its name, unique in the space.
        choices: what it can be; JSON scalars, no two of which compare equal.
        ordinal: whether the order of the choices means something (1, 10, 100 images; not a clipping rule).
    """

    name: str
    choices: tuple[Value, ...]
    ordinal: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        if not self.name or not self.choices:
            raise SpaceError(f"knob {self.name!r} has choices {self.choices!r}: a name and one choice are the least")
        for value in self.choices:
            if (
                not isinstance(value, str | int | float | bool | None)
                or value != value
                or value in (math.inf, -math.inf)
            ):
                raise SpaceError(
                    f"knob {self.name!r}: choice {value!r} cannot be written as JSON; use a name or a number"
                )
        if len(set(self.choices)) < len(self.choices):
            raise SpaceError(
                f"knob {self.name!r}: choices {self.choices!r} repeat themselves (1, 1.0 and True are equal)"
            )


@dataclass(frozen=True)
class Space:
    """All candidates of some knobs, less those that are not valid.

    Attributes:
        knobs: what can be chosen.
        valid: which combinations are legal; ``None`` means all of them.

    >>> Space((Knob("bits", (4, 8), ordinal=True), Knob("clip", ("max", "KL")))).size
    4
    """

    knobs: tuple[Knob, ...]
    valid: Callable[[Candidate], bool] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "knobs", tuple(self.knobs))
        names = [knob.name for knob in self.knobs]
        if not names or len(set(names)) < len(names):
            raise SpaceError(f"a space needs one knob or more with names of their own, found {names}")

    @property
    def combinations(self) -> int:
        """The number of combinations, legal or not."""
        return math.prod(len(knob.choices) for knob in self.knobs)

    @property
    def enumerable(self) -> bool:
        """Whether it is small enough to list."""
        return self.combinations <= ENUMERABLE

    @property
    def size(self) -> int:
        """The number of legal candidates; of a space too large to list, the number of combinations."""
        return len(self.candidates) if self.enumerable else self.combinations

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every legal candidate, the last knob turning fastest.

        Raises:
            SpaceError: the space is too large to list, or holds none.
        """
        if not self.enumerable:
            raise SpaceError(
                f"the space has {self.combinations:.3g} combinations, more than {ENUMERABLE}: draw from it"
            )
        names = [knob.name for knob in self.knobs]
        every = (
            Candidate(dict(zip(names, row, strict=True))) for row in itertools.product(*(k.choices for k in self.knobs))
        )
        found = tuple(c for c in every if self.valid is None or self.valid(c))
        if not found:
            raise SpaceError(f"none of {self.combinations} combinations of {names} is valid: loosen the predicate")
        return found

    def __contains__(self, candidate: object) -> bool:
        return isinstance(candidate, Candidate) and self.why_not(candidate) is None

    def why_not(self, candidate: Candidate) -> str | None:
        """Why a candidate is not in the space; ``None`` when it is."""
        names = {knob.name for knob in self.knobs}
        if set(candidate) != names:
            return f"{candidate} has the knobs {sorted(candidate)}, the space has {sorted(names)}"
        for knob in self.knobs:
            if candidate[knob.name] not in knob.choices:
                return f"{candidate}: {knob.name} is one of {knob.choices}"
        if self.valid is not None and not self.valid(candidate):
            return f"{candidate} is not a valid combination"
        return None

    def check(self, candidate: Candidate) -> Candidate:
        """The candidate itself.

        Raises:
            SpaceError: it is not in the space.
        """
        reason = self.why_not(candidate)
        if reason is not None:
            raise SpaceError(reason)
        return candidate

    def indices(self, candidate: Candidate) -> tuple[int, ...]:
        """The place of each choice among its knob's."""
        return tuple(knob.choices.index(candidate[knob.name]) for knob in self.knobs)

    def at(self, indices: Sequence[int]) -> Candidate:
        """The candidate of these places; it may be illegal."""
        return Candidate({k.name: k.choices[int(i)] for k, i in zip(self.knobs, indices, strict=True)})

    def places(self, candidates: Sequence[Candidate]) -> NDArray[np.intp]:
        """The places of every choice, (candidates, knobs)."""
        table = [{value: i for i, value in enumerate(knob.choices)} for knob in self.knobs]
        rows = [[places[c[k.name]] for places, k in zip(table, self.knobs, strict=True)] for c in candidates]
        return np.asarray(rows, np.intp).reshape(len(candidates), len(self.knobs))

    def features(self, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        """One-hot columns for every knob, and for an ordinal one its place in [0, 1] too.

        >>> Space((Knob("n", (1, 2, 4), ordinal=True),)).features([Candidate({"n": 2})]).tolist()
        [[0.0, 1.0, 0.0, 0.5]]
        """
        return self.encode(self.places(candidates))

    def encode(self, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """The features of candidates given by their places, (candidates, knobs)."""
        columns: list[NDArray[np.float64]] = []
        for column, knob in enumerate(self.knobs):
            count = len(knob.choices)
            columns.append(np.eye(count)[places[:, column]])
            if knob.ordinal:
                columns.append(places[:, column : column + 1] / max(count - 1, 1))
        return np.concatenate(columns, axis=1)

    def neighbours(self, candidate: Candidate) -> list[Candidate]:
        """The legal candidates that differ in one knob; of an ordinal knob only the next choice up or down."""
        found = []
        for knob in self.knobs:
            here = knob.choices.index(candidate[knob.name])
            for place, value in enumerate(knob.choices):
                if place != here and (not knob.ordinal or abs(place - here) == 1):
                    other = Candidate({**candidate, knob.name: value})
                    if self.valid is None or self.valid(other):
                        found.append(other)
        return found

    def draw(self, random: np.random.Generator) -> Candidate:
        """A legal candidate, all equally likely.

        Raises:
            SpaceError: none was met.
        """
        counts = [len(knob.choices) for knob in self.knobs]
        for _ in range(_DRAWS):
            candidate = self.at(random.integers(counts).tolist())
            if self.valid is None or self.valid(candidate):
                return candidate
        raise SpaceError(f"no valid candidate in {_DRAWS} draws of {self.combinations:.3g} combinations: merge knobs")

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space in Optuna's words; an ordinal knob is the place among its choices."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        return {
            k.name: IntDistribution(0, len(k.choices) - 1) if k.ordinal else CategoricalDistribution(k.choices)
            for k in self.knobs
        }

    def params(self, candidate: Candidate) -> dict[str, Value]:
        """A candidate in Optuna's words."""
        return {k.name: k.choices.index(candidate[k.name]) if k.ordinal else candidate[k.name] for k in self.knobs}

    def of_params(self, params: Mapping[str, Any]) -> Candidate | None:
        """The candidate of Optuna's parameters; ``None`` while some are missing."""
        if any(knob.name not in params for knob in self.knobs):
            return None
        return Candidate({k.name: k.choices[params[k.name]] if k.ordinal else params[k.name] for k in self.knobs})

    def to_json(self) -> dict[str, Any]:
        """What is stored with a study; of the predicate only a fingerprint."""
        knobs = [{"name": k.name, "choices": list(k.choices), "ordinal": k.ordinal} for k in self.knobs]
        return {"knobs": knobs, "valid": self.fingerprint()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], valid: Callable[[Candidate], bool] | None = None) -> Space:
        """The space of :meth:`to_json`; the predicate has to be given again."""
        return cls(tuple(Knob(k["name"], tuple(k["choices"]), k["ordinal"]) for k in stored["knobs"]), valid)

    def fingerprint(self) -> str:
        """Which combinations are valid, in 16 hexadecimal digits; of a large space, which of 1,000 fixed draws are."""
        if self.valid is None:
            return "all"
        if self.enumerable:
            names: list[Any] = [list(self.indices(c)) for c in self.candidates]
        else:
            draws = np.random.default_rng(0).integers(
                [len(k.choices) for k in self.knobs], size=(1000, len(self.knobs))
            )
            names = [bool(self.valid(self.at(row))) for row in draws.tolist()]
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
