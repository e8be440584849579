"""Folders of images: every layout, and what an unusable one is told."""

import numpy as np
import pytest
from PIL import Image

from compress.data.bicubic import downscale
from compress.data.folder import find_hr, pairs
from compress.data.images import read_rgb
from compress.errors import DataError

LAYOUTS = ["LRbicx4", "LR_bicubic/X4", "LRx4", "LR_x4", "LR/x4", "LR/X4", "LR"]


@pytest.fixture
def write(photo):
    """``write(path, height, width, seed)``: a PNG of that size."""

    def save(path, height, width, seed=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(height, width, seed)).save(path)

    return save


def test_images_directly_inside_are_hr_and_lr_is_made_from_them(photos_folder):
    root = photos_folder(sizes=[(49, 66), (40, 40)])
    first, second = pairs(root, 4)
    assert (first.name, second.name) == ("0", "1")
    lr, hr = first.load()
    assert lr.shape == (12, 16, 3) and hr.shape == (48, 64, 3)
    assert np.array_equal(lr, downscale(hr, 4))
    assert first.files() == [root / "0.png"]


@pytest.mark.parametrize("hr", ["HR", "hr"])
def test_an_hr_folder_alone_makes_its_lr_images(write, tmp_path, hr):
    write(tmp_path / hr / "a.png", 32, 32)
    (pair,) = pairs(tmp_path, 4)
    assert pair.lr_path is None and pair.load()[0].shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", ["", "x4"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_lr_partners_are_found_in_every_layout(write, tmp_path, layout, suffix):
    for number, name in enumerate("ab"):
        write(tmp_path / "HR" / f"{name}.png", 32, 40, number)
        write(tmp_path / layout / f"{name}{suffix}.png", 8, 10, number)
    found = pairs(tmp_path, 4)
    assert [p.name for p in found] == ["a", "b"]
    for pair in found:
        assert pair.lr_path == tmp_path / layout / f"{pair.name}{suffix}.png"
        assert pair.files() == [pair.hr_path, pair.lr_path]
        assert np.array_equal(pair.load()[0], read_rgb(pair.lr_path))


def test_the_lr_folder_of_another_scale_is_not_taken(write, tmp_path):
    write(tmp_path / "HR/a.png", 32, 32)
    write(tmp_path / "LRbicx2/a.png", 16, 16)
    assert pairs(tmp_path, 4)[0].lr_path is None
    assert pairs(tmp_path, 2)[0].lr_path == tmp_path / "LRbicx2/a.png"


def test_an_empty_lr_folder_is_as_none(write, tmp_path):
    write(tmp_path / "HR/a.png", 32, 32)
    (tmp_path / "LRbicx4").mkdir()
    assert pairs(tmp_path, 4)[0].lr_path is None


def test_an_empty_folder_is_told_what_was_found_and_expected(tmp_path):
    with pytest.raises(DataError, match=r"no images \(\.png.*found nothing; expected image files there"):
        pairs(tmp_path, 4)


def test_a_folder_without_images_is_told_what_lies_there(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"found notes\.txt, train/; expected image files there, or a folder HR/"):
        pairs(tmp_path, 4)


def test_of_many_other_entries_only_eight_are_named(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02d}.txt").touch()
    with pytest.raises(DataError, match=r"found 00\.txt, .*07\.txt \.\.\.; expected"):
        find_hr(tmp_path)


def test_an_empty_hr_folder_is_named(tmp_path):
    (tmp_path / "HR").mkdir()
    with pytest.raises(DataError, match=r"HR: no images .*found nothing"):
        pairs(tmp_path, 4)


def test_a_folder_that_does_not_exist_is_named_with_the_cure(tmp_path):
    with pytest.raises(DataError, match=r"gone: does not exist; give a folder of HR images"):
        pairs(tmp_path / "gone", 4)


def test_a_file_in_place_of_a_folder_is_named_with_the_cure(write, tmp_path):
    write(tmp_path / "a.png", 32, 32)
    with pytest.raises(DataError, match=r"a\.png: is a file, not a folder; give a folder"):
        pairs(tmp_path / "a.png", 4)


def test_missing_partners_are_named(write, tmp_path):
    for name in "abc":
        write(tmp_path / "HR" / f"{name}.png", 32, 32)
    write(tmp_path / "LRbicx4/b.png", 8, 8)
    with pytest.raises(DataError, match=r"LRbicx4: no LR partner for a\.png, c\.png; expected the HR name.*'x4'"):
        pairs(tmp_path, 4)


def test_an_lr_image_of_the_wrong_size_is_told_both_sizes(write, tmp_path):
    write(tmp_path / "HR/a.png", 32, 48)
    write(tmp_path / "LR/a.png", 16, 24)
    (pair,) = pairs(tmp_path, 4)
    with pytest.raises(DataError, match=r"pair a: LR .*a\.png is 24x16, expected 12x8 \(HR / 4\); check --scale"):
        pair.load()


@pytest.mark.parametrize(("side", "enough"), [(11, False), (12, True)])
def test_an_image_too_small_for_the_protocol_is_told_the_least_size(photos_folder, side, enough):
    (pair,) = pairs(photos_folder(sizes=[(side, 40)]), 4)
    if enough:
        assert pair.load()[0].shape == (3, 10, 3)
    else:
        with pytest.raises(DataError, match=r"40x11 pixels, at x4 at least 12 a side are needed"):
            pair.load()


def test_set5_is_a_folder_of_pairs(shared):
    found = pairs(shared / "data/sr/Set5", 3)
    assert len(found) == 5
    assert all(p.lr_path is not None and p.lr_path.parent.name == "LRbicx3" for p in found)
