"""Whether a network's own code follows a cut: sizes may be numbers in it, which no graph tells.

A few channels are cut for a trial, the cut network is exported, and its graph is compared with what the rules foretell,
operator by operator and shape by shape.  Where the two part, the channels stay.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from compress.channels.calls import layer_of, module_class_of, module_classes_of, operator
from compress.channels.graph import Dependencies, dependencies, exported
from compress.channels.ledger import Labels
from compress.channels.rules_shapes import SIZED
from compress.channels.selection import Budget, chosen
from compress.channels.surgery import cut
from compress.errors import UsageError

__all__ = ["checked", "parting", "pruned"]


def pruned(
    module: nn.Module, x: Tensor, rank: Callable[[Dependencies], NDArray[np.float64]], budget: Budget
) -> nn.Module:
    """A copy of a module without its least important channels.

    Args:
        module: in evaluation mode, with its blocks merged.
        x: an input; a small one is enough.
        rank: gives every unit its importance.
        budget: how much goes.

    Raises:
        UsageError: it cannot be exported, or the budget cannot be met.
    """
    found, forbid = checked(module, x)
    while True:
        kept = chosen(found, rank(found), budget)
        smaller = cut(module, found, kept)
        node = parting(found, kept, smaller, x)
        if node is None:
            return smaller
        forbid |= _stay(found, node, forbid)
        found = dependencies(module, x, forbid)


def checked(module: nn.Module, x: Tensor) -> tuple[Dependencies, dict[str, str]]:
    """The dependencies of a module without the channels that its code cannot do without; the nodes that fix those.

    Raises:
        UsageError: it cannot be exported.
    """
    forbid: dict[str, str] = {}
    found = dependencies(module, x)
    while found.groups and any(operator(n) in SIZED for n in found.graph.nodes):
        kept = found.all_kept
        for i, group in enumerate(found.groups):  # a different number each, so that no quotient fits by chance
            kept[group.units[: min(group.units.size - 1, 1 + i % 5)]] = False
        node = parting(found, kept, cut(module, found, kept), x)
        if node is None:
            break
        forbid |= _stay(found, node, forbid)  # grows each time, at last to the whole graph
        found = dependencies(module, x, forbid)
    return found, forbid


def parting(found: Dependencies, kept: NDArray[np.bool_], module: nn.Module, x: Tensor) -> fx.Node | None:
    """The first operator of the whole network that the cut one does not follow as foretold; None: it follows.

    Where the cut network does not run, it is the last operator of the kind that fixes sizes before that.
    """
    here: list[fx.Node] = [n for n in found.graph.nodes if n.op == "call_function"]
    try:
        graph = exported(module, x).graph
    except UsageError as error:
        where = str(error).split(": ", 1)[0].removeprefix("torch.export stops in ").removeprefix("layer ")
        return _culprit(found, here, where)
    there = [n for n in graph.nodes if n.op == "call_function"]
    for mine, other in zip(here, there, strict=False):
        if mine.target != other.target or not _as_foretold(found, kept, mine, other):
            return mine
    return None if len(here) == len(there) else here[-1]


def _culprit(found: Dependencies, nodes: list[fx.Node], where: str) -> fx.Node:
    """The first operator that may fix a size of free channels in a module, or the last one before it."""
    inside = [i for i, n in enumerate(nodes) if layer_of(n) == where]
    sized = [i for i, n in enumerate(nodes) if operator(n) in SIZED and _free(found, n)]
    for i in sized:
        if i in inside:
            return nodes[i]
    before = [i for i in sized if inside and i < inside[0]]
    return nodes[(before or inside or sized or range(len(nodes)))[-1]]


def _free(found: Dependencies, node: fx.Node) -> bool:
    """Whether an operator takes channels that may leave."""
    free = np.zeros(found.count, dtype=np.bool_)
    for group in found.groups:
        free[group.units] = True
    return any(free[ids].any() for n in (node, *node.all_input_nodes) for ids in _ids(found, n))


def _ids(found: Dependencies, node: fx.Node) -> list[NDArray[np.int64]]:
    known = found.nodes.get(node.name, {})
    return [ids for labels in (known if isinstance(known, list) else [known]) for ids in labels.values()]


def _as_foretold(found: Dependencies, kept: NDArray[np.bool_], mine: fx.Node, other: fx.Node) -> bool:
    """Whether shapes, and where a slice begins, are what the rules say."""
    labels = found.nodes.get(mine.name, {})
    before, after = (n.meta.get("val") for n in (mine, other))
    if isinstance(before, Tensor):
        before, after, labels = [before], [after], [labels] if isinstance(labels, dict) else labels
    if not isinstance(before, (list, tuple)) or not isinstance(after, (list, tuple)):
        return True
    known: list[Labels] = labels if isinstance(labels, list) and labels else [{} for _ in before]
    for old, new, axes in zip(before, after, known, strict=True):
        shape = [int(kept[axes[a]].sum()) if a in axes else int(n) for a, n in enumerate(old.shape)]
        if shape != [int(n) for n in new.shape]:
            return False
    return operator(mine) != "slice" or _starts_alike(found, kept, mine, other)


def _starts_alike(found: Dependencies, kept: NDArray[np.bool_], mine: fx.Node, other: fx.Node) -> bool:
    source = found.nodes.get(mine.all_input_nodes[0].name, {})
    axis, start, begun = _number(mine, 1), _number(mine, 2), _number(other, 2)
    axis %= mine.all_input_nodes[0].meta["val"].dim()
    if not isinstance(source, dict) or axis not in source:
        return True
    left = kept[source[axis]]
    return int(left[:start].sum()) == (begun + int(left.sum()) if begun < 0 else begun)


def _number(node: fx.Node, place: int) -> int:
    """A whole number among an operator's arguments; 0 where it is left out."""
    value = node.args[place] if len(node.args) > place else 0
    return value if isinstance(value, int) else 0


def _stay(found: Dependencies, node: fx.Node, known: dict[str, str]) -> dict[str, str]:
    """Let channels stay: of this operator in modules of this class; next of all within such modules; at last of all."""
    kind, name = module_class_of(node), operator(node)
    calls = [n for n in found.graph.nodes if n.op == "call_function"]
    same = [n for n in calls if operator(n) == name and module_class_of(n) == kind]
    within = [n for n in calls if kind in module_classes_of(n)]
    why = f"{name} in {layer_of(node) or 'the network itself'}, whose size is a number in the code"
    for operators in (same, within, calls):
        new = {m.name: why for n in operators for m in (n, *n.all_input_nodes) if m.name not in known}
        if any(ids.size for n in operators for m in (n, *n.all_input_nodes) if m.name in new for ids in _ids(found, m)):
            return new
    raise UsageError(f"{why}: the network does not even follow itself uncut")
