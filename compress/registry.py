"""Name → thing, filled by the files of a folder being there."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from compress.errors import UsageError, nearest
from compress.network import Family, Method, Source, TaskFactory

__all__ = ["METHODS", "MODELS", "SOURCES", "TASKS", "Registry"]


T = TypeVar("T")


class Registry(Generic[T]):
    """The things that the modules of one package registered, by name.

    The package is imported on the first look-up, so that listing costs nothing until it is asked for.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._items: dict[str, T] = {}
        self._scanned = False

    def add(self, name: str) -> Callable[[T], T]:
        """A decorator that registers a function or a class under ``name``.

        Raises:
            ValueError: the name is taken; the registry is left unchanged.
        """

        def register(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is registered twice: {self._items[name]} and {item}")
            self._items[name] = item
            return item

        return register

    def _scan(self) -> dict[str, T]:
        if not self._scanned:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            self._scanned = True
        return self._items

    def __getitem__(self, name: str) -> T:
        """The thing of that name.

        Raises:
            UsageError: there is none; the message names the nearest.
        """
        items = self._scan()
        if name not in items:
            raise UsageError(f"unknown {self.kind} {name!r}; {nearest(name, items)}")
        return items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._scan()))

    def summary(self, name: str) -> str:
        """What it is, in one line: its title, or the first line of its docstring."""
        item = self[name]
        doc = getattr(item, "title", None) or item.__doc__ or ""
        return str(doc).strip().split("\n", 1)[0]


MODELS: Registry[Family] = Registry("model", "compress.models")
METHODS: Registry[type[Method]] = Registry("method", "compress.methods")
TASKS: Registry[TaskFactory] = Registry("task", "compress.tasks")
SOURCES: Registry[Source] = Registry("kind of model", "compress.sources")
