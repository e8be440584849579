"""Training crops: reproducible, aligned, and prepared once."""

import numpy as np
import pytest
from PIL import Image

from compress.data.bicubic import downscale
from compress.data.crops import Crops, prepare
from compress.errors import DataError


def ignore(done, total):
    pass


def enlarge_by_repeating(lr):
    return np.repeat(np.repeat(lr, 4, 0), 4, 1)


@pytest.fixture
def coordinates(tmp_path):
    """Prepared images by hand: LR pixel (y, x) of image i holds (y, x, i), and so does its square in HR."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    sizes = [(20, 30), (25, 16)]
    for number, (height, width) in enumerate(sizes):
        y, x = np.mgrid[:height, :width].astype(np.uint8)
        lr = np.stack([y, x, np.full_like(y, number)], 2)
        hr = enlarge_by_repeating(lr)
        np.save(folder / f"{number:05d}.lr.npy", lr)
        np.save(folder / f"{number:05d}.hr.npy", hr)
        np.save(folder / f"{number:05d}.teacher.npy", hr)
    np.save(folder / "areas.npy", np.array([h * w * 16 for h, w in sizes]))
    return Crops(folder, len(sizes), 4, 8)


def test_seed_and_step_decide_the_batch(coordinates):
    first, again = (coordinates.batch(6, seed=3, step=17) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for seed, step in ((3, 18), (4, 17)):
        assert not np.array_equal(first[0], coordinates.batch(6, seed, step)[0])


def test_a_batch_has_the_stated_shapes(coordinates):
    lr, hr, teacher = coordinates.batch(5, 0, 0)
    assert lr.shape == (5, 3, 8, 8) and hr.shape == teacher.shape == (5, 3, 32, 32)
    assert all(part.dtype == np.uint8 and part.flags.c_contiguous for part in (lr, hr, teacher))


def test_lr_hr_and_teacher_show_the_same_place(coordinates):
    for step in range(20):
        lr, hr, teacher = coordinates.batch(4, 1, step)
        assert np.array_equal(hr, lr.repeat(4, 2).repeat(4, 3))
        assert np.array_equal(teacher, hr)


def test_a_crop_is_a_connected_square_in_one_of_eight_positions(coordinates):
    positions = set()
    for step in range(40):
        lr = coordinates.batch(4, 2, step)[0].astype(int)
        for y, x, number in lr:
            assert len(np.unique(number)) == 1
            assert sorted(np.unique(y - y.min())) == sorted(np.unique(x - x.min())) == list(range(8))
            steps = (y[1, 0] - y[0, 0], x[1, 0] - x[0, 0], y[0, 1] - y[0, 0], x[0, 1] - x[0, 0])
            positions.add(tuple(int(s) for s in steps))
    assert len(positions) == 8


def test_every_pixel_can_be_reached(coordinates):
    seen = np.zeros((2, 25, 30), bool)
    for step in range(150):
        y, x, number = coordinates.batch(8, 0, step)[0].transpose(1, 0, 2, 3)
        seen[number, y, x] = True
    assert seen[0, :20, :30].all() and seen[1, :25, :16].all()


def test_large_images_are_drawn_more_often(tmp_path):
    for number, value in enumerate((0, 255)):
        np.save(tmp_path / f"{number:05d}.lr.npy", np.full((8, 8, 3), value, np.uint8))
        np.save(tmp_path / f"{number:05d}.hr.npy", np.full((32, 32, 3), value, np.uint8))
    np.save(tmp_path / "areas.npy", np.array([1, 3]))
    crops = Crops(tmp_path, 2, 4, 8)
    share = np.mean([crops.batch(50, 0, step)[0].mean() / 255 for step in range(20)])
    assert share == pytest.approx(0.75, abs=0.06)  # 1000 draws: four standard deviations are 0.055


def test_prepare_writes_lr_images_that_belong_to_their_hr_images(photos_folder, tmp_path):
    images = sorted(photos_folder(sizes=[(66, 83), (64, 64)]).iterdir())
    calls = []
    out = tmp_path / "prepared"
    crops = prepare(images, out, (4, 8), (1.0, 0.7), enlarge_by_repeating, lambda *a: calls.append(a))
    assert crops.count == 4
    assert calls[0] == (0, 4) and calls[-1] == (4, 4)
    shapes = [np.load(out / f"{n:05d}.hr.npy").shape for n in range(4)]
    assert shapes == [(64, 80, 3), (44, 56, 3), (64, 64, 3), (44, 44, 3)]
    for number in range(4):
        lr, hr, teacher = (np.load(out / f"{number:05d}.{kind}.npy") for kind in ("lr", "hr", "teacher"))
        assert np.array_equal(lr, downscale(hr, 4))
        assert np.array_equal(teacher, enlarge_by_repeating(lr))


def test_without_a_teacher_hr_stands_in(photos_folder, tmp_path):
    crops = prepare(sorted(photos_folder().iterdir()), tmp_path / "prepared", (4, 8), (1.0,), None, ignore)
    _, hr, teacher = crops.batch(4, 0, 0)
    assert np.array_equal(hr, teacher)


def test_a_preparation_that_was_killed_is_continued_where_it_stopped(photos_folder, tmp_path):
    images = sorted(photos_folder().iterdir())
    whole = prepare(images, tmp_path / "whole", (4, 8), (1.0,), enlarge_by_repeating, ignore)
    seen = []

    def killed_at_the_third(lr):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(lr.shape)
        return enlarge_by_repeating(lr)

    with pytest.raises(KeyboardInterrupt):
        prepare(images, tmp_path / "parts", (4, 8), (1.0,), killed_at_the_third, ignore)

    def goes_on(lr):
        seen.append(lr.shape)
        return enlarge_by_repeating(lr)

    parts = prepare(images, tmp_path / "parts", (4, 8), (1.0,), goes_on, ignore)
    assert len(seen) == 3, "finished images are not enlarged again"
    assert parts.count == whole.count
    for a, b in zip(whole.batch(8, 5, 6), parts.batch(8, 5, 6), strict=True):
        assert np.array_equal(a, b)


def test_images_smaller_than_the_crop_are_left_out(photos_folder, tmp_path):
    images = sorted(photos_folder(sizes=[(20, 90), (64, 64), (3, 3)]).iterdir())
    assert prepare(images, tmp_path / "prepared", (4, 8), (1.0, 0.4), None, ignore).count == 1


def test_when_no_image_is_large_enough_the_least_size_is_named(photos_folder, tmp_path):
    images = sorted(photos_folder(sizes=[(20, 20), (30, 30)]).iterdir())
    with pytest.raises(DataError, match=r"none of 2 images is at least 32x32 pixels \(crop 8 at x4\); give larger"):
        prepare(images, tmp_path / "prepared", (4, 8), (1.0,), None, ignore)


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (64, 64)).save(tmp_path / "fine.png")
    with pytest.raises(DataError, match=r"broken\.png"):
        prepare(sorted(tmp_path.glob("*.png")), tmp_path / "prepared", (4, 8), (1.0,), None, ignore)
