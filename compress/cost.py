"""What a network costs before it runs anywhere: multiply-accumulates, weights and activations, layer by layer.

The network runs once on shapes alone (torch's fake tensors), so that even a large one takes seconds; every
operator is attributed to the module that calls it.  Conventions:

- One MAC is one multiplication with its addition.  Convolutions, linear layers and matrix products count, taps
  that fall on padding included; additions, activation functions, normalisation, pooling, resizing and recurrent
  layers do not.  This is how the papers count (SPAN x4, 48 channels: 27.87 G for 256 x 256).
- Activations are what these same operators write, as in Dollár, Singh & Girshick (arXiv:2103.06877, section
  3.1), who find that runtime follows them more closely than FLOPs.  The scores of an attention count.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compress.errors import CompressError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TOP", "Cost", "Layer", "measure", "trace_contexts"]

TOP = "(network)"
"""The name of what the outermost module does itself."""
_BYTES = 4  # of a float32


@dataclass(frozen=True)
class Layer:
    """A module without sub-modules, or what a module with sub-modules computes in its own ``forward``."""

    name: str
    """Qualified, as in ``named_modules``."""
    kind: str
    """Class of the module; for one with sub-modules also the operators that it calls itself."""
    calls: int
    """How often one forward pass runs it; 0: it has parameters, but is not run."""
    macs: int
    """Multiply-accumulates of all calls."""
    parameters: int
    """Numbers; a tensor that several layers share counts at the first of them."""
    weight_bytes: int
    """Bytes of the parameters in float32."""
    activation_bytes: int
    """Bytes, in float32, that its convolutions, linear layers and matrix products write, in all calls."""
    output_shape: tuple[int, ...]
    """Of the last call, N first; empty where it is not run or gives no tensor."""


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass."""

    input_shape: tuple[int, ...]
    """(N, channels, H, W)."""
    macs: int
    """Multiply-accumulates."""
    parameters: int
    """Numbers, each tensor once."""
    weight_bytes: int
    """Bytes of the parameters in float32."""
    activation_bytes: int
    """Bytes, in float32, that convolutions, linear layers and matrix products write."""
    layers: tuple[Layer, ...]
    """In the order of execution."""


def measure(module: nn.Module, inputs_shape: Sequence[int]) -> Cost:
    """Count what one forward pass of a copy of ``module``, in evaluation mode, computes.

    Args:
        module: takes one float32 tensor; left as it is.
        inputs_shape: of that tensor, (N, channels, H, W).

    Raises:
        CompressError: the network does not run on an input of this shape.
    """
    shape = tuple(inputs_shape)
    try:
        trace = _traced(module, shape, on_shapes=True)
    except Exception:  # it asks for values, or builds tensors in a way that fake ones do not follow
        try:
            trace = _traced(module, shape, on_shapes=False)
        except Exception as error:  # networks raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise CompressError(
                f"{type(module).__name__} does not run on an input of shape {shape}: {reason}; choose another size"
            ) from error
    layers = trace.layers()
    return Cost(
        input_shape=shape,
        macs=sum(layer.macs for layer in layers),
        parameters=sum(layer.parameters for layer in layers),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        layers=layers,
    )


@dataclass
class _Record:
    """What is known so far of one layer."""

    calls: int = 0
    macs: int = 0
    parameters: int = 0
    written: int = 0
    """Numbers."""
    shape: tuple[int, ...] = ()
    operators: dict[str, None] = field(default_factory=dict)
    """Those that count, in order."""


