"""The training loop, on a network and images small enough for seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress import train
from compress.errors import DataError, RecipeError, RunFolderError, UsageError
from compress.models.span import from_state
from compress.progress import SILENT, Reporter
from compress.weights import read

RECIPE = train.TrainRecipe(
    scale=2,
    channels=8,
    steps=6,
    batch=2,
    crop=16,
    warmup_steps=2,
    teacher_weight=0.0,
    shrink=(1.0,),
    holdout_every=3,
    validate_every=3,
    float32_share=1.0,
)


class StopsAt(Reporter):
    """A reporter that plays the user's Ctrl-C when the training bar reaches a step."""

    def __init__(self, step: int) -> None:
        super().__init__(quiet=True)
        self.step = step

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        def update(done: int) -> None:
            if label.startswith("training") and done == self.step:
                raise KeyboardInterrupt

        yield update


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(4):
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize((64, 72), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    return train.train(RECIPE, [pictures], tmp_path_factory.mktemp("whole") / "run", None, False, SILENT)


def test_weights_load_in_deploy_form_and_carry_their_recipe(finished: Path) -> None:
    network = from_state(read(finished), finished)
    assert network.scale == 2
    assert not [name for name, _ in network.named_parameters() if ".sk." in name]
    from safetensors import safe_open

    with safe_open(finished, "pt") as file:
        header = file.metadata()
    assert json.loads(header["recipe"])["steps"] == 6
    assert header["protocol"] == "sr-x2-y601-crop2-uint8-matlab-bicubic"


def test_the_log_has_a_line_for_each_validation(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    assert all(np.isfinite(line["validation_psnr"]) for line in lines)


@pytest.mark.parametrize("step", [1, 4, 6])
def test_an_interrupted_run_resumes_to_the_very_same_weights(
    tmp_path: Path, pictures: Path, finished: Path, step: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train.train(RECIPE, [pictures], tmp_path / "run", None, False, StopsAt(step))
    resumed = train.train(RECIPE, [pictures], tmp_path / "run", None, True, SILENT)
    expected, found = read(finished), read(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_training_lowers_the_error(tmp_path: Path, pictures: Path) -> None:
    longer = replace(RECIPE, steps=60, validate_every=20, learning_rate=2e-3)
    train.train(longer, [pictures], tmp_path / "run", None, False, SILENT)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_a_second_run_into_the_folder_is_refused(finished: Path, pictures: Path) -> None:
    with pytest.raises(RunFolderError, match="add --resume"):
        train.train(RECIPE, [pictures], finished.parent, None, False, SILENT)


def test_resuming_with_another_recipe_names_what_changed(finished: Path, pictures: Path) -> None:
    with pytest.raises(RunFolderError, match="batch"):
        train.train(replace(RECIPE, batch=3), [pictures], finished.parent, None, True, SILENT)


def test_resuming_nothing_is_refused(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(RunFolderError, match="no training run"):
        train.train(RECIPE, [pictures], tmp_path / "none", None, True, SILENT)


def test_a_recipe_that_wants_a_teacher_says_so(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(UsageError, match="--teacher"):
        train.train(replace(RECIPE, teacher_weight=0.5), [pictures], tmp_path / "run", None, False, SILENT)


def test_images_smaller_than_the_crop_are_refused_with_the_sizes(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(DataError, match="128x128"):
        train.train(replace(RECIPE, crop=64), [pictures], tmp_path / "run", None, False, SILENT)


def test_unknown_key_in_a_training_recipe_gets_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("chanels = 16\n")
    with pytest.raises(RecipeError, match="did you mean 'channels'"):
        train.load_recipe(tmp_path / "r.toml")


def test_a_value_out_of_range_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("scale = 9\n")
    with pytest.raises(RecipeError, match="scale = 9"):
        train.load_recipe(tmp_path / "r.toml")


def test_the_shipped_recipe_loads() -> None:
    recipe = train.load_recipe(Path(__file__).resolve().parents[2] / "examples" / "train_span_x4.toml")
    assert recipe.model == "span"


def test_learning_rate_warms_up_and_decays() -> None:
    recipe = replace(RECIPE, steps=1000, warmup_steps=100, learning_rate=1e-3)
    rates = [train._learning_rate(recipe, step) for step in range(1000)]
    assert rates[99] == pytest.approx(1e-3)
    assert rates[:100] == sorted(rates[:100])
    assert rates[99:] == sorted(rates[99:], reverse=True)
    assert rates[-1] == pytest.approx(1e-6, rel=0.05)
