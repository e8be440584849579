"""The training loop, on a network and images small enough for seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from PIL import Image

from compress import train, zoo
from compress.errors import DataError, RecipeError, RunFolderError, UsageError
from compress.models.span import from_state
from compress.progress import SILENT, Reporter
from compress.train.loop import _learning_rate
from compress.weights import read

RECIPE = train.TrainRecipe(
    scale=2,
    sizes={"channels": 8},
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


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums split over another number of threads differ in their last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    assert all(np.isfinite(line["validation"]) for line in lines)


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
    (tmp_path / "r.toml").write_text("clip_nrom = 16\n")
    with pytest.raises(RecipeError, match="did you mean 'clip_norm'"):
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
    rates = [_learning_rate(recipe, step) for step in range(1000)]
    assert rates[99] == pytest.approx(1e-3)
    assert rates[:100] == sorted(rates[:100])
    assert rates[99:] == sorted(rates[99:], reverse=True)
    assert rates[-1] == pytest.approx(1e-6, rel=0.05)


def test_a_run_killed_outright_resumes_to_the_very_same_weights(tmp_path: Path, pictures: Path, finished: Path) -> None:
    out = tmp_path / "run"
    code = (
        "import os, signal, sys, json\n"
        "from contextlib import contextmanager\n"
        "from pathlib import Path\n"
        "from compress import train\n"
        "from compress.progress import Reporter\n"
        "class Killer(Reporter):\n"
        "    @contextmanager\n"
        "    def bar(self, label, total):\n"
        "        def update(done):\n"
        "            if label.startswith('training') and done == 5:\n"
        "                os.kill(os.getpid(), signal.SIGKILL)\n"
        "        yield update\n"
        "recipe = train.load_recipe(Path(sys.argv[1]))\n"
        "train.train(recipe, [Path(sys.argv[2])], Path(sys.argv[3]), None, False, Killer(quiet=True))\n"
    )
    settings = {**asdict(RECIPE), "sizes": dict(RECIPE.sizes), "shrink": list(RECIPE.shrink)}
    (tmp_path / "r.toml").write_text(tomli_w.dumps(settings))
    command = [sys.executable, "-c", code, str(tmp_path / "r.toml"), str(pictures), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    killed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (out / "checkpoint.pt").exists() and not (out / "weights.safetensors").exists()
    resumed = train.train(RECIPE, [pictures], out, None, True, SILENT)
    expected, found = read(finished), read(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [3, 6]


def test_a_checkpoint_cut_short_is_refused_with_its_name(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train.train(RECIPE, [pictures], tmp_path / "run", None, False, StopsAt(4))
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(RunFolderError, match=r"checkpoint\.pt: cannot be taken up"):
        train.train(RECIPE, [pictures], tmp_path / "run", None, True, SILENT)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, told apart by their brightness."""
    random = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = np.clip(60 + 120 * labels[:, None, None, None] + random.normal(0, 20, (80, 16, 16, 3)), 0, 255)
    path = tmp_path_factory.mktemp("labelled") / "set.npz"
    parts = {"x_train": images[:60], "x_test": images[60:]}
    np.savez(path, **{k: v.astype(np.uint8) for k, v in parts.items()}, y_train=labels[:60], y_test=labels[60:])
    return path


NAMING = replace(
    RECIPE,
    model="resnet20",
    sizes={"classes": 2},
    steps=12,
    batch=8,
    holdout_every=4,
    validate_every=6,
    optimizer="sgd",
    learning_rate=0.05,
)


def test_a_classifier_learns_from_labels_and_resumes_exactly(tmp_path: Path, labelled: Path) -> None:
    whole = train.train(NAMING, [labelled], tmp_path / "whole", None, False, SILENT)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["metric"] == "top-1 %" and lines[-1]["loss"] < lines[0]["loss"]
    with pytest.raises(KeyboardInterrupt):
        train.train(NAMING, [labelled], tmp_path / "cut", None, False, StopsAt(7))
    resumed = train.train(NAMING, [labelled], tmp_path / "cut", None, True, SILENT)
    expected, found = read(whole), read(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected), "running statistics included"
    assert zoo.load("resnet20", whole).classes == 2