class _Trace:
    """Follows one forward pass."""

    def __init__(self, module: nn.Module) -> None:
        self._modules = dict(module.named_modules())
        self._records: dict[str, _Record] = {}
        self._running: list[str] = []

    def hooks(self) -> Iterator[Any]:
        """Attach to every module; the handles that detach."""
        for name, module in self._modules.items():
            yield module.register_forward_pre_hook(self._entering(name))
            yield module.register_forward_hook(self._leaving(name))

    def _entering(self, name: str) -> Callable[..., None]:
        module = self._modules[name]
        counted = not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False))

        def enter(*_: Any) -> None:
            self._running.append(name)
            if counted:
                self._record(name)

        return enter

    def _leaving(self, name: str) -> Callable[..., None]:
        def leave(_module: Any, _inputs: Any, output: Any) -> None:
            self._running.pop()
            if name in self._records:
                self._records[name].calls += 1
                self._records[name].shape = _shape(output)

        return leave

    def _record(self, name: str) -> _Record:
        return self._records.setdefault(name, _Record())

    def note(self, operator: str, arguments: Sequence[Any], output: Any) -> None:
        """An operator ran."""
        count = _COUNTED.get(operator)
        if count is not None:
            record = self._record(self._running[-1] if self._running else "")
            record.macs += count(arguments, output)
            record.written += output.numel()
            record.operators["conv" if operator == "convolution" else "matmul"] = None

    def layers(self) -> tuple[Layer, ...]:
        """Everything that ran or has parameters."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            for parameter in module.parameters(recurse=False):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    self._record(self._user(name)).parameters += parameter.numel()
        return tuple(self._layer(name, record) for name, record in self._records.items())

    def _user(self, name: str) -> str:
        """The layer that a module's parameters belong to.

        Itself, or, where it is not run because a module around it takes its tensors and computes with them,
        that module.
        """
        if name not in self._records or not self._records[name].calls:
            parts = name.split(".")
            for end in range(len(parts) - 1, -1, -1):
                around = ".".join(parts[:end])
                if around in self._records and self._records[around].macs:
                    return around
        return name

    def _layer(self, name: str, record: _Record) -> Layer:
        module = self._modules[name]
        kind = type(module).__name__
        if record.operators and any(True for _ in module.children()):
            kind = f"{kind}: {', '.join(record.operators)}"
        return Layer(
            name=name or TOP,
            kind=kind,
            calls=record.calls,
            macs=record.macs,
            parameters=record.parameters,
            weight_bytes=record.parameters * _BYTES,
            activation_bytes=record.written * _BYTES,
            output_shape=record.shape,
        )


def _shape(output: Any) -> tuple[int, ...]:
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return tuple(int(n) for n in getattr(output, "shape", ()))


def _traced(module: nn.Module, shape: tuple[int, ...], on_shapes: bool) -> _Trace:
    """The trace of one forward pass of a copy."""
    import torch

    module = copy.deepcopy(module).cpu().eval()
    trace = _Trace(module)
    with ExitStack() as stack:
        for handle in trace.hooks():
            stack.callback(handle.remove)
        for context in trace_contexts(on_shapes):
            stack.enter_context(context)
        inputs = torch.zeros(shape)
        stack.enter_context(_watching(trace))
        module(inputs)
    return trace


def trace_contexts(on_shapes: bool) -> Iterator[Any]:
    """What a forward pass is followed in: no gradients, attention in single operators, tensors without values."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel

    yield torch.no_grad()
    yield sdpa_kernel(SDPBackend.MATH)  # fused attention hides its matrix products, and no format has it
    yield _unfused_attention()
    if on_shapes:
        yield FakeTensorMode(allow_non_fake_inputs=True)


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """``nn.MultiheadAttention`` in single operators."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _watching(trace: _Trace) -> Any:
    """A context in which every operator is told to the trace, after composite ones have been taken apart."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is untyped
        """Sees the operators below autograd."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """Run the operator and note it."""
            kwargs = kwargs or {}
            operator = func.overloadpacket.__name__
            if func.namespace == "aten" and operator not in _COUNTED:
                with self:
                    parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
            output = func(*args, **kwargs)
            trace.note(operator, args, output)
            return output

    return Watch()  # type: ignore[no-untyped-call]


def _convolution(arguments: Sequence[Any], output: Any) -> int:
    """Each output meets a kernel of C_in/groups x taps; each input of a transposed one, C_out/groups x taps."""
    inputs, weight, transposed = arguments[0], arguments[1], arguments[6]
    return int((inputs if transposed else output).numel() * math.prod(weight.shape[1:]))


def _product(first: int) -> Callable[[Sequence[Any], Any], int]:
    """Of the matrices at ``first`` and after it: every entry of the left one meets every column of the right."""

    def count(arguments: Sequence[Any], _output: Any) -> int:
        left, right = arguments[first], arguments[first + 1]
        return int(left.numel() * (right.shape[-1] if right.dim() > 1 else 1))

    return count


_COUNTED: dict[str, Callable[[Sequence[Any], Any], int]] = {
    "convolution": _convolution,
    **{name: _product(0) for name in ("mm", "bmm", "mv", "dot")},
    **{name: _product(1) for name in ("addmm", "baddbmm", "addbmm", "addmv")},
}
"""Operator of torch's ATen to its multiply-accumulates, from its arguments and its output."""
