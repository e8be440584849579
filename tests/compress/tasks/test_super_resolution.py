"""Super-resolution: how it judges, and which calibration crops it hands out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from compress.data.bicubic import upscale
from compress.data.images import to_channels
from compress.errors import DataError
from compress.evaluate import protocol
from compress.network import Network, WeightsSource
from compress.task import Data
from compress.tasks.super_resolution import super_resolution


def make_task(scale=4, channels=3, **data):
    """The task of a network that is never run."""
    network = Network("net", nn.Identity(), scale, channels, WeightsSource(None, "0" * 64, builtin=False))
    return super_resolution(network, Data(**data))


def bicubic(image):
    lr = np.rint(image * 255).astype(np.uint8)
    return upscale(lr, 4).astype(np.float32) / 255


def quiet(done):
    """Progress that nobody looks at."""


@pytest.fixture
def task(photos_folder):
    """x4 on three images, calibrated on three others."""
    calibration = photos_folder("calibration", [(200, 240), (160, 100), (90, 130)])
    return make_task(evaluation=photos_folder("data"), calibration=calibration)


def test_every_image_is_judged_by_the_protocol(task):
    done = []
    found = task.judge(bicubic, done.append)
    assert found.protocol == task.protocol == protocol(4) and found.unit == "dB"
    assert [i.name for i in found.items] == ["0", "1", "2"] and done == [1, 2, 3]
    assert all(10 < i.value < 50 and 0 < i.ssim < 1 and i.count == 1 for i in found.items)


def test_the_floor_is_bicubic_enlargement(task):
    done = []
    assert task.floor(done.append) == task.judge(bicubic, quiet)
    assert done == [1, 2, 3] and task.floor_name == "bicubic"


def test_the_network_is_given_lr_images_in_0_to_1(task):
    seen = []
    task.judge(lambda image: seen.append(image) or bicubic(image), quiet)
    assert [i.shape for i in seen] == [(12, 16, 3), (10, 10, 3), (16, 12, 3)]
    assert all(i.dtype == np.float32 and 0 <= i.min() < i.max() <= 1 for i in seen)
    assert np.array_equal(task.sample(), seen[0])


def test_a_network_of_one_channel_is_given_grey_and_judged_on_grey(photos_folder):
    data = photos_folder("data")
    task = make_task(channels=1, evaluation=data, calibration=photos_folder("calibration"))
    seen = []
    found = task.judge(lambda image: seen.append(image) or bicubic(image), quiet)
    assert [i.shape for i in seen] == [(12, 16, 1), (10, 10, 1), (16, 12, 1)]
    assert found.protocol == protocol(4) + "-grey"
    assert {c.shape for c in task.calibration_inputs(2, 8, 0)} == {(8, 8, 1)}
    assert task.floor(quiet).protocol == found.protocol
    perfect = iter([to_channels(pair.load()[1], 1) / np.float32(255) for pair in task.evaluation])
    assert [i.value for i in task.judge(lambda image: next(perfect), quiet).items] == [100.0] * 3


def test_a_perfect_output_scores_100_db(task):
    perfect = iter([pair.load()[1] / np.float32(255) for pair in task.evaluation])
    found = task.judge(lambda image: next(perfect), quiet)
    assert [i.value for i in found.items] == [100.0] * 3


def test_ssim_is_left_out_where_an_image_is_too_small(photos_folder):
    data = photos_folder("data", [(16, 40), (48, 48)])
    found = make_task(evaluation=data, calibration=photos_folder("calibration")).judge(bicubic, quiet)
    assert found.items[0].ssim is None and found.items[1].ssim is not None
    assert found.ssim == found.items[1].ssim


def test_the_files_of_a_task_are_all_that_decide_its_numbers(task):
    assert len(task.files()) == 6 and all(p.is_file() for p in task.files())


def test_without_folders_it_is_judged_on_the_built_in_photographs():
    task = make_task(scale=2)
    assert task.size == len(task.evaluation) == 3
    assert not {p.hr_path for p in task.evaluation} & set(task.calibration)


def test_the_seed_decides_the_calibration_crops(task):
    first, again, other = (task.calibration_inputs(9, 16, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_calibration_crops_have_the_size_and_range_of_an_input(task, count):
    crops = task.calibration_inputs(count, 20, 0)
    assert len(crops) == count
    for crop in crops:
        assert crop.shape == (20, 20, 3) and crop.dtype == np.float32
        assert crop.min() >= 0 and crop.max() <= 1


def calibrated_on(folder: Path, photos_folder):
    return make_task(evaluation=photos_folder("data"), calibration=folder)


def test_every_calibration_image_gives_its_share_of_crops(tmp_path, photos_folder):
    (tmp_path / "calibration").mkdir()
    for grey in (10, 100, 200):
        Image.new("RGB", (80, 80), (grey,) * 3).save(tmp_path / f"calibration/{grey:03d}.png")
    task = calibrated_on(tmp_path / "calibration", photos_folder)
    found = [round(float(c.mean()) * 255) for c in task.calibration_inputs(7, 8, 0)]
    assert sorted(found) == [10] * 3 + [100] * 2 + [200] * 2


def test_images_smaller_than_the_crop_are_mirrored_on(tmp_path, photos_folder, photo):
    (tmp_path / "calibration").mkdir()
    Image.fromarray(photo(24, 40)).save(tmp_path / "calibration/small.png")
    (crop,) = calibrated_on(tmp_path / "calibration", photos_folder).calibration_inputs(1, 16, 0)
    assert crop.shape == (16, 16, 3)  # the LR image is 6 x 10
    assert np.array_equal(crop[6:12], crop[5::-1]), "below comes the picture upside down"
    assert np.array_equal(crop[:, 10:16], crop[:, 9:3:-1]), "to the right comes it mirrored"


def test_a_calibration_image_smaller_than_the_scale_is_named(photos_folder):
    task = calibrated_on(photos_folder("calibration", [(3, 40)]), photos_folder)
    with pytest.raises(DataError, match=r"calibration image .*0\.png: 40x3 is smaller than scale 4"):
        task.calibration_inputs(1, 8, 0)


def test_an_empty_calibration_folder_is_refused(tmp_path, photos_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no images"):
        calibrated_on(tmp_path / "empty", photos_folder)


def test_an_overlap_is_found_through_links_and_layouts(tmp_path, photos_folder):
    root = photos_folder("data/HR")
    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration/link.png").symlink_to(root / "1.png")
    with pytest.raises(DataError, match=r"1 images are both .*1\.png"):
        make_task(evaluation=tmp_path / "data", calibration=tmp_path / "calibration")
