"""What ``--model`` may be, and how it becomes a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compress.errors import UsageError, nearest
from compress.network import Network, Source
from compress.registry import MODELS, SOURCES

__all__ = ["KINDS", "Request", "arguments", "kind_of", "resolve"]

KINDS = "a zoo name, a checkpoint (.pth, .safetensors), an .onnx or .lut file, timm:NAME, or package.module:factory"


@dataclass(frozen=True)
class Request:
    """What the user said about the model."""

    model: str
    weights: Path | None = None
    scale: int | None = None
    """Enlargement; None: that of the weights."""
    random: bool = False
    """Take random values where there are no weights."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """``--model-arg``: for the factory, timm's create_model, or a fresh zoo network."""
    task: str | None = None
    """None: told by what comes out of the network."""
    seed: int = 0
    input_size: tuple[int, int] | None = None
    """(height, width) that a classifier of unknown make takes; None: probed."""


def kind_of(model: str) -> Source:
    """The kind of model that the text names.

    Raises:
        UsageError: it names nothing; the message says what there is.
    """
    for name in SOURCES:
        source = SOURCES[name]
        if source.accepts(model):
            return source
    raise UsageError(f"unknown model {model!r}; {nearest(model, MODELS)}; --model takes {KINDS}")


def resolve(request: Request) -> Network:
    """The network that the text names.

    Raises:
        UsageError: the text names nothing; the message says what there is.
        WeightsError: weights that are missing, unreadable or made for something else.
    """
    return kind_of(request.model).load(request)


def arguments(given: Mapping[str, str]) -> dict[str, object]:
    """``--model-arg`` values as Python's numbers, truth values and tuples where they look so, else as text.

    >>> arguments({"width": "16", "rate": "0.5", "bias": "true", "sizes": "2,4", "name": "plain"})
    {'width': 16, 'rate': 0.5, 'bias': True, 'sizes': (2, 4), 'name': 'plain'}
    """
    return {key: _value(text) for key, text in given.items()}


def _value(text: str) -> object:
    if "," in text:
        return tuple(_value(part) for part in text.split(",") if part)
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
