"""Which channels of a network go together, read off its exported graph.

The network is exported with torch.export, undecomposed.  Every index along an axis of a weight gets a number; the rules
carry the numbers through the operators and tie those that must leave together (the dependency graph of Fang et al.,
arXiv:2301.12900, section 3, by index rather than by layer).  An operator without a rule lets all that it touches stay.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from compress.channels import rules_layers, rules_shapes, rules_values
from compress.channels.calls import Call, Found, follow, operator, shape_of
from compress.channels.ledger import Ids, Labels, Ledger, Term
from compress.errors import UsageError

__all__ = ["Dependencies", "Group", "dependencies", "exported"]

_RULES = rules_layers.RULES | rules_shapes.RULES | rules_values.RULES


@dataclass(frozen=True)
class Group:
    """Channels that are made and read by the same weights: any of them may leave for any other."""

    layers: tuple[str, ...]
    """Those that make them."""
    units: Ids
    """The numbers of what leaves as one."""
    multiplicity: int
    """How many channels of a layer one unit is: r² before a pixel shuffle."""


@dataclass(frozen=True)
class Dependencies:
    """What may leave a network, and what goes with it."""

    groups: tuple[Group, ...]
    forbidden: dict[str, str]
    """Layers all of whose channels stay, and why."""
    unused: tuple[str, ...]
    """Parameters that no operator reads; they stay as they are."""
    places: dict[str, Labels]
    """By tensor of the state: the unit of every index along each axis."""
    made: dict[str, tuple[int, ...]]
    """By tensor: the axes whose channels it makes, as against those that it reads."""
    work: tuple[Term, ...]
    """Multiply-accumulates, as :mod:`compress.cost` counts them."""
    nodes: dict[str, Found]
    """By node of the graph: the units of what it gives."""
    graph: fx.Graph
    count: int
    """Numbers of units are below this."""

    @property
    def all_kept(self) -> NDArray[np.bool_]:
        """The choice that nothing leaves."""
        return np.ones(self.count, dtype=np.bool_)

    @property
    def channels(self) -> int:
        """Channels that may leave."""
        return sum(group.units.size for group in self.groups)


def exported(module: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    """The graph of a module.

    Raises:
        UsageError: its way depends on values, or is otherwise beyond torch.export; the layer is named.
    """
    module = copy.deepcopy(module).eval()
    running = follow(module)
    try:
        with torch.no_grad(), _silent():
            return torch.export.export(module, (x,))
    except Exception as error:  # networks raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        where = f"layer {running[-1]}" if running and running[-1] else "the network's own forward"
        raise UsageError(
            f"torch.export stops in {where}: {reason}; what a network does may not depend on values"
        ) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Without the pages that torch logs of a network that does not run."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def dependencies(module: nn.Module, x: Tensor, forbid: dict[str, str] | None = None) -> Dependencies:
    """Read which channels go together off a module.

    Args:
        module: in evaluation mode, with its blocks merged.
        x: an input; a small one is enough.
        forbid: names of graph nodes whose channels must stay, and why.

    Raises:
        UsageError: it cannot be exported.
    """
    program = exported(module, x)
    ledger = Ledger()
    known: dict[fx.Node, Found] = {}
    tensors, unused = _tensors(program, module, ledger, known)
    for node in program.graph.nodes:
        if node.op == "call_function":
            known[node] = _outcome(Call(node, ledger, known))
    stay = dict.fromkeys(program.graph_signature.user_outputs, "the network's output") | (forbid or {})
    for node, outcome in known.items():
        for ids in _all(outcome) if node.name in stay else ():
            ledger.freeze(ids, stay[node.name])
    return _collected(program, ledger, known, tensors, unused)


def _all(found: Found) -> list[Ids]:
    return [ids for labels in (found if isinstance(found, list) else [found]) for ids in labels.values()]


def _tensors(
    program: torch.export.ExportedProgram, module: nn.Module, ledger: Ledger, known: dict[fx.Node, Found]
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Number the axes of all parameters and buffers that the graph takes; those that nothing reads."""
    own = {n: id(t) for n, t in (*module.named_parameters(remove_duplicate=False), *module.named_buffers())}
    first: dict[int, str] = {}
    tensors: dict[str, Labels] = {}
    unused = []
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for spec in program.graph_signature.input_specs:
        node, target = nodes[spec.arg.name], spec.target
        if spec.kind == InputKind.USER_INPUT or target is None:
            continue
        name = first.setdefault(own.get(target, id(spec)), target)  # a tensor that several layers share is one
        if name not in tensors:
            tensors[name] = {axis: ledger.new(n) for axis, n in enumerate(shape_of(node)) if n > 1}
        if target not in own:
            for ids in tensors[name].values():
                ledger.freeze(ids, f"the constant {target}")
        if not node.users and spec.kind == InputKind.PARAMETER:
            unused.append(target)
        known[node] = tensors[name]
    return tensors, tuple(unused)


