"""A network of the zoo, by name."""

from __future__ import annotations

from compress import zoo
from compress.errors import UsageError
from compress.network import Network
from compress.registry import MODELS, SOURCES
from compress.source import Request, arguments

__all__ = ["Zoo"]


class Zoo:
    """A network of ``compress list models``."""

    def accepts(self, model: str) -> bool:
        """Whether the zoo has that name."""
        return model in MODELS

    def load(self, request: Request) -> Network:
        """With the given weights, the built-in ones, or random ones on request."""
        if request.random and request.weights is None:
            return zoo.fresh(request.model, request.scale, request.seed, **arguments(request.arguments))
        if request.arguments:
            raise UsageError("--model-arg sets the sizes of a fresh network; with weights they are read off the file")
        return zoo.load(request.model, request.weights, request.scale)


SOURCES.add("zoo")(Zoo())
