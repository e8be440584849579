"""Classification: top-1 accuracy on labelled images, agreement with the network without labels."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from compress.errors import DataError, UsageError
from compress.network import CLASSIFICATION, Network, WeightsSource
from compress.task import Data
from compress.tasks.classification import Agreement, Classification, classification

COLOURS = {"blue": (20, 30, 220), "green": (30, 200, 40), "red": (210, 20, 30)}


class MostOf(nn.Module):
    """Three logits: the mean of blue, green and red; sees what a folder above is called."""

    def forward(self, x):
        return x.mean((2, 3)).flip(1)


def network_of(module=None, classes=3, channels=3, input_size=(16, 16)):
    source = WeightsSource(None, "0" * 64, builtin=False)
    return Network(
        "net",
        (module or MostOf()).eval(),
        1,
        channels,
        source,
        task=CLASSIFICATION,
        input_size=input_size,
        classes=classes,
    )


def perfect(image):
    return image.mean((0, 1))[::-1]


def quiet(done):
    """Progress that nobody looks at."""


def paint(folder, count=2, size=(20, 24)):
    """Folders of nearly plain pictures, one a colour; no two files alike."""
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shade = tuple(min(255, c + 3 * number + len(folder.name)) for c in colour)
            Image.new("RGB", size[::-1], shade).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def labelled(tmp_path):
    """Two pictures for each of three classes to judge, three to calibrate with."""
    paint(tmp_path / "data/val", 2)
    paint(tmp_path / "data/train", 3)
    return tmp_path / "data"


def test_accuracy_is_counted_for_every_class(labelled):
    task = classification(network_of(), Data(labelled))
    assert isinstance(task, Classification) and task.size == 6
    done = []
    found = task.judge(perfect, done.append)
    assert [(i.name, i.value, i.count) for i in found.items] == [(name, 100.0, 2) for name in COLOURS]
    assert found.mean == 100.0 and found.unit == "%" and found.ssim is None and done == [1, 2, 3, 4, 5, 6]
    always_red = task.judge(lambda image: np.array([0.0, 0.0, 1.0]), quiet)
    assert {i.name: i.value for i in always_red.items} == {"blue": 0.0, "green": 0.0, "red": 100.0}
    assert always_red.mean == pytest.approx(100 / 3)


def test_the_floor_is_guessing_among_the_networks_classes(labelled):
    assert classification(network_of(), Data(labelled)).floor(quiet).mean == pytest.approx(100 / 3)
    task = classification(network_of(classes=1000), Data(labelled))
    assert task.floor(quiet).mean == pytest.approx(0.1)
    assert len(task.classes) == 1000 and task.classes[:4] == (*COLOURS, "class 3")


def test_inputs_have_the_size_and_channels_that_the_network_takes(labelled):
    for channels, size in ((3, (16, 16)), (1, (32, 32)), (3, (12, 20))):
        task = classification(network_of(channels=channels, input_size=size), Data(labelled))
        assert task.sample().shape == (*size, channels) and task.sample().dtype == np.float32
        assert {i.shape for i in task.calibration_inputs(4, 64, 0)} == {(*size, channels)}


def test_decisions_can_be_asked_for_the_first_few(labelled):
    task = classification(network_of(), Data(labelled))
    assert task.decisions(perfect, quiet, 3).tolist() == [0, 0, 1]
    assert task.decisions(perfect, quiet).tolist() == [0, 0, 1, 1, 2, 2]


def test_calibration_takes_the_training_part_without_repetition(labelled):
    task = classification(network_of(), Data(labelled))
    assert len(task.calibration_inputs(4, 64, 0)) == 4
    every = task.calibration_inputs(100, 64, 0)
    assert len(every) == 9, "there are no more"
    assert len({i.tobytes() for i in every}) == 9
    assert len(task.files()) == 6 + 9


def test_without_a_training_part_calibration_takes_photographs(tmp_path):
    task = classification(network_of(), Data(paint(tmp_path / "data")))
    assert isinstance(task.calibration, tuple) and all(p.is_file() for p in task.calibration)
    assert len(task.calibration_inputs(10, 64, 0)) == 10


def test_a_calibration_folder_goes_before_the_training_part(labelled, photos_folder):
    folder = photos_folder("calibration")
    task = classification(network_of(), Data(labelled, folder))
    assert task.calibration == tuple(sorted(folder.iterdir()))


@pytest.mark.parametrize("evaluation", [True, False])
def test_a_labelled_calibration_folder_is_read_as_one(labelled, evaluation, tmp_path):
    mine = paint(tmp_path / "mine" / "train", 5, size=(24, 20)).parent
    task = classification(network_of(), Data(labelled if evaluation else None, mine))
    assert task.calibration.count == 15
    assert {x.shape for x in task.calibration_inputs(20, 64, 0)} == {(16, 16, 3)}
    held = task.held_out(network_of())
    assert held.size == 7 and isinstance(held, Classification)


def test_both_folders_may_name_the_classes(labelled, tmp_path):
    mine = paint(tmp_path / "mine", 5, size=(24, 20))
    for folder in (labelled, mine):
        (folder / "classes.json").write_text('["blue", "green", "red"]')
    assert classification(network_of(), Data(labelled, mine)).size > 0


def test_a_sheet_of_rows_is_no_photograph(labelled, tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (40, 8 * 8, 3), np.uint8)
    (tmp_path / "sheet").mkdir()
    Image.fromarray(rows).save(tmp_path / "sheet/train_rows.png")
    (tmp_path / "sheet/train_labels.json").write_text(str([k % 3 for k in range(40)]))
    task = classification(network_of(), Data(labelled, tmp_path / "sheet"))
    assert task.calibration.count == 40


def test_a_picture_that_is_scored_may_not_calibrate(tmp_path):
    data = paint(tmp_path / "data")
    with pytest.raises(DataError, match=r"2 images are both in --data and in --calibration"):
        classification(network_of(), Data(data, data / "red"))


def test_data_with_more_classes_than_the_network_are_refused(labelled):
    with pytest.raises(DataError, match=r"labels up to 2, but net tells 2 classes apart; give the data that it was"):
        classification(network_of(classes=2), Data(labelled))


def test_a_training_part_alone_is_refused(tmp_path):
    paint(tmp_path / "data/train")
    with pytest.raises(DataError, match="data"):
        classification(network_of(), Data(tmp_path / "data"))


@pytest.mark.parametrize("changes", [{"classes": None}, {"input_size": None}])
def test_networks_that_are_no_classifiers_are_refused(changes):
    with pytest.raises(UsageError, match="task classification: net is no classifier with a known input size"):
        classification(network_of(**changes), Data())


def test_without_labels_a_file_must_decide_as_the_network_does():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    network = network_of(module, classes=10)
    task = classification(network, Data())
    assert isinstance(task, Agreement) and task.protocol.endswith("agreement-with-float32")

    def run(image):
        with torch.inference_mode():
            return module(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()

    done = []
    found = task.judge(run, done.append)
    assert found.mean == 100.0 and len(found.items) == 3 and done == list(range(1, task.size + 1))
    assert sum(i.count for i in found.items) == task.size == 12
    assert task.judge(lambda image: -run(image), quiet).mean == 0.0
    assert task.floor(quiet).mean == pytest.approx(10.0)
    assert task.sample().shape == (16, 16, 3)
    assert all(p.is_file() for p in task.files())


def test_agreement_is_judged_on_the_same_inputs_each_time():
    seen = [], []
    for images in seen:
        task = classification(network_of(), Data())
        task.judge(lambda image, images=images: images.append(image) or perfect(image), quiet)
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))
    assert len({i.tobytes() for i in seen[0]}) == 12, "no input comes twice"
