"""Classification: top-1 accuracy on labelled images; without labels, agreement with the network in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data import builtin, folder, labelled
from compress.data.images import read_rgb
from compress.errors import DataError, UsageError
from compress.network import Network
from compress.registry import TASKS
from compress.task import Data, ItemScore, Run, Scores, hold_out, refuse_shared
from export.torch_session import TorchSession

__all__ = ["Agreement", "Classification", "classification"]

_HELD_OUT = 1000  # images that choices are made on
_SHIFTS = 4  # crops of each built-in photograph, so that agreement is not read off a handful of inputs
Image = NDArray[np.float32]


@dataclass(frozen=True)
class _Inputs:
    """How a network wants its images, and the ones to calibrate with."""

    channels: int
    input_size: tuple[int, int]
    crop_share: float
    calibration: labelled.Labelled | tuple[Path, ...]

    def fit(self, image: NDArray[np.uint8]) -> Image:
        """As the network takes it."""
        return labelled.fit(image, self.channels, self.input_size, self.crop_share)

    def training_images(self) -> labelled.Labelled:
        """Those of the calibration.

        Raises:
            UsageError: they have no labels.
        """
        if not isinstance(self.calibration, labelled.Labelled):
            raise UsageError(
                "a classifier is trained on labelled images, and there are none to calibrate with; give --data with a "
                "train part, or --calibration with labels, or take a recipe without training"
            )
        return self.calibration

    def calibration_inputs(self, count: int, size: int, seed: int) -> list[Image]:
        """Images of the training part, drawn without repetition; photographs where there is none.

        Raises:
            DataError: there are no calibration images, or one is unreadable.
        """
        random = np.random.default_rng(seed)
        if isinstance(self.calibration, labelled.Labelled):
            chosen = random.permutation(self.calibration.count)[:count]
            return [self.fit(self.calibration.load(int(i))) for i in sorted(chosen)]
        if not self.calibration:
            raise DataError("no calibration images; give --calibration DIR with at least one image")
        shares = np.array_split(np.arange(count), len(self.calibration))
        inputs = []
        for path, share in zip(self.calibration, shares, strict=True):
            image = read_rgb(path) if len(share) else None
            inputs += [self.fit(_part(image, random)) for _ in share if image is not None]
        return inputs

    def held_out(self, network: Network) -> Classification | Agreement:
        """Judged on some of the calibration images, calibrated on the others; agreement where they have no labels."""
        shape = (self.channels, self.input_size, self.crop_share)
        if not isinstance(self.calibration, labelled.Labelled):
            if not self.calibration:
                raise DataError("no calibration images; give --calibration DIR with at least one image")
            held, rest = hold_out(self.calibration)
            return Agreement(*shape, rest, network, held)
        order = np.random.default_rng(0).permutation(self.calibration.count)
        judged = order[: max(1, min(_HELD_OUT, len(order) // 2))]
        others = order[len(judged) :] if len(order) > 1 else order
        known = self.calibration.classes or tuple(f"class {k}" for k in range(network.classes or 1))
        names = (*known, *(f"class {k}" for k in range(len(known), network.classes or 1)))
        parts = (labelled.subset(self.calibration, others), labelled.subset(self.calibration, judged))
        return Classification(*shape, parts[0], parts[1], names)


def _part(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """A square of half to the whole of the shorter side, anywhere."""
    side = int(min(image.shape[:2]) * random.uniform(0.5, 1.0))
    top, left = (int(random.integers(0, length - side + 1)) for length in image.shape[:2])
    return image[top : top + side, left : left + side]


@dataclass(frozen=True)
class Classification(_Inputs):
    """Top-1 accuracy on labelled images, one item for each class."""

    evaluation: labelled.Labelled
    classes: tuple[str, ...]
    """Their names, as many as the network tells apart."""
    name: str = "classification"
    protocol: str = "classification-top1"
    metric: str = "top-1 %"
    unit: str = "%"
    floor_name: str = "chance"

    @property
    def size(self) -> int:
        """How many images it is judged on."""
        return self.evaluation.count

    def files(self) -> list[Path]:
        """Every file that decides the numbers."""
        return [*self.evaluation.files(), *_files(self.calibration)]

    def sample(self) -> Image:
        """The first image."""
        return self.fit(self.evaluation.load(0))

    def decisions(self, run: Run, progress: Callable[[int], None], count: int | None = None) -> NDArray[np.intp]:
        """The class with the largest logit, for each image or the first few."""
        found = []
        for index in range(self.size if count is None else min(count, self.size)):
            found.append(int(np.argmax(run(self.fit(self.evaluation.load(index))))))
            progress(index + 1)
        return np.array(found)

    def judge(self, run: Run, progress: Callable[[int], None]) -> Scores:
        """Top-1 accuracy of a function that maps an image to logits."""
        return self._scores((self.decisions(run, progress) == self.evaluation.labels) * 100.0)

    def floor(self, progress: Callable[[int], None]) -> Scores:
        """What guessing reaches."""
        progress(self.size)
        return self._scores(np.full(self.size, 100.0 / len(self.classes)))

    def _scores(self, values: NDArray[np.float64]) -> Scores:
        labels = self.evaluation.labels
        items = [
            ItemScore(name, float(values[labels == k].mean()), None, int((labels == k).sum()))
            for k, name in enumerate(self.classes)
            if (labels == k).any()
        ]
        return Scores(self.protocol, self.unit, tuple(items))


@dataclass(frozen=True)
class Agreement(_Inputs):
    """How often a file decides as the network does in float32, on photographs that nobody labelled."""

    network: Network
    evaluation: tuple[Path, ...]
    name: str = "classification"
    protocol: str = "classification-agreement-with-float32"
    metric: str = "agreement %"
    unit: str = "%"
    floor_name: str = "chance"

    @property
    def size(self) -> int:
        """How many inputs it is judged on."""
        return len(self.evaluation) * _SHIFTS

    def files(self) -> list[Path]:
        """Every file that decides the numbers."""
        return [*self.evaluation, *_files(self.calibration)]

    @cached_property
    def _images(self) -> list[Image]:
        random = np.random.default_rng(0)
        return [self.fit(_part(image, random)) for image in map(read_rgb, self.evaluation) for _ in range(_SHIFTS)]

    @cached_property
    def _expected(self) -> NDArray[np.intp]:
        session = TorchSession(self.network.module)
        return np.array([int(np.argmax(session.run(image))) for image in self._images])

    def sample(self) -> Image:
        """The first input."""
        return self._images[0]

    def judge(self, run: Run, progress: Callable[[int], None]) -> Scores:
        """Agreement of a function that maps an image to logits, one item for each photograph."""
        same = []
        for done, image in enumerate(self._images, start=1):
            same.append(100.0 * (int(np.argmax(run(image))) == self._expected[done - 1]))
            progress(done)
        return self._scores(same)

    def floor(self, progress: Callable[[int], None]) -> Scores:
        """What guessing reaches."""
        progress(self.size)
        return self._scores([100.0 / (self.network.classes or 1)] * self.size)

    def _scores(self, values: Sequence[float]) -> Scores:
        means = np.asarray(values, np.float64).reshape(-1, _SHIFTS).mean(1)
        items = [ItemScore(p.stem, float(v), None, _SHIFTS) for p, v in zip(self.evaluation, means, strict=True)]
        return Scores(self.protocol, self.unit, tuple(items))


@TASKS.add("classification")
def classification(network: Network, data: Data) -> Classification | Agreement:
    """Naming what an image shows; top-1 accuracy, or agreement with the network where no labels are given.

    Raises:
        DataError: an unusable folder, classes that do not fit the network, or shared pictures.
        UsageError: the network gives no vector, or its input size is not known.
    """
    if network.classes is None or network.input_size is None:
        raise UsageError(f"task classification: {network.name} is no classifier with a known input size; drop --task")
    given = _given(data.calibration)
    wanted = (network.channels, network.input_size, network.crop_share)
    if data.evaluation is None:
        images = builtin.evaluation_images()
        refuse_shared(images, _files(given))
        return Agreement(*wanted, given, network, tuple(images))
    evaluation = labelled.find(data.evaluation, "evaluation")
    if evaluation is None:
        raise DataError(f"data {data.evaluation}: holds a training part only; give the test part too")
    if evaluation.count and int(evaluation.labels.max()) >= network.classes:
        raise DataError(
            f"data {data.evaluation}: labels up to {int(evaluation.labels.max())}, but {network.name} tells "
            f"{network.classes} classes apart; give the data that it was trained for"
        )
    training = labelled.find(data.evaluation, "calibration") if data.calibration is None else None
    if training is None:
        refuse_shared(evaluation.files(), _files(given))
    named = (*evaluation.classes, *(f"class {k}" for k in range(len(evaluation.classes), network.classes)))
    return Classification(*wanted, training or given, evaluation, named)


def _given(root: Path | None) -> labelled.Labelled | tuple[Path, ...]:
    """The calibration images that were asked for: labelled ones, or photographs; built-in ones where none were."""
    if root is None:
        return tuple(builtin.calibration_images())
    if labelled.is_labelled(root):
        found = labelled.find(root, "calibration") or labelled.find(root, "evaluation")
        if found is not None:
            return found
    return tuple(folder.find_hr(root)[0])


def _files(given: labelled.Labelled | tuple[Path, ...]) -> list[Path]:
    return given.files() if isinstance(given, labelled.Labelled) else list(given)
