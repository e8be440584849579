"""The operators of a network as a device runs them: what :mod:`targets.latency` predicts from.

The network runs once on shapes alone, as in :mod:`compress.cost`.  A batch normalisation behind a convolution and a
ReLU-like activation behind any layer count as part of that layer, since every runtime folds them; views cost nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from compress.cost import trace_contexts
from compress.errors import CompressError
from targets.workload import Operator, Workload

if TYPE_CHECKING:
    from torch import nn

__all__ = ["workload"]

_FOLDED = {"relu", "relu_", "hardtanh", "hardtanh_", "clamp", "clamp_", "clamp_min", "clamp_max", "leaky_relu"}
_FOLDED |= {"leaky_relu_", "_prelu_kernel", "prelu"}
_KINDS = {
    **dict.fromkeys(("add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "div", "div_", "maximum"), "elementwise"),
    **dict.fromkeys(("silu", "silu_", "sigmoid", "sigmoid_", "gelu", "gelu_", "tanh", "tanh_", "elu"), "activation"),
    **dict.fromkeys(("hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "exp", "softplus"), "activation"),
    **dict.fromkeys(("rsqrt", "sqrt", "pow", "neg", "abs", "erf", "relu6", "mish", "log", "sin", "cos"), "activation"),
    **dict.fromkeys(("native_layer_norm", "native_group_norm", "var_mean", "linalg_vector_norm"), "normalise"),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"), "normalise"),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax"), "softmax"),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "mean", "amax"), "pool"),
    **dict.fromkeys(("max_pool3d_with_indices", "_adaptive_avg_pool3d", "avg_pool3d", "sum", "max", "argmax"), "pool"),
    **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "grid_sampler_2d"), "resize"),
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "upsample_nearest3d"), "resize"),
    **dict.fromkeys(("cat", "stack"), "concat"),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "constant_pad_nd", "reflection_pad2d"), "layout"),
    **dict.fromkeys(("clone", "copy_", "roll", "index", "gather", "im2col", "col2im"), "layout"),
    **dict.fromkeys(("replication_pad2d", "index_select", "repeat", "flip"), "layout"),
}
_PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}
_NORMS = ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")


def workload(module: nn.Module, shape: Sequence[int], name: str = "") -> Workload:
    """The operators of one forward pass of a copy of ``module``, in evaluation mode.

    Args:
        module: takes one float32 tensor; left as it is.
        shape: of that tensor, N first.
        name: of the network, for messages.

    Raises:
        CompressError: the network does not run on an input of this shape.
    """
    size = tuple(shape)
    try:
        found = _followed(module, size)
    except Exception as error:  # networks raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise CompressError(
            f"{name or type(module).__name__} does not run on an input of shape {size}: {reason}; choose another size"
        ) from error
    return Workload(name or type(module).__name__, size, tuple(found))


def _followed(module: nn.Module, shape: tuple[int, ...]) -> list[Operator]:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    running = copy.deepcopy(module).cpu().eval()
    follower = _Follower()

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is untyped
        """Sees the operators below autograd."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """Run the operator and note it."""
            kwargs = kwargs or {}
            operator = func.overloadpacket.__name__
            if func.namespace == "aten" and not follower.knows(operator):
                with self:
                    parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
            output = func(*args, **kwargs)
            follower.note(operator, args, output)
            return output

    with ExitStack() as stack:
        for context in trace_contexts(on_shapes=True):
            stack.enter_context(context)
        inputs = torch.zeros(shape)
        stack.enter_context(Watch())  # type: ignore[no-untyped-call]
        running(inputs)
    return follower.operators


class _Follower:
    """Collects operators, and who made which tensor."""

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self._makers: dict[int, str] = {}
        self._alive: list[Any] = []  # an id is only unique while its tensor lives

    def knows(self, operator: str) -> bool:
        """Whether it is counted whole."""
        return operator in _KINDS or operator in _PRODUCTS or operator in _FOLDED or operator == "convolution"

    def note(self, operator: str, arguments: Sequence[Any], output: Any) -> None:
        """An operator ran."""
        tensors = list(_tensors(arguments))
        made = next(_tensors([output]), None)
        if made is None:
            return
        before = self._makers.get(id(tensors[0]), "") if tensors else ""
        folded = operator in _FOLDED and before not in ("", "layout", "concat")
        folded |= operator in _NORMS and before in ("conv", "pointwise", "grouped", "depthwise", "transposed")
        found = None if folded else _operator(operator, arguments, tensors, made)
        if found is not None:
            self.operators.append(found)
        for tensor in _tensors([output]):
            self._makers[id(tensor)] = found.kind if found is not None else before
            self._alive.append(tensor)


def _tensors(values: Any) -> Any:
    import torch

    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _operator(operator: str, arguments: Sequence[Any], tensors: list[Any], made: Any) -> Operator | None:
    """None for what costs nothing: a view, a constant, or arithmetic on a few numbers."""
    if operator == "convolution":
        return _convolution(arguments, made)
    if operator in _PRODUCTS:
        return _product(arguments[_PRODUCTS[operator] :], made, operator)
    kind = _KINDS.get(operator) or ("activation" if operator in _FOLDED else "")
    if not kind or made.numel() < 2:
        return None
    read = tensors[:1] if kind in ("normalise", "resize", "pool") else tensors
    return Operator(kind, 0, sum(t.numel() for t in read), made.numel())


def _convolution(arguments: Sequence[Any], made: Any) -> Operator:
    inputs, weight, transposed, groups = arguments[0], arguments[1], bool(arguments[6]), int(arguments[8])
    taps = math.prod(weight.shape[2:])
    out, into = made.shape[1] // groups, inputs.shape[1] // groups
    if made.dim() != 4:
        kind = "volumetric"
    elif transposed:
        kind = "transposed"
    elif groups == 1:
        kind = "conv" if taps > 1 else "pointwise"
    else:
        kind = "depthwise" if into == 1 else "grouped"
    macs = (inputs if transposed else made).numel() * math.prod(weight.shape[1:])
    return Operator(kind, int(macs), inputs.numel(), made.numel(), weight.numel(), into, out, taps, groups)


def _product(arguments: Sequence[Any], made: Any, operator: str) -> Operator:
    left, right = arguments[0], arguments[1]
    columns = right.shape[-1] if right.dim() > 1 else 1
    constant = operator in ("mm", "addmm")
    return Operator(
        "linear" if constant else "matmul",
        int(left.numel() * columns),
        left.numel() + (0 if constant else right.numel()),
        made.numel(),
        right.numel() if constant else 0,
        left.shape[-1],
        columns,
    )
