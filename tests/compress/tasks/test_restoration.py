"""Restoration: noise or pairs, PSNR on all channels, and what the calibration sees."""

import numpy as np
import pytest
from PIL import Image
from torch import nn

from compress.data.degraded import add_noise
from compress.data.images import read_rgb
from compress.errors import DataError, UsageError
from compress.network import RESTORATION, Network, WeightsSource
from compress.task import Data
from compress.tasks.restoration import restoration


def make_task(channels=3, **data):
    """The task of a network that is never run."""
    source = WeightsSource(None, "0" * 64, builtin=False)
    return restoration(Network("net", nn.Identity(), 1, channels, source, task=RESTORATION), Data(**data))


def quiet(done):
    """Progress that nobody looks at."""


@pytest.fixture
def task(photos_folder):
    """Noise of 30 grey levels on three images, calibrated on three others."""
    return make_task(evaluation=photos_folder("data"), calibration=photos_folder("calibration"), noise=30.0)


def test_doing_nothing_scores_what_the_noisy_images_score(task):
    done = []
    floor = task.floor(done.append)
    assert task.judge(lambda image: image, quiet) == floor
    assert done == [1, 2, 3] and [i.name for i in floor.items] == ["0", "1", "2"]
    assert task.floor_name == "input" and floor.unit == "dB"
    # clipping at black and white makes it a little more than 20 lg(255 / 30) = 18.6
    assert all(18.0 < i.value < 20.0 and 0 < i.ssim < 1 for i in floor.items)


def test_the_score_is_psnr_over_all_channels_of_uint8(task):
    clean = read_rgb(task.evaluation[0].clean_path).astype(np.float64)
    found = task.judge(lambda image: np.full_like(image, 0.5), quiet).items[0].value
    assert found == pytest.approx(10 * np.log10(255**2 / np.mean((clean - 128.0) ** 2)), abs=1e-9)


def test_less_noise_scores_more(photos_folder):
    data, calibration = photos_folder("data"), photos_folder("calibration")
    means = [make_task(evaluation=data, calibration=calibration, noise=n).floor(quiet).mean for n in (50, 15, 5)]
    assert means == sorted(means)
    assert make_task(evaluation=data, calibration=calibration, noise=0.0).floor(quiet).mean == 100.0


def test_the_network_is_given_the_same_noisy_images_each_time(task):
    first, second = [], []
    for seen in (first, second):
        task.judge(lambda image, seen=seen: seen.append(image) or image, quiet)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.array_equal(first[0], task.sample())
    expected = add_noise(read_rgb(task.evaluation[0].clean_path), 30.0)
    assert np.array_equal(np.rint(first[0] * 255).astype(np.uint8), expected)


def test_a_network_of_one_channel_is_given_grey_and_judged_on_grey(photos_folder):
    task = make_task(channels=1, evaluation=photos_folder("data"), calibration=photos_folder("calibration"))
    assert task.sample().shape == (48, 64, 1)
    assert task.judge(lambda image: image, quiet) == task.floor(quiet)
    assert task.protocol == "restoration-noise25-grey-uint8"
    assert {i.shape for i in task.calibration_inputs(2, 16, 0)} == {(16, 16, 1)}


def test_the_protocol_tells_the_noise(photos_folder):
    data, calibration = photos_folder("data"), photos_folder("calibration")
    assert make_task(evaluation=data, calibration=calibration).protocol == "restoration-noise25-rgb-uint8"
    half = make_task(evaluation=data, calibration=calibration, noise=12.5)
    assert half.protocol == "restoration-noise12.5-rgb-uint8"


def test_pairs_on_disk_are_judged_as_they_are(tmp_path, photos_folder, photo):
    photos_folder("data/clean", [(40, 48)])
    (tmp_path / "data/noisy").mkdir()
    bad = photo(40, 48, seed=9)
    Image.fromarray(bad).save(tmp_path / "data/noisy/0.png")
    task = make_task(evaluation=tmp_path / "data", calibration=photos_folder("calibration"))
    assert task.protocol == "restoration-pairs-rgb-uint8"
    assert np.array_equal(task.sample(), bad.astype(np.float32) / np.float32(255))
    assert len(task.files()) == 2 + 3


def test_calibration_sees_noise_too(tmp_path, photos_folder):
    (tmp_path / "calibration").mkdir()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(tmp_path / "calibration/grey.png")
    data = photos_folder("data")
    for noise, expected in ((20.0, 20.0), (0.0, 0.0)):
        (crop,) = make_task(evaluation=data, calibration=tmp_path / "calibration", noise=noise).calibration_inputs(
            1, 64, 0
        )
        assert float(crop.std()) * 255 == pytest.approx(expected, abs=0.7)  # of 12288 samples


def test_noise_below_zero_is_refused():
    with pytest.raises(UsageError, match=r"noise of sigma -1"):
        make_task(noise=-1.0)


def test_one_folder_for_both_is_refused(photos_folder):
    root = photos_folder("data")
    with pytest.raises(DataError, match="3 images are both in --data and in --calibration"):
        make_task(evaluation=root, calibration=root)


def test_without_folders_it_is_judged_on_the_built_in_photographs():
    task = make_task()
    assert task.size == 3 and not {p.clean_path for p in task.evaluation} & set(task.calibration)