def _outcome(call: Call) -> Found:
    """What the rule of an operator says; everything stays where there is none, or where it does not fit."""
    name = operator(call.node)
    inputs = [call.known.get(n, {}) for n in call.node.all_input_nodes]
    if not any(_all(found) for found in inputs):
        return {}
    rule = _RULES.get(name)
    if rule is None:
        return call.forbid(", which has no rule")
    found = rule(call)
    values = call.node.meta.get("val")
    values = values if isinstance(values, (list, tuple)) else [values]
    for labels, value in zip(found if isinstance(found, list) else [found], values, strict=True):
        for axis, ids in labels.items():
            if not isinstance(value, Tensor) or ids.shape != (int(value.shape[axis]),):
                return call.forbid(", whose rule does not fit")
    return found


def _collected(
    program: Any,
    ledger: Ledger,
    known: dict[fx.Node, Found],
    tensors: dict[str, Labels],
    unused: tuple[str, ...],
) -> Dependencies:
    """What the ledger says, by units."""
    root = ledger.roots()
    reasons: dict[int, str] = {}
    for ids, why in ledger.frozen:
        for unit in np.unique(root[ids]).tolist():
            reasons.setdefault(unit, why)
    places = {name: {axis: root[ids] for axis, ids in labels.items()} for name, labels in tensors.items()}
    makers: dict[int, list[str]] = {}
    forbidden: dict[str, str] = {}
    fresh = np.zeros(ledger.count, dtype=np.bool_)
    for ids, layer in ledger.made:
        units = np.unique(root[ids]).tolist()
        for unit in units:
            makers.setdefault(unit, []).append(layer)
        fresh[ids] = True
        if all(unit in reasons for unit in units):
            forbidden[layer] = reasons[units[0]]
    free = {unit for unit in makers if unit not in reasons}
    return Dependencies(
        groups=_groups(places, free, makers),
        forbidden=forbidden,
        unused=unused,
        places=places,
        made={
            name: tuple(a for a, ids in labels.items() if fresh[ids].any() or len(labels) == 1)
            for name, labels in tensors.items()
        },
        work=tuple(Term(term.factor, tuple(root[ids] for ids in term.axes)) for term in ledger.work),
        nodes={node.name: _rooted(found, root) for node, found in known.items()},
        graph=program.graph,
        count=ledger.count,
    )


def _rooted(found: Found, root: Ids) -> Found:
    if isinstance(found, list):
        return [{axis: root[ids] for axis, ids in labels.items()} for labels in found]
    return {axis: root[ids] for axis, ids in found.items()}


def _groups(places: dict[str, Labels], free: set[int], makers: dict[int, list[str]]) -> tuple[Group, ...]:
    """Free units by the axes that they lie on."""
    keys: dict[int, list[tuple[str, int, int]]] = {}
    for name, labels in places.items():
        for axis, ids in labels.items():
            for unit, count in zip(*(a.tolist() for a in np.unique(ids, return_counts=True)), strict=True):
                if unit in free:
                    keys.setdefault(unit, []).append((name, axis, count))
    together: dict[tuple[Any, ...], list[int]] = {}
    for unit, key in keys.items():
        together.setdefault((tuple(key), tuple(makers[unit])), []).append(unit)
    return tuple(
        Group(tuple(dict.fromkeys(layers)), np.array(sorted(units)), max(count for _, _, count in key))
        for (key, layers), units in together.items()
    )
