"""The task: how it judges, and which calibration crops it hands out."""

import numpy as np
import pytest
from PIL import Image

from compress.data.bicubic import upscale
from compress.errors import DataError, UsageError
from compress.evaluate import protocol
from compress.task import TASKS, ImageScore, Scores, super_resolution


def bicubic(image):
    lr = np.rint(image * 255).astype(np.uint8)
    return upscale(lr, 4).astype(np.float32) / 255


@pytest.fixture
def task(photos_folder):
    """x4 on three images, calibrated on three others."""
    return super_resolution(4, photos_folder("data"), photos_folder("calibration", [(200, 240), (160, 100), (90, 130)]))


def test_every_image_is_judged_by_the_protocol(task):
    done = []
    found = task.judge(bicubic, done.append)
    assert found.protocol == task.protocol == protocol(4)
    assert [i.name for i in found.images] == ["0", "1", "2"] and done == [1, 2, 3]
    assert all(10 < i.psnr < 50 and 0 < i.ssim < 1 for i in found.images)


def test_the_network_is_given_lr_images_in_0_to_1(task):
    seen = []
    task.judge(lambda image: seen.append(image) or bicubic(image), lambda done: None)
    assert [i.shape for i in seen] == [(12, 16, 3), (10, 10, 3), (16, 12, 3)]
    assert all(i.dtype == np.float32 and 0 <= i.min() < i.max() <= 1 for i in seen)


def test_a_perfect_output_scores_100_db(task):
    perfect = iter([pair.load()[1] / np.float32(255) for pair in task.evaluation])
    found = task.judge(lambda image: next(perfect), lambda done: None)
    assert [i.psnr for i in found.images] == [100.0] * 3


def test_ssim_is_left_out_where_an_image_is_too_small(photos_folder):
    task = super_resolution(4, photos_folder("data", [(16, 40), (48, 48)]), photos_folder("calibration"))
    found = task.judge(bicubic, lambda done: None)
    assert found.images[0].ssim is None and found.images[1].ssim is not None
    assert found.ssim == found.images[1].ssim


def test_scores_are_means_and_name_the_worst():
    found = Scores("p", (ImageScore("a", 30.0, 0.8), ImageScore("b", 20.0, None), ImageScore("c", 40.0, 0.9)))
    assert found.psnr == 30.0 and found.ssim == pytest.approx(0.85) and found.worst.name == "b"
    assert Scores("p", (ImageScore("a", 30.0, None),)).ssim is None


def test_the_files_of_a_task_are_all_that_decide_its_numbers(task):
    assert len(task.files()) == 6 and all(p.is_file() for p in task.files())


def test_the_seed_decides_the_calibration_crops(task):
    first, again, other = (task.calibration_crops(9, 16, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_calibration_crops_have_the_size_and_range_of_an_input(task, count):
    crops = task.calibration_crops(count, 20, 0)
    assert len(crops) == count
    for crop in crops:
        assert crop.shape == (20, 20, 3) and crop.dtype == np.float32
        assert crop.min() >= 0 and crop.max() <= 1


def test_every_calibration_image_gives_its_share_of_crops(tmp_path, photos_folder):
    (tmp_path / "calibration").mkdir()
    for grey in (10, 100, 200):
        Image.new("RGB", (80, 80), (grey,) * 3).save(tmp_path / f"calibration/{grey:03d}.png")
    task = super_resolution(4, photos_folder("data"), tmp_path / "calibration")
    found = [round(float(c.mean()) * 255) for c in task.calibration_crops(7, 8, 0)]
    assert sorted(found) == [10] * 3 + [100] * 2 + [200] * 2


def test_images_smaller_than_the_crop_are_mirrored_on(tmp_path, photos_folder, photo):
    (tmp_path / "calibration").mkdir()
    Image.fromarray(photo(24, 40)).save(tmp_path / "calibration/small.png")
    task = super_resolution(4, photos_folder("data"), tmp_path / "calibration")
    (crop,) = task.calibration_crops(1, 16, 0)  # the LR image is 6 x 10
    assert crop.shape == (16, 16, 3)
    assert np.array_equal(crop[6:12], crop[5::-1]), "below comes the picture upside down"
    assert np.array_equal(crop[:, 10:16], crop[:, 9:3:-1]), "to the right comes it mirrored"


def test_a_calibration_image_smaller_than_the_scale_is_named(photos_folder):
    task = super_resolution(4, photos_folder("data"), photos_folder("calibration", [(3, 40)]))
    with pytest.raises(DataError, match=r"calibration image .*0\.png: 40x3 is smaller than scale 4"):
        task.calibration_crops(1, 8, 0)


def test_an_empty_calibration_folder_is_refused(tmp_path, photos_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no images"):
        super_resolution(4, photos_folder("data"), tmp_path / "empty")


def test_one_folder_for_both_is_refused_with_the_reason(photos_folder):
    root = photos_folder("data")
    with pytest.raises(DataError, match=r"3 images are both in --data and in --calibration, e\.g\. .*0\.png; keep"):
        super_resolution(4, root, root)


def test_an_overlap_is_found_through_links_and_layouts(tmp_path, photos_folder):
    root = photos_folder("data/HR")
    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration/link.png").symlink_to(root / "1.png")
    with pytest.raises(DataError, match=r"1 images are both .*1\.png"):
        super_resolution(4, tmp_path / "data", tmp_path / "calibration")


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UsageError, match=r"unknown task 'super-res'; did you mean 'super-resolution'\?"):
        TASKS["super-res"]
