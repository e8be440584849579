"""One operator of an exported graph, as the rules see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from compress.channels.ledger import Ids, Labels, Ledger, Term

__all__ = ["Call", "Found", "follow", "layer_of", "module_class_of", "module_classes_of", "operator", "shape_of"]

Found = Labels | list[Labels]
"""What is known of an operator's output, or of each of its outputs."""


def follow(module: nn.Module) -> list[str]:
    """A list that always ends in the name of the module that runs; hooks are put into the module for it."""
    running: list[str] = []
    for name, part in module.named_modules():
        part.register_forward_pre_hook(lambda *_, name=name: running.append(name))
        part.register_forward_hook(lambda *_: (running.pop(), None)[1])
    return running


def layer_of(node: fx.Node) -> str:
    """The innermost module that calls the operator."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def module_classes_of(node: fx.Node) -> list[str]:
    """The classes of the modules that the operator lies in, the innermost last."""
    return [str(kind) for _, kind in (node.meta.get("nn_module_stack") or {}).values()]


def module_class_of(node: fx.Node) -> str:
    """The class of the innermost."""
    return (module_classes_of(node) or [""])[-1]


def operator(node: fx.Node) -> str:
    """Its name, ``conv2d``; overloads and in-place forms have the same."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    name = str(schema.name).removeprefix("aten::")
    return name if name.startswith("_") else name.rstrip("_")


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Of its output; of the first where there are several."""
    value = node.meta.get("val")
    if isinstance(value, (list, tuple)):
        value = value[0]
    return tuple(int(n) for n in value.shape) if isinstance(value, Tensor) else ()


@dataclass(frozen=True)
class Call:
    """An operator, and what is known of its inputs."""

    node: fx.Node
    ledger: Ledger
    known: dict[fx.Node, Found]

    @property
    def where(self) -> str:
        """For messages."""
        return f"{operator(self.node)} in {layer_of(self.node) or 'the network itself'}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output."""
        return shape_of(self.node)

    def argument(self, name: str, default: Any = None) -> Any:
        """The value of an argument by the name that its schema gives it."""
        if name in self.node.kwargs:
            return self.node.kwargs[name]
        arguments = [a.name for a in self.node.target._schema.arguments]  # type: ignore[union-attr]
        if name not in arguments:
            return default
        place = arguments.index(name)
        return self.node.args[place] if place < len(self.node.args) else default

    def axis(self, name: str = "dim", default: int = 0) -> int:
        """An argument that names an axis of the first input, counted from the front."""
        axis = int(self.argument(name, default))
        return axis % len(shape_of(self.inputs[0])) if axis < 0 else axis

    @property
    def inputs(self) -> list[fx.Node]:
        """All tensors that it takes."""
        return [n for n in self.node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]

    def labels(self, node: fx.Node | None) -> Labels:
        """What is known of an input."""
        found = self.known.get(node, {}) if node is not None else {}
        return found if isinstance(found, dict) else {}

    def ids(self, node: fx.Node, axis: int) -> Ids:
        """The numbers of an input's axis; of one whose size is fixed, numbers that stay."""
        labels, shape = self.labels(node), shape_of(node)
        axis %= len(shape)
        if axis not in labels:
            fixed = self.ledger.new(shape[axis])
            self.ledger.freeze(fixed, f"{self.where} meets a tensor of fixed size")
            return fixed
        return labels[axis]

    def tie(self, node: fx.Node | None, axis: int, ids: Ids) -> None:
        """Let an axis of an input go together with other numbers."""
        if node is not None and shape_of(node)[axis] == ids.size:
            self.ledger.tie(self.ids(node, axis), ids)

    def count(self, factor: int, *axes: Ids) -> None:
        """Note multiply-accumulates."""
        self.ledger.work.append(Term(factor, axes))

    def forbid(self, why: str = "") -> Found:
        """Let everything that comes in stay; nothing is known of what comes out."""
        reason = f"{self.where}{why}"
        for node in self.inputs:
            for ids in self.labels(node).values():
                self.ledger.freeze(ids, reason)
        return {}

    def forbid_axes(self, node: fx.Node, axes: Sequence[int]) -> Labels:
        """Let some axes of an input stay; the others."""
        labels = dict(self.labels(node))
        for axis in axes:
            if axis in labels:
                self.ledger.freeze(labels.pop(axis), self.where)
        return labels

    def positions(self, shape: tuple[int, ...], channel: int) -> int:
        """How many vectors of channels a tensor holds."""
        return math.prod(shape) // max(1, shape[channel])
