"""A checkpoint file alone: the architecture is recognised by its tensors, in the zoo or by spandrel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from compress import torchvision_shim, zoo
from compress.errors import UsageError, WeightsError
from compress.network import RESTORATION, SUPER_RESOLUTION, Network, WeightsSource
from compress.registry import MODELS, SOURCES
from compress.source import Request
from compress.weights import SUFFIXES, read, sha256
from export.errors import MissingRuntimeError

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

__all__ = ["Checkpoint", "Described"]

_NEAREST = 3


class Described(nn.Module):
    """A network that spandrel recognised, as a plain module of one input and one output."""

    def __init__(self, model: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._call = call

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W)."""
        return self._call(self.model, x)


class Checkpoint:
    """A .pth, .pt, .th, .ckpt, .safetensors or .h5 file whose tensors tell what it is."""

    def accepts(self, model: str) -> bool:
        """Whether the text ends like a checkpoint."""
        return Path(model).suffix.lower() in SUFFIXES

    def load(self, request: Request) -> Network:
        """The network of that file.

        Raises:
            WeightsError: unreadable, recognised by nobody (the nearest architectures are named), or another scale.
        """
        path = Path(request.model)
        if request.weights is not None or request.random or request.arguments:
            raise UsageError(f"{path} is a checkpoint already; drop --weights, --random and --model-arg")
        state = read(path)
        family = zoo.recognise(state)
        if family is not None:
            return zoo.load(family, path, request.scale)
        try:
            torchvision_shim.need("spandrel")
        except MissingRuntimeError as error:
            raise WeightsError(f"weights {path}: no network of the zoo, {_closest(state)}; {error}") from None
        return _recognised(path, state, request)


def _recognised(path: Path, state: Mapping[str, Tensor], request: Request) -> Network:
    import spandrel

    try:
        found = spandrel.ModelLoader("cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        raise WeightsError(
            f"weights {path}: neither the zoo nor spandrel knows the architecture; {_closest(state)}. If it is one of "
            "these, compare the tensor names; else give --model package.module:factory --weights FILE"
        ) from None
    except Exception as error:  # a state dict that looks like one architecture and does not load
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"weights {path}: spandrel recognises the architecture but cannot load it ({'; '.join(reason[:3])[:400]}); "
            f"{_closest(state)}"
        ) from None
    return describe(found, path, request)


def describe(found: Any, path: Path, request: Request) -> Network:
    """A model that spandrel loaded, as a network.

    Raises:
        WeightsError: it is no image-to-image network of RGB or grey, or another scale was asked for.
    """
    import spandrel

    name = found.architecture.id.lower()
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.input_channels != found.output_channels:
        raise WeightsError(
            f"weights {path}: {found.architecture.name} takes more than an image (purpose {found.purpose}), expected "
            "an image in and an image of as many channels out; such networks are not supported"
        )
    if request.scale not in (None, found.scale):
        raise WeightsError(
            f"weights {path} are for scale {found.scale}, --scale asks for {request.scale}; drop --scale"
        )
    return Network(
        name=name,
        module=Described(found.model.float(), _call_of(found)).eval(),
        scale=found.scale,
        channels=found.input_channels,
        weights=WeightsSource(path, sha256(path), builtin=False),
        task=SUPER_RESOLUTION if found.scale > 1 else RESTORATION,
        unit=found.size_requirements.multiple_of or 1,
    )


def _call_of(found: ImageModelDescriptor[nn.Module]) -> Callable[[nn.Module, Tensor], Tensor]:
    """How spandrel runs the model, without its padding and clamping, which no file should hold."""
    call = getattr(found, "_call_fn", None)
    return call if callable(call) else lambda model, x: model(x)


def _closest(state: Mapping[str, object]) -> str:
    """The architectures that ask for the most of these tensors, with the shares."""
    known = {name: _keys(MODELS[name].marks) for name in MODELS}
    known |= dict(_spandrel_marks())
    shares = {name: sum(any(k in state for k in mark) for mark in marks) / len(marks) for name, marks in known.items()}
    best = sorted((n for n in shares if shares[n] > 0), key=lambda n: -shares[n])[:_NEAREST]
    shown = ", ".join(f"{name} ({shares[name]:.0%} of its telling tensors)" for name in best)
    first = ", ".join(list(state)[:4])
    return f"found {len(state)} tensors ({first}, ...); closest by tensor names: {shown or 'none'}"


def _keys(marks: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [tuple(mark.split("|")) for mark in marks]


class _Asked(dict[str, object]):
    """Says yes to every name, and remembers which were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __contains__(self, key: object) -> bool:
        self.names.append(str(key))
        return True


def _spandrel_marks() -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """The tensor names that each of spandrel's architectures is recognised by."""
    try:
        torchvision_shim.need("spandrel")
    except MissingRuntimeError:
        return
    import spandrel

    for support in spandrel.MAIN_REGISTRY.architectures("detection"):
        asked = _Asked()
        with contextlib.suppress(Exception):  # a detection that looks at shapes: what it asked for first is enough
            support.architecture.detect(asked)
        if asked.names:
            yield support.architecture.id, [(name,) for name in dict.fromkeys(asked.names)]


SOURCES.add("checkpoint")(Checkpoint())