def test_a_classifier_learns_from_a_teacher(tmp_path: Path, labelled: Path) -> None:
    teacher = zoo.fresh("resnet20", classes=2, seed=3)
    recipe = replace(NAMING, teacher_weight=1.0, steps=4, validate_every=4)
    taught = read(train.train(recipe, [labelled], tmp_path / "taught", teacher, False, SILENT))
    alone = replace(recipe, teacher_weight=0.0)
    other = read(train.train(alone, [labelled], tmp_path / "alone", None, False, SILENT))
    assert any(not torch.equal(taught[name], other[name]) for name in taught)


def test_labelled_images_train_classifiers_alone(tmp_path: Path, labelled: Path) -> None:
    from compress.data.labelled import find, subset

    images = find(labelled, "calibration")
    assert images is not None
    with pytest.raises(DataError, match=r"data set.*: labelled images train classifiers; give plain images"):
        train.train(RECIPE, images, tmp_path / "run", None, False, SILENT)
    with pytest.raises(DataError, match="one labelled image; training takes one, validation another"):
        train.train(NAMING, subset(images, np.array([0])), tmp_path / "one", None, False, SILENT)
    three = replace(images, labels=images.labels + 1)
    with pytest.raises(DataError, match="labels up to 2, but the network tells 2 classes apart"):
        train.train(NAMING, three, tmp_path / "three", None, False, SILENT)


def test_a_classifier_learns_the_same_from_a_folder_and_from_its_images(tmp_path: Path, labelled: Path) -> None:
    from compress.data.labelled import find

    recipe = replace(NAMING, steps=3, validate_every=3)
    images = find(labelled, "calibration")
    assert images is not None
    one = read(train.train(recipe, [labelled], tmp_path / "folder", None, False, SILENT))
    other = read(train.train(recipe, images, tmp_path / "images", None, False, SILENT))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_image_is_drawn_once_an_epoch(labelled: Path) -> None:
    from compress.train.labelled_examples import prepare_naming

    examples = prepare_naming(replace(NAMING, batch=9), [labelled], 3, (16, 16), 1.0, 2)
    assert not set(examples.chosen) & set(examples.held)
    drawn = np.concatenate([examples._drawn(step) for step in range(5)])
    assert sorted(drawn) == sorted(examples.chosen), "45 images in five batches of nine"
    assert all(torch.equal(a, b) for a, b in zip(examples.batch(3), examples.batch(3), strict=True))


def test_a_denoiser_is_trained_on_fresh_noise(tmp_path: Path, pictures: Path) -> None:
    recipe = replace(
        RECIPE, model="dncnn", sizes={"depth": 3, "width": 8}, loss="charbonnier", steps=30, validate_every=15
    )
    weights = train.train(recipe, [pictures], tmp_path / "run", None, False, SILENT)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["metric"] == "PSNR dB" and lines[-1]["loss"] < lines[0]["loss"]
    assert zoo.load("dncnn", weights).task == "restoration"


@pytest.mark.parametrize("model", ["resnet20", "dncnn"])
def test_a_teacher_of_another_task_is_refused(tmp_path: Path, pictures: Path, model: str) -> None:
    with pytest.raises(UsageError, match=f"teacher {model} is made for .*choose another --teacher"):
        train.train(replace(RECIPE, teacher_weight=0.5), [pictures], tmp_path / "r", zoo.fresh(model), False, SILENT)


def test_charbonnier_is_the_smoothed_absolute_value() -> None:
    from compress.train.image_examples import _distance

    a, b = torch.tensor([0.0, 0.3]), torch.tensor([0.0, 0.0])
    assert float(_distance("charbonnier", a, b)) == pytest.approx((1e-3 + (0.09 + 1e-6) ** 0.5) / 2)
    assert float(_distance("l1", a, b)) == pytest.approx(0.15)


def test_the_average_follows_the_buffers_too() -> None:
    from compress.train.state import start

    state = start(NAMING, torch.device("cpu"))
    state.module(torch.rand(4, 3, 32, 32))
    state.follow(0.0)
    pairs = zip(state.average.buffers(), state.module.buffers(), strict=True)
    assert all(torch.equal(mean, value) for mean, value in pairs)
