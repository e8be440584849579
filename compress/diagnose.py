"""What can be said of a network before anything is trained or run on a device: the story of ``compress diagnose``."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from compress import __version__, cost, filter_health
from compress.cost import Cost
from compress.errors import UsageError
from compress.filter_health import FilterHealth
from compress.methods.reparameterize import merged
from compress.network import Network
from compress.progress import Reporter
from export import formats
from export.artifact import Artifact, Card, ExportSpec
from export.errors import ExportError, MissingRuntimeError
from export.receptive_field import radius

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Conversion", "Diagnosis", "diagnose", "input_size", "to_json"]

_SIZE = (256, 256)
_TELLING = 300  # characters of a reason


@dataclass(frozen=True)
class Conversion:
    """Whether a format takes the network, in float32."""

    format: str
    status: Literal["converts", "refused", "not installed"]
    seconds: float
    file_bytes: int | None
    """None where there is no file."""
    operators: Mapping[str, int]
    """Name, as the format calls it, to count."""
    reason: str
    """Why there is no file; empty where there is one."""
    refused_operator: str | None
    """The operator that the converter's message names, as torch calls it."""


@dataclass(frozen=True)
class Diagnosis:
    """All that was found out."""

    network: str
    task: str
    scale: int
    channels: int
    classes: int | None
    input_size: tuple[int, int]
    """(height, width) that MACs and activations are for."""
    weights: str
    """Where they came from."""
    sha256: str
    """Of the weights."""
    random: bool
    """The weights were never trained; the filters say nothing."""
    training_parameters: int | None
    """Of the form that is trained, where it has branches that were merged here; None: it has none."""
    receptive_field: int | None
    """Radius, input pixels; None: the whole image, more than 63, or not told (classification)."""
    cost: Cost
    """Of the form that is deployed."""
    filters: tuple[FilterHealth, ...]
    """Of every 2-D convolution of that form, as ``named_modules`` lists them."""
    conversions: tuple[Conversion, ...]
    versions: Mapping[str, str]


def diagnose(network: Network, size: tuple[int, int] | None, wanted: Sequence[str], progress: Reporter) -> Diagnosis:
    """Look at a network from all sides; nothing of it is changed.

    Args:
        network: in any form; branches that merge are merged first, because that is what is deployed.
        size: (height, width) of the input; None: see :func:`input_size`.
        wanted: names of the formats to try.
        progress: what the user sees.

    Raises:
        UsageError: a size that the network does not take.
        ExportError: no such format.
        CompressError: weights that are not finite, or a network that does not run.
    """
    size = input_size(network, size)
    for name in wanted:
        if name not in formats.names():
            formats.by_name(name)  # raises, with the nearest
    module = merged(network.module).eval()
    trained, deployed = (sum(p.numel() for p in m.parameters()) for m in (network.module, module))
    with progress.bar("measuring", 3) as update:
        found = cost.measure(module, (1, network.channels, *size))
        update(1)
        filters = tuple(filter_health.judge(name, weight) for name, weight in _kernels(module))
        update(2)
        halo = _receptive_field(network, module)
    spec = ExportSpec(module, _card(network, halo), size, graph=network.graph)
    return Diagnosis(
        network=network.name,
        task=network.task,
        scale=network.scale,
        channels=network.channels,
        classes=network.classes,
        input_size=size,
        weights=_weights(network),
        sha256=network.weights.sha256,
        random=network.weights.random,
        training_parameters=trained if trained != deployed else None,
        receptive_field=halo,
        cost=found,
        filters=filters,
        conversions=tuple(_conversions(spec, wanted, progress)),
        versions=_versions(wanted),
    )


