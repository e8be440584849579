"""Training of another network towards the one given."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pydantic

from compress import zoo
from compress.errors import UsageError
from compress.network import CLASSIFICATION, SUPER_RESOLUTION, Network
from compress.registry import METHODS, MODELS
from compress.source import arguments
from compress.train import TrainRecipe, train
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Distil"]


@METHODS.add("distil")
@dataclass(frozen=True)
class Distil:
    """Train another network of the zoo towards this one's outputs; it takes this one's place.

    Hinton et al., arXiv:1503.02531.  It trains on the calibration images: give ``--calibration`` as many as there are.
    The fields are those of :class:`compress.train.TrainRecipe`; ``sizes`` are the network's, as ``name=value``.
    """

    lossy: ClassVar[bool] = True
    replaces: ClassVar[bool] = True
    model: str = "mulut"
    sizes: tuple[str, ...] = ()
    steps: Annotated[int, pydantic.Field(ge=1)] = 10_000
    batch: Annotated[int, pydantic.Field(ge=1)] = 8
    crop: Annotated[int, pydantic.Field(ge=16)] = 48
    planes: Literal["all", "one"] = "one"
    loss: Literal["l1", "l2", "charbonnier"] = "l2"
    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 2e-3
    teacher_weight: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    ema_decay: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.999
    float32_share: Annotated[float, pydantic.Field(ge=0, le=1)] = 1.0
    """Less than 1 takes bfloat16, which networks of tables are no faster with."""
    shrink: tuple[float, ...] = (1.0, 0.8, 0.6)
    validate_every: Annotated[int, pydantic.Field(ge=1)] = 1000

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The trained network, under its own name, in its training form.

        Raises:
            UsageError: a classifier, an unknown network, or one for another task.
            DataError: no image that is as large as a crop.
        """
        family = MODELS[self.model]
        if network.task == CLASSIFICATION or family.task != network.task:
            raise UsageError(f"distil: {network.name} is made for {network.task}, {self.model} for {family.task}")
        names = [field.name for field in fields(self) if field.name != "sizes"]
        settings = {key: getattr(self, key) for key in names}
        scale = network.scale if network.task == SUPER_RESOLUTION else TrainRecipe.scale
        recipe = TrainRecipe(**settings, scale=scale, sizes=_sizes(self.sizes), seed=workshop.seed)
        teacher = network if self.teacher_weight > 0 else None
        with workshop.place() as folder:
            done = folder / "weights.safetensors"
            if not done.is_file():
                known = (folder / "recipe.json").is_file()
                train(recipe, task.training_images(), folder, teacher, known, workshop.reporter)
            made = zoo.load(self.model, done, network.scale)
            return replace(made, weights=replace(made.weights, path=None))


def _sizes(given: tuple[str, ...]) -> dict[str, int | float | str | bool]:
    """``("width=32",)`` to ``{"width": 32}``.

    Raises:
        UsageError: no ``=``.
    """
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not equals:
            raise UsageError(f"distil: sizes holds {name!r}, expected name=value, e.g. width=32")
    return arguments({name: value for name, _, value in pairs})  # type: ignore[return-value]
