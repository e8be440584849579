"""What the methods that rewrite a traced network share."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

__all__ = ["Traced", "calls_once", "concat_inputs", "traced"]


class Traced(nn.Module):
    """A traced network that keeps the plain attributes by which the house knows its module."""

    def __init__(self, graph: fx.GraphModule, origin: nn.Module) -> None:
        super().__init__()
        self.traced = graph
        for name in ("scale", "classes", "channels", "unit", "input_size"):
            if hasattr(origin, name):
                setattr(self, name, getattr(origin, name))

    def forward(self, x: Tensor) -> Tensor:
        """What the network computes."""
        y: Tensor = self.traced(x)
        return y


def traced(module: nn.Module) -> fx.GraphModule | None:
    """A copy of a network as a graph of its operations; nothing where its code cannot be traced."""
    try:
        graph = fx.symbolic_trace(copy.deepcopy(module).eval())
    except Exception:  # control flow on values, and whatever else foreign code does
        return None
    return graph if isinstance(graph, fx.GraphModule) else None


def concat_inputs(node: fx.Node) -> tuple[fx.Node, ...]:
    """The inputs of a concatenation of channels; none where the node is something else."""
    if node.op != "call_function" or node.target not in (torch.cat, torch.concat, torch.concatenate):
        return ()
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    inputs = node.args[0]
    if axis not in (1, -3) or not isinstance(inputs, (list, tuple)):
        return ()
    nodes = tuple(i for i in inputs if isinstance(i, fx.Node))
    return nodes if len(nodes) == len(inputs) else ()


def calls_once(graph: fx.GraphModule) -> dict[str, nn.Module]:
    """The submodules that are called exactly once, so that their weights may be changed for that call."""
    calls: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    modules = dict(graph.named_modules())
    shared: dict[int, int] = {}
    for name in calls:
        for parameter in modules[name].parameters():
            shared[id(parameter)] = shared.get(id(parameter), 0) + 1
    return {
        name: modules[name]
        for name, count in calls.items()
        if count == 1 and all(shared[id(p)] == 1 for p in modules[name].parameters())
    }