def input_size(network: Network, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width): as wanted, or the only one that the network takes, or 256 x 256 up to its next multiple.

    Raises:
        UsageError: the network does not take the size wanted.
    """
    unit, only = network.unit, network.input_size
    if wanted is None:
        return only or (-(-_SIZE[0] // unit) * unit, -(-_SIZE[1] // unit) * unit)
    if only is not None and wanted != only:
        raise UsageError(
            f"--input-size {wanted[0]}x{wanted[1]}: {network.name} takes {only[0]}x{only[1]} only; leave it out"
        )
    if wanted[0] % unit or wanted[1] % unit:
        raise UsageError(
            f"--input-size {wanted[0]}x{wanted[1]}: {network.name} needs multiples of {unit}, such as "
            f"{-(-wanted[0] // unit) * unit}x{-(-wanted[1] // unit) * unit}"
        )
    return wanted


def to_json(diagnosis: Diagnosis) -> bytes:
    """The diagnosis as JSON."""
    return pydantic.TypeAdapter(Diagnosis).dump_json(diagnosis, indent=1)


def _kernels(module: nn.Module) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and weight (C_out, C_in / groups, h, w) of every 2-D convolution."""
    from torch import nn

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            yield name or cost.TOP, layer.weight.detach().cpu().numpy()


def _receptive_field(network: Network, module: nn.Module) -> int | None:
    if network.classes is not None:
        return None
    if network.tables is not None:
        return network.tables.halo
    try:
        return radius(module, network.channels, network.scale, unit=network.unit)
    except (RuntimeError, ValueError, IndexError):  # a network that takes no probe of that size
        return None


def _card(network: Network, halo: int | None) -> Card:
    return Card(
        model=network.name,
        scale=network.scale,
        channels=network.channels,
        halo=halo,
        dtype="float32" if network.tables is None else "int8",
        task=network.task,
        unit=network.unit,
        classes=network.classes,
        crop_share=network.crop_share,
    )


def _weights(network: Network) -> str:
    source = network.weights
    if source.random:
        return "random values, never trained"
    if source.path is None:
        return "as the code that builds it gave them"
    return f"{source.path.name}{', built in' if source.builtin else ''}"


def _conversions(spec: ExportSpec, wanted: Sequence[str], progress: Reporter) -> Iterator[Conversion]:
    """Every format tried in a folder that is thrown away."""
    if not wanted:
        return
    with progress.bar("converting", len(wanted)) as update, tempfile.TemporaryDirectory() as folder:
        for done, name in enumerate(wanted, start=1):
            yield _conversion(name, partial(formats.write, name, spec, Path(folder) / name, "network"))
            update(done)


def _conversion(name: str, write: Callable[[], Artifact]) -> Conversion:
    start = time.monotonic()
    failed = Conversion(name, "refused", 0.0, None, {}, "", None)
    try:
        artifact = write()
    except MissingRuntimeError as error:
        return replace(failed, status="not installed", reason=str(error))
    except ExportError as error:
        reason, operator = _explained(error)
        return replace(failed, seconds=time.monotonic() - start, reason=reason, refused_operator=operator)
    seconds = time.monotonic() - start
    operators = dict(sorted(artifact.operators.items(), key=lambda item: (-item[1], item[0])))
    return Conversion(name, "converts", seconds, artifact.file_bytes, operators, "", None)


def _explained(error: ExportError) -> tuple[str, str | None]:
    """The first line of the innermost cause, and the operator that it, or else a cause around it, names."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    texts = [str(e.args[0]) if e.args else "" for e in reversed(chain)]
    lines = [line for line in texts[0].splitlines() if line.strip()]
    cause = chain[-1]
    reason = str(error) if cause is error or not lines else f"{type(cause).__name__}: {lines[0].strip()}"
    named = (_operator(text) for text in texts)
    return reason[:_TELLING], next((name for name in named if name), None)


_OPERATOR = re.compile(r"OpOverload\(op='([\w.]+)'|torch\.ops\.([\w.]+)|\b((?:aten|prims|torchvision)(?:\.|::)\w+)")


def _operator(text: str) -> str | None:
    """The first operator of torch in a message, as ``namespace.name``."""
    match = _OPERATOR.search(text)
    if match is None:
        return None
    return ".".join(next(g for g in match.groups() if g).replace("::", ".").split(".")[:2])


def _versions(wanted: Sequence[str]) -> dict[str, str]:
    """Of us, torch, and the runtimes of the formats that are installed."""
    found = {"edgepress": __version__, "torch": metadata.version("torch")}
    for name in wanted:
        try:
            runtime = formats.by_name(name).RUNTIME
            found[runtime] = metadata.version(runtime)
        except (ExportError, ImportError):  # not installed
            continue
    return found
