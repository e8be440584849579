"""A classifier of timm, by its name there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compress import torchvision_shim, zoo
from compress.errors import UsageError, WeightsError, nearest
from compress.network import CLASSIFICATION, Network, WeightsSource
from compress.registry import SOURCES
from compress.source import Request, arguments
from compress.weights import load_into, read, sha256

__all__ = ["Branched", "Normalised", "Timm"]

_PREFIX = "timm:"


class Normalised(nn.Module):
    """A classifier that takes images in [0, 1] and normalises them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to logits (N, classes)."""
        logits: Tensor = self.model((x - self.mean) / self.std)
        return logits


class Branched(Normalised):
    """A classifier some of whose blocks were trained with branches (MobileOne, RepVGG, FastViT, ...)."""

    def merge(self) -> Normalised:
        """The classifier after timm's own merging."""
        from timm.utils import reparameterize_model

        plain = Normalised(reparameterize_model(self.model), (0.0,), (1.0,))
        plain.mean, plain.std = self.mean, self.std
        return plain.eval()


def _has_branches(model: nn.Module) -> bool:
    return any(callable(getattr(m, name, None)) for m in model.modules() for name in ("fuse", "reparameterize"))


class Timm:
    """``timm:NAME``: a classifier of timm, with its published weights where they can be fetched."""

    def accepts(self, model: str) -> bool:
        """Whether the text starts with ``timm:``."""
        return model.startswith(_PREFIX)

    def load(self, request: Request) -> Network:
        """The classifier; ``--weights`` gives a file, ``--random`` asks for none, else timm fetches its own.

        Raises:
            UsageError: no such model, or arguments that it does not take.
            WeightsError: the weights cannot be fetched, or do not fit.
            MissingRuntimeError: timm is not installed.
        """
        torchvision_shim.need("timm")
        import timm

        name = request.model.removeprefix(_PREFIX)
        if not timm.is_model(name):
            raise UsageError(f"timm has no model {name!r}; {_hint(name, timm.list_models())}")
        given: dict[str, Any] = arguments(request.arguments)
        fetch = request.weights is None and not request.random
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            model = _created(name, fetch, given)
        if request.weights is not None:
            load_into(model, read(request.weights), request.weights)
        config = timm.data.resolve_model_data_config(model)
        channels, height, width = config["input_size"]
        channels = given.get("in_chans", channels)  # which the configuration does not know of
        kind = Branched if _has_branches(model) else Normalised
        module = kind(model, *(_for_channels(config[k], channels) for k in ("mean", "std"))).eval()
        source = WeightsSource(request.weights, zoo.fingerprint(module), builtin=False, random=request.random)
        if request.weights is not None:
            source = WeightsSource(request.weights, sha256(request.weights), builtin=False)
        return Network(
            name=name,
            module=module,
            scale=1,
            channels=channels,
            weights=source,
            task=CLASSIFICATION,
            input_size=(height, width),
            classes=model.num_classes,
            crop_share=config["crop_pct"],
        )


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One value for each channel: those of the colours, or their mean."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _created(name: str, fetch: bool, given: dict[str, Any]) -> Any:
    import timm

    try:
        timm.layers.set_fused_attn(False)  # plain matrix products quantize everywhere
        with timm.layers.set_exportable(True):
            return timm.create_model(name, pretrained=fetch, **given)
    except (TypeError, ValueError, AssertionError) as error:
        raise UsageError(f"timm model {name}: {str(error).splitlines()[0]}; check --model-arg") from None
    except Exception as error:  # the hub raises many kinds for "no network"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(
            f"timm model {name}: its published weights cannot be fetched ({reason}); give --weights FILE, or --random "
            "to look at its speed, size and operators"
        ) from None


def _hint(name: str, names: list[str]) -> str:
    """The nearest few; there are over a thousand."""
    return nearest(name, names).split("known:", 1)[0].strip() or "see timm.list_models()"


SOURCES.add("timm")(Timm())
