"""Training of look-up tables themselves."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pydantic

from compress.methods._tables import changed, tables_of
from compress.models._table_families import trainable
from compress.models._written import file_key, of_file
from compress.network import Network
from compress.registry import METHODS
from compress.train import TrainRecipe, train
from compress.train.shaping import Beginning
from compress.weights import read
from compress.workshop import ALONE, Workshop
from export.lut.network import tables_of as tables_in

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["LutFinetune"]


@METHODS.add("lut-finetune")
@dataclass(frozen=True)
class LutFinetune:
    """Train the entries of look-up tables, and samplers where there are, through the interpolation.

    MuLUT's LUT-aware fine-tuning (arXiv:2203.13563, section 3.4): every entry is a parameter, rounded on the way, and
    has a gradient wherever a pixel reads it.  It trains on the calibration images.
    """

    lossy: ClassVar[bool] = True
    steps: Annotated[int, pydantic.Field(ge=1)] = 2_000
    batch: Annotated[int, pydantic.Field(ge=1)] = 16
    crop: Annotated[int, pydantic.Field(ge=16)] = 48
    planes: Literal["all", "one"] = "one"
    loss: Literal["l1", "l2", "charbonnier"] = "l2"
    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 5e-4
    teacher_weight: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    """Share of the distance to the network that the run was given; unused where that is the tables themselves."""
    ema_decay: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.999
    shrink: tuple[float, ...] = (1.0, 0.8, 0.6)
    validate_every: Annotated[int, pydantic.Field(ge=1)] = 500

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network with trained tables.

        Raises:
            UsageError: it has no tables.
            DataError: no image that is as large as a crop.
        """
        tables = tables_of(network, "lut-finetune")
        teacher = workshop.teacher if self.teacher_weight > 0 else None
        if teacher is not None and tables_in(teacher.module) is tables:
            teacher = None
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        settings["teacher_weight"] = self.teacher_weight if teacher is not None else 0.0
        own: dict[str, Any] = {"model": network.name, "scale": network.scale, "float32_share": 1.0}
        recipe = TrainRecipe(**settings, **own, seed=workshop.seed)
        with workshop.place() as folder:
            done = folder / "weights.safetensors"
            if not done.is_file():
                begin = Beginning(replace(network, module=trainable(tables)))
                known = (folder / "recipe.json").is_file()
                train(recipe, task.training_images(), folder, teacher, known, workshop.reporter, begin)
            return changed(network, of_file(tables.name, read(done)[file_key(tables.name)], done))
