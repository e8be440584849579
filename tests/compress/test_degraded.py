"""Pairs for restoration: every layout, the noise, and what unusable folders are told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compress.data import builtin
from compress.data.degraded import add_noise, pairs
from compress.data.images import read_rgb
from compress.errors import DataError, UsageError

CLEAN = ["GT", "gt", "HR", "hr", "clean", "target", "groundtruth"]
DEGRADED = ["LQ", "lq", "LR", "lr", "noisy", "input", "degraded"]


@pytest.fixture
def write(photo, tmp_path):
    """``write(name, height=8, width=9, seed=0)``: a PNG of that size below ``tmp_path``."""

    def save(name, height=8, width=9, seed=0):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(height, width, seed)).save(path)

    return save


@pytest.mark.parametrize(("clean", "degraded"), [*zip(CLEAN, DEGRADED, strict=True), ("GT", "input")])
def test_partners_are_found_in_every_layout(write, tmp_path, clean, degraded):
    for seed, name in enumerate("ba"):
        write(f"{clean}/{name}.png", seed=seed)
        write(f"{degraded}/{name}.png", seed=seed + 5)
    found = pairs(tmp_path, 25)
    assert [p.name for p in found] == ["a", "b"]
    for pair in found:
        files = [tmp_path / clean / f"{pair.name}.png", tmp_path / degraded / f"{pair.name}.png"]
        assert pair.files() == files
        noisy, sharp = pair.load()
        assert np.array_equal(sharp, read_rgb(files[0])) and np.array_equal(noisy, read_rgb(files[1]))


@pytest.mark.parametrize(
    ("clean", "degraded"), [("a", "a_noisy"), ("a", "a_LQ"), ("a_gt", "a_input"), ("a_clean", "a"), ("a_gt", "a_gt")]
)
def test_partners_may_carry_a_word_at_their_end(write, tmp_path, clean, degraded):
    write(f"GT/{clean}.png")
    write(f"LQ/{degraded}.png")
    write("LQ/ab_noisy.png")
    (pair,) = pairs(tmp_path, 0)
    assert pair.degraded_path == tmp_path / f"LQ/{degraded}.png"


@pytest.mark.parametrize("degraded", ["ax4", "a_x4", "anoisy", "b"])
def test_other_names_are_no_partners(write, tmp_path, degraded):
    write("GT/a.png")
    write(f"LQ/{degraded}.png")
    with pytest.raises(DataError, match=rf"LQ: no degraded partner for a\.png, found {degraded}\.png; expected the"):
        pairs(tmp_path, 25)


def test_two_partners_of_one_image_are_named(write, tmp_path):
    for name in ("GT/a", "LQ/a_noisy", "LQ/a_lq"):
        write(f"{name}.png")
    with pytest.raises(DataError, match=r"a\.png has 2 partners \(a_lq\.png, a_noisy\.png\), expected one"):
        pairs(tmp_path, 25)


def test_the_same_stem_comes_before_a_word(write, tmp_path):
    for name in ("GT/a", "LQ/a", "LQ/a_noisy"):
        write(f"{name}.png")
    assert pairs(tmp_path, 25)[0].degraded_path == tmp_path / "LQ/a.png"


@pytest.mark.parametrize("folder", ["", "GT/"])
def test_clean_images_alone_get_noise(write, tmp_path, folder):
    write(f"{folder}a.png", 40, 60)
    (tmp_path / "LQ").mkdir()
    (pair,) = pairs(tmp_path, 25)
    noisy, clean = pair.load()
    assert pair.degraded_path is None and pair.files() == [tmp_path / f"{folder}a.png"]
    assert noisy.dtype == clean.dtype == np.uint8 and noisy.shape == clean.shape == (40, 60, 3)
    assert np.array_equal(noisy, add_noise(clean, 25))
    assert np.array_equal(noisy, pair.load()[0])


def test_without_a_folder_the_built_in_photographs_get_noise():
    assert [p.clean_path for p in pairs(None, 15)] == builtin.evaluation_images()


def test_the_noise_has_the_sigma_asked_for_and_no_mean():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = add_noise(grey, 15).astype(float) - grey
    assert abs(noise.std() - 15) < 0.15 and abs(noise.mean()) < 0.15
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02


def test_clipping_keeps_black_images_from_noise_below():
    black = np.zeros((200, 200, 3), np.uint8)
    noisy = add_noise(black, 25)
    assert np.mean(noisy == 0) == pytest.approx(0.5, abs=0.02)
    assert np.mean(noisy.astype(float) ** 2) == pytest.approx(25**2 / 2, rel=0.05)


def test_the_noise_is_the_same_as_ever(photo):
    """A change of NumPy's generator would change every score; it must not pass unseen."""
    assert add_noise(photo(2, 2), 25).tolist() == [
        [[172, 132, 142], [190, 209, 126]],
        [[134, 160, 180], [174, 202, 192]],
    ]


