"""Training settings, as TOML and as an object."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from compress.errors import RecipeError, nearest

__all__ = ["TrainRecipe", "load_recipe"]


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides the weights; read from TOML, written into their header."""

    model: str = "span"
    """A name of ``compress list models``."""
    sizes: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    """The network's own sizes, e.g. ``channels = 32``; the published ones where nothing is said."""
    scale: Annotated[int, pydantic.Field(ge=2, le=4)] = 4
    """Super-resolution only."""
    steps: Annotated[int, pydantic.Field(ge=1)] = 30_000
    batch: Annotated[int, pydantic.Field(ge=1)] = 16
    crop: Annotated[int, pydantic.Field(ge=16)] = 48
    """Side of the input crop of image networks, pixels."""
    loss: Literal["l1", "l2", "charbonnier"] = "l1"
    """Of image networks: the mean of |d|, of d², or of sqrt(d² + 1e-6) (Lai et al., arXiv:1704.03915, section 3.3)."""
    planes: Literal["all", "one"] = "all"
    """Super-resolution: whether a crop has all colours, or one of R, G and B, drawn at random; for networks that take
    each channel by itself the same work shows them three times as many crops."""
    noise: Annotated[float, pydantic.Field(ge=0)] = 25.0
    """Restoration only: standard deviation of the noise, grey levels."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam with betas 0.9 and 0.99, or SGD with Nesterov momentum 0.9."""
    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 0.0
    warmup_steps: Annotated[int, pydantic.Field(ge=0)] = 200
    hold_steps: Annotated[int, pydantic.Field(ge=0)] = 0
    """The learning rate stays at its height until this step; the cosine follows."""
    teacher_weight: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    """Share of the distance to the teacher's output in the loss; the rest is the distance to the truth."""
    temperature: Annotated[float, pydantic.Field(gt=0)] = 4.0
    """Classification: of the softened outputs compared (Hinton et al., arXiv:1503.02531, section 2)."""
    ema_decay: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.999
    shrink: tuple[float, ...] = (1.0, 0.8, 0.6)
    """Image networks: factors by which each image is made smaller, as augmentation."""
    float32_share: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.1
    """Last part of the steps run in float32; the others use bfloat16 where the processor has it."""
    holdout_every: Annotated[int, pydantic.Field(ge=2)] = 24
    """Every n-th image is kept for validation and never trained on."""
    validate_every: Annotated[int, pydantic.Field(ge=1)] = 1000
    clip_norm: Annotated[float, pydantic.Field(gt=0)] = 1.0
    half_weights: bool = False
    """Store the weights as float16."""
    seed: int = 0


def load_recipe(path: Path) -> TrainRecipe:
    """A training recipe from a TOML file.

    Raises:
        RecipeError: missing file, bad TOML, unknown key (the nearest is named) or a value out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"training recipe {path}: {error}") from None
    known = TrainRecipe.__dataclass_fields__
    for key in values:
        if key not in known:
            raise RecipeError(f"training recipe {path}: unknown key {key!r}; {nearest(key, known)}")
    try:
        return pydantic.TypeAdapter(TrainRecipe).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"training recipe {path}: {first['loc'][0]} = {first['input']!r}: {first['msg']}") from None
