"""What the methods on look-up tables share."""

from __future__ import annotations

from dataclasses import replace

from compress.errors import UsageError
from compress.models._written import Written
from compress.network import Network
from export.lut.network import Network as Stages
from export.lut.network import Tables
from export.lut.network import tables_of as tables_in

__all__ = ["changed", "stages_of", "tables_of"]


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


def stages_of(network: Network, method: str) -> Stages:
    """The tables of several values that a network is.

    Raises:
        UsageError: it has none, or tables of single values.
    """
    tables = tables_of(network, method)
    if not isinstance(tables, Stages):
        raise UsageError(f"{method}: {network.name} consists of tables of single values, expected tables of several")
    return tables


def changed(network: Network, tables: Tables) -> Network:
    """The network with other tables."""
    return replace(network, module=Written(tables).eval(), graph=None)
