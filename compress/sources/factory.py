"""The user's own network: ``package.module:factory``, called with the arguments of ``--model-arg``."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress import zoo
from compress.errors import UsageError
from compress.network import Network, WeightsSource
from compress.registry import SOURCES
from compress.source import Request, arguments
from compress.sources.probe import contract
from compress.weights import load_into, read, sha256

__all__ = ["Factory"]

_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Factory:
    """``package.module:factory``: a function or class that returns a torch module."""

    def accepts(self, model: str) -> bool:
        """Whether the text is a module path, a colon and a name; ``timm:`` is another kind."""
        return bool(_PATTERN.fullmatch(model)) and not model.startswith("timm:")

    def load(self, request: Request) -> Network:
        """What the factory returns; what it takes and gives is found by running it.

        Raises:
            UsageError: it cannot be imported or called, raises, or returns no module that takes images.
            WeightsError: the weights do not fit.
        """
        made = _called(request)
        if isinstance(made, Network):
            if request.weights is not None:
                raise UsageError(f"{request.model} returned a Network with weights; drop --weights")
            return made
        if not isinstance(made, nn.Module):
            raise UsageError(f"{request.model} returned a {type(made).__name__}, expected a torch module or a Network")
        module = made.eval()
        if request.weights is not None:
            load_into(module, read(request.weights), request.weights)
        own = _own_size(module) or request.input_size
        found = contract(module, request.model, [own] if own is not None else (), request.task)
        if request.scale not in (None, found.scale):
            raise UsageError(f"{request.model} enlarges by {found.scale}, --scale says {request.scale}; drop --scale")
        if request.weights is not None:
            source = WeightsSource(request.weights, sha256(request.weights), builtin=False)
        else:
            source = WeightsSource(None, zoo.fingerprint(module), builtin=False, random=request.random)
        return Network(
            name=request.model.rsplit(":", 1)[1],
            module=module,
            scale=found.scale,
            channels=found.channels,
            weights=source,
            task=found.task,
            unit=int(getattr(module, "unit", 1)),
            input_size=own or found.input_size,
            classes=found.classes,
        )


def _own_size(module: nn.Module) -> tuple[int, int] | None:
    """The (height, width) that the module states as its one input size; None: it states none."""
    size = getattr(module, "input_size", None)
    if isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, int) for side in size):
        return size[0], size[1]
    return None


def _called(request: Request) -> Any:
    factory = _imported(request.model)
    given = arguments(request.arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        try:
            return factory(**given)
        except Exception as error:  # the user's code raises anything; its place is what helps
            raise UsageError(
                f"{request.model}({', '.join(f'{k}={v!r}' for k, v in given.items())}) raised {type(error).__name__}: "
                f"{error}{_place(error, factory)}; mend the factory, or its --model-arg"
            ) from error


def _place(error: Exception, factory: Callable[..., Any]) -> str:
    """Where in the user's own files an error arose: `` at FILE:LINE (the line)``."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
    own = [f for f in frames if not {"site-packages", "dist-packages"} & set(Path(f.filename).parts)]
    if own or frames:
        frame = (own or frames)[-1]
        return f" at {frame.filename}:{frame.lineno} ({frame.line})"
    code = getattr(factory, "__code__", None)  # it was not even entered: the arguments do not fit
    return f" at {code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def _imported(model: str) -> Callable[..., Any]:
    module_name, name = model.split(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"{model}: cannot import {module_name} ({error}); run from the folder that holds it, or install it"
        ) from None
    except (Exception, SystemExit) as error:  # a script may even end the program when it is imported
        raise UsageError(f"{model}: importing {module_name} raised {type(error).__name__}: {error}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        there = ", ".join(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))[:200]
        raise UsageError(f"{model}: {module_name} has nothing callable named {name}; it has {there or 'nothing'}")
    return factory  # type: ignore[no-any-return]


SOURCES.add("factory")(Factory())
