"""A recipe: the steps that turn a network into a smaller or faster one, as TOML and as objects."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import tomli_w

from compress.errors import RecipeError, UsageError, nearest
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.network import Method, Network
    from compress.task import Task

__all__ = ["Recipe", "load", "names", "parse", "summary"]

_FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """Steps, applied in order; each is a method's frozen dataclass."""

    steps: tuple[Method, ...]

    def apply(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network after all steps."""
        return [network, *(made for *_, made in self.applied(network, task, workshop))][-1]

    def applied(
        self, network: Network, task: Task, workshop: Workshop = ALONE
    ) -> Iterator[tuple[str, Method, Network]]:
        """What each step is called (``2-equalize``), the step, and the network after it."""
        for number, step in enumerate(self.steps, start=1):
            name = f"{number}-{_name(step)}"
            network = step(network, task, workshop.part(name))
            yield name, step, network

    def to_toml(self) -> str:
        """TOML with every field written out; :func:`parse` gives an equal recipe back."""
        steps = [{"method": _name(step), **asdict(step)} for step in self.steps]  # type: ignore[call-overload]
        return tomli_w.dumps({"step": steps})


def _name(step: Method) -> str:
    return next(name for name in METHODS if METHODS[name] is type(step))


def names() -> tuple[str, ...]:
    """The built-in recipes."""
    return tuple(sorted(p.stem for p in _FOLDER.glob("*.toml")))


def summary(name: str) -> str:
    """The comment in the first line of a built-in recipe."""
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")


def load(name: str) -> Recipe:
    """A recipe file by its path (``my.toml``), or a built-in recipe by name.

    Raises:
        RecipeError: no such recipe, TOML that does not parse, an unknown method or key (the nearest is named),
            or a value out of range.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not path.is_file():
        raise RecipeError(f"unknown recipe {name!r}: no such file, and {nearest(name, names())}")
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path}: {error}") from None


def parse(text: str, where: str) -> Recipe:
    """A recipe from TOML text; ``where`` names it in messages.

    Raises:
        RecipeError: as :func:`load`.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {where}: {error}") from None
    for key in values:
        if key != "step":
            raise RecipeError(f"recipe {where}: unknown key {key!r}, expected [[step]] tables")
    steps = values.get("step")
    if not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
        raise RecipeError(f"recipe {where}: expected [[step]] tables, each with a method")
    return Recipe(tuple(_step(s, f"recipe {where}, step {n}") for n, s in enumerate(steps, start=1)))


def _step(values: dict[str, Any], where: str) -> Method:
    name = values.pop("method", None)
    if not isinstance(name, str):
        raise RecipeError(f"{where}: no method; {nearest('', METHODS)}")
    try:
        kind = METHODS[name]
    except UsageError as error:
        raise RecipeError(f"{where}: {error}") from None
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise RecipeError(f"{where} ({name}): unknown key {key!r}; {nearest(key, known)}")
    try:
        return pydantic.TypeAdapter(kind).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"{where} ({name}): {first['loc'][0]} = {first['input']!r}: {first['msg']}") from None
