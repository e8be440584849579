"""What the methods on look-up tables share."""

from __future__ import annotations

from dataclasses import replace

from compress.errors import UsageError
from compress.models._tables import Written
from compress.network import Network
from export.lut.network import Network as Tables
from export.lut.network import tables_of as tables_in

__all__ = ["changed", "tables_of"]


def tables_of(network: Network, method: str) -> Tables:
    """The tables that a network is.

    Raises:
        UsageError: it has none.
    """
    tables = tables_in(network.module)
    if tables is None:
        cure = "take a .lut file, or put distil (model = mulut, ...) and reparameterize before it"
        raise UsageError(f"{method}: {network.name} has no look-up tables; {cure}")
    return tables


def changed(network: Network, tables: Tables) -> Network:
    """The network with other tables."""
    return replace(network, module=Written(tables).eval(), graph=None)
