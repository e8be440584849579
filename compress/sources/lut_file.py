"""A .lut file: a network of look-up tables, as `compress lut import` or a run wrote it."""

from __future__ import annotations

from pathlib import Path

from compress.errors import UsageError, WeightsError
from compress.network import RESTORATION, SUPER_RESOLUTION, Network, WeightsSource
from compress.registry import SOURCES
from compress.source import Request
from compress.weights import sha256
from export.artifact import Card
from export.errors import ExportError
from export.lut import container
from export.lut.modules import module_of

__all__ = ["LutFile"]

_CHANNELS = 3


class LutFile:
    """A .lut file of look-up tables, exact in every runtime."""

    def accepts(self, model: str) -> bool:
        """Whether the text ends in .lut."""
        return Path(model).suffix.lower() == container.SUFFIX

    def load(self, request: Request) -> Network:
        """The tables as a torch module.

        Raises:
            WeightsError: unreadable, changed, or tables whose sums float32 does not hold.
            UsageError: flags that make no sense with it.
        """
        path = Path(request.model)
        if request.weights is not None or request.random or request.arguments:
            raise UsageError(f"{path} holds its tables: drop --weights, --random and --model-arg")
        try:
            tables = container.read(path)
            said = container.read_card(path)
            card = Card.from_json(said, path) if said is not None else None
            module = module_of(tables).eval()
        except ExportError as error:
            raise WeightsError(f"model {error}") from None
        if request.scale not in (None, tables.scale):
            raise UsageError(f"{path} enlarges by {tables.scale}, --scale says {request.scale}; drop --scale")
        return Network(
            name=path.stem,
            module=module,
            scale=tables.scale,
            channels=card.channels if card is not None else _CHANNELS,
            weights=WeightsSource(path, sha256(path), builtin=False),
            task=SUPER_RESOLUTION if tables.scale > 1 else RESTORATION,
        )


SOURCES.add("lut")(LutFile())