@given(seed=st.integers(0, 9), other=st.integers(0, 9), sigma=st.floats(1, 100))
def test_the_noise_is_a_function_of_the_content(photo, seed, other, sigma):
    image, second = photo(20, 20, seed), photo(20, 20, other)
    noise = add_noise(image, sigma).astype(int) - image
    assert np.array_equal(add_noise(image.copy(), sigma) - image.astype(int), noise)
    assert (seed == other) == np.array_equal(add_noise(second, sigma) - second.astype(int), noise)


def test_sigma_0_leaves_the_image(photo):
    assert np.array_equal(add_noise(photo(20, 20), 0), photo(20, 20))


@pytest.mark.parametrize("sigma", [-1, float("nan"), float("inf")])
def test_a_sigma_that_is_none_is_refused(tmp_path, sigma):
    with pytest.raises(UsageError, match=r"sigma (-1|nan|inf): expected a finite number from 0"):
        pairs(tmp_path, sigma)


def test_unequal_sizes_are_told_both(write, tmp_path):
    write("HR/a.png", 32, 48)
    write("LR/a.png", 8, 12)
    (pair,) = pairs(tmp_path, 25)
    with pytest.raises(DataError, match=r"pair a: degraded .*a\.png is 12x8, expected 48x32 as .*restoration keeps"):
        pair.load()


def test_two_folders_of_one_kind_are_named(write, tmp_path):
    for name in ("GT/a", "HR/a"):
        write(f"{name}.png")
    with pytest.raises(DataError, match=r"GT/, HR/ could all be meant, expected one of them"):
        pairs(tmp_path, 25)


def test_an_empty_folder_beside_a_full_one_of_its_kind_does_not_count(write, tmp_path):
    (tmp_path / "GT").mkdir()
    write("HR/a.png")
    assert pairs(tmp_path, 25)[0].clean_path == tmp_path / "HR/a.png"


def test_an_empty_clean_folder_is_named(write, tmp_path):
    (tmp_path / "GT").mkdir()
    write("LQ/a.png")
    with pytest.raises(DataError, match=r"GT: no images \(\.png.*found nothing; expected the clean images"):
        pairs(tmp_path, 25)


def test_degraded_images_without_clean_ones_are_told_so(write, tmp_path):
    write("noisy/a.png")
    with pytest.raises(DataError, match=r"noisy/ without clean images, found noisy/; expected GT/"):
        pairs(tmp_path, 25)


def test_a_folder_without_images_is_told_what_lies_there(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"found notes\.txt; expected image files there, to which noise is added, or a"):
        pairs(tmp_path, 25)


def test_two_files_of_one_stem_are_refused(write, tmp_path):
    write("a.png")
    write("a.bmp")
    with pytest.raises(DataError, match="two files are called a but for their suffix"):
        pairs(tmp_path, 25)


def test_what_is_no_folder_is_named_with_the_cure(write, tmp_path):
    write("a.png")
    with pytest.raises(DataError, match=r"a\.png: is a file, not a folder; give a folder"):
        pairs(tmp_path / "a.png", 25)
    with pytest.raises(DataError, match=r"gone: does not exist; give a folder"):
        pairs(tmp_path / "gone", 25)


def test_set5_gets_noise(shared):
    found = pairs(shared / "data/sr/Set5/HR", 25)
    noisy, clean = found[0].load()
    assert len(found) == 5
    assert 20.1 < 10 * np.log10(255**2 / np.mean((noisy.astype(float) - clean) ** 2)) < 21.5


def test_a_set_of_hr_and_lr_folders_of_super_resolution_gets_noise_on_hr(shared):
    assert {p.degraded_path for p in pairs(shared / "data/sr/Set5", 25)} == {None}
