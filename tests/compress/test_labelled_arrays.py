"""Labelled images in files of arrays: rows of a PNG, idx, CIFAR-10's binary version, npz."""

import gzip
import json
import pickle
import struct

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from compress.data.labelled import find
from compress.errors import DataError

SMALL = hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)))
COUNT = 3
LABELS = [2, 0, 1]


def pixels(channels=3, side=32, count=COUNT):
    """Images (count, side, side, channels), no two pixels' rows alike."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)


def idx(array, code=8):
    """An idx file's bytes."""
    return struct.pack(f">{1 + array.ndim}I", code << 8 | array.ndim, *array.shape) + array.tobytes()


def write_idx(root, prefix, images, labels=LABELS, pack=False):
    for kind, array in (("images-idx3", images), ("labels-idx1", np.array(labels, np.uint8))):
        data = idx(array)
        name = f"{prefix}-{kind}-ubyte"
        (root / f"{name}.gz" if pack else root / name).write_bytes(gzip.compress(data) if pack else data)


def write_rows(root, prefix, images, labels=LABELS):
    count, side, _, channels = images.shape
    rows = images.reshape(count, side * side, channels)
    Image.fromarray(rows[..., 0] if channels == 1 else rows).save(root / f"{prefix}_rows.png")
    (root / f"{prefix}_labels.json").write_text(json.dumps(labels))


def write_batch(path, images, labels=LABELS):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(np.hstack([np.array(labels, np.uint8)[:, None], planes]).tobytes())


def same(found, images, labels=LABELS):
    """Whether images and labels are these, to the bit."""
    assert found.labels.dtype == np.int64 and found.labels.tolist() == list(labels)
    assert found.count == len(images)
    loaded = [found.load(number) for number in range(found.count)]
    return all(a.dtype == np.uint8 and np.array_equal(a, b) for a, b in zip(loaded, images, strict=True))


# rows of a PNG


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_of_a_png_are_images(tmp_path, channels):
    images = pixels(channels)
    write_rows(tmp_path, "test_first3", images)
    write_rows(tmp_path, "train_b", images[:2], [0, 1])
    write_rows(tmp_path, "train_a", images[2:], [2])
    (tmp_path / "classes.json").write_text('["cat", "dog", "eel"]')
    found, train = find(tmp_path, "evaluation"), find(tmp_path, "calibration")
    assert same(found, images) and same(train, images[[2, 0, 1]], [2, 0, 1])
    assert found.classes == ("cat", "dog", "eel")
    assert [p.name for p in found.files()] == ["test_first3_rows.png", "test_first3_labels.json", "classes.json"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": [0, 1]}, "2 labels for 3 images, expected one for each"),
        ({"labels": [0, 1, 7]}, r"class 7 of image 2, expected 0 to 2 \(3 classes\)"),
        ({"labels": {"a": 1}}, "expected a JSON list of class indices"),
        ({"labels": [0, 1, True]}, "expected a JSON list of class indices"),
        ({"labels": [0, 1, 2**70]}, "object of shape .*expected integer class indices"),
        ({"prefix": "train"}, r"nothing to evaluate on, found .*train_rows\.png; expected test\*_rows\.png"),
        ({"prefix": "valid", "labels": "["}, "class indices"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, change, told):
    (tmp_path / "classes.json").write_text('["cat", "dog", "eel"]')
    write_rows(tmp_path, **{"prefix": "test", "images": pixels(), **change})
    with pytest.raises(DataError, match=told):
        find(tmp_path, "evaluation")


def test_rows_without_labels_or_with_broken_ones_are_refused(tmp_path):
    write_rows(tmp_path, "test", pixels())
    (tmp_path / "test_labels.json").write_text("[1,")
    with pytest.raises(DataError, match=r"test_labels\.json: not JSON"):
        find(tmp_path, "evaluation")
    (tmp_path / "test_labels.json").unlink()
    with pytest.raises(DataError, match=r"test_rows\.png: no labels, expected test_labels\.json beside it"):
        find(tmp_path, "evaluation")


def test_rows_that_are_no_squares_are_refused(tmp_path):
    Image.fromarray(np.zeros((3, 1000, 3), np.uint8)).save(tmp_path / "test_rows.png")
    with pytest.raises(DataError, match="rows of 1000 pixels, expected square images a row"):
        find(tmp_path, "evaluation")


def test_rows_of_two_kinds_are_refused(tmp_path):
    write_rows(tmp_path, "test_a", pixels(3))
    write_rows(tmp_path, "test_b", pixels(1))
    with pytest.raises(DataError, match=r"images of \(32, 32, 1\) and \(32, 32, 3\) \(H, W, C\), expected one kind"):
        find(tmp_path, "evaluation")


# idx


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("prefix", ["t10k", "test", "emnist-letters-test", "digits"])
def test_idx_files_are_images(tmp_path, prefix, pack):
    images = pixels(1, 28)
    write_idx(tmp_path, prefix, images[..., 0], pack=pack)
    assert find(tmp_path, "calibration") is None
    write_idx(tmp_path, "train10k", images[::-1, ..., 0], [1, 0, 2], pack=pack)
    assert same(find(tmp_path, "evaluation"), images)
    assert same(find(tmp_path, "calibration"), images[::-1], [1, 0, 2])
    assert len(find(tmp_path, "evaluation").files()) == 2


def test_the_unpacked_idx_file_comes_before_the_packed_one(tmp_path):
    write_idx(tmp_path, "t10k", pixels(1)[..., 0], pack=True)
    write_idx(tmp_path, "t10k", pixels(1)[..., 0])
    assert [p.suffix for p in find(tmp_path, "evaluation").files()] == ["", ""]


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        ("images", idx(pixels(1)[..., 0])[:-1], r"3071 bytes after the header, expected 3072 \(3 x 32 x 32\)"),
        ("images", idx(pixels(1)[..., 0]) + b"x", "3073 bytes after the header, expected 3072"),
        ("images", idx(pixels(1)[..., 0])[:15], "15 bytes, expected a header of 16"),
        ("images", idx(pixels(1)[..., 0], 13), r"magic number 0x00000d03, expected 0x00000803 \(unsigned bytes, 3"),
        ("images", idx(np.zeros((3, 0, 5), np.uint8)), r"holds nothing \(3 x 0 x 5\)"),
        ("images", idx(np.zeros((0, 28, 28), np.uint8)), r"holds nothing \(0 x 28 x 28\), expected at least one image"),
        ("labels", idx(pixels(1)[..., 0]), "magic number 0x00000803, expected 0x00000801"),
        ("labels", idx(np.zeros(2, np.uint8)), "2 labels for 3 images"),
        ("labels", idx(np.array([0, 1, 3], np.uint8)), r"class 3 of image 2, expected 0 to 2 \(3 classes\)"),
        ("labels", None, r"no labels, expected t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz beside it"),
    ],
)
def test_idx_files_that_do_not_fit_are_refused(tmp_path, kind, data, told):
    write_idx(tmp_path, "t10k", pixels(1)[..., 0])
    (tmp_path / "classes.txt").write_text("cat\ndog\neel\n")
    path = tmp_path / f"t10k-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(DataError, match=told):
        find(tmp_path, "evaluation")


def test_two_idx_sets_for_one_part_are_named(tmp_path):
    for prefix in ("emnist-letters-test", "emnist-digits-test"):
        write_idx(tmp_path, prefix, pixels(1)[..., 0])
    with pytest.raises(DataError, match=r"2 sets of images for evaluation \(emnist-digits-test.*\), expected one"):
        find(tmp_path, "evaluation")


@given(cut=st.integers(0, 200), pack=st.booleans())
def test_an_idx_file_cut_anywhere_is_refused(tmp_path_factory, cut, pack):
    root = tmp_path_factory.mktemp("idx")
    write_idx(root, "t10k", pixels(1, 8)[..., 0], pack=pack)
    path = find(root, "evaluation").files()[0]
    path.write_bytes(path.read_bytes()[: min(cut, path.stat().st_size - 1)])
    with pytest.raises(DataError, match="idx3"):
        find(root, "evaluation")


@given(images=SMALL)
def test_idx_and_npz_give_back_what_was_written(tmp_path_factory, images):
    root = tmp_path_factory.mktemp("written")
    labels = list(range(len(images)))
    write_idx(root, "test", images, labels)
    np.savez_compressed(root / "set.npz", images=images, labels=labels)
    assert same(find(root, "evaluation"), images[..., None], labels)
    assert same(find(root / "set.npz", "evaluation"), images[..., None], labels)


# CIFAR-10's binary version


def test_binary_batches_are_images(tmp_path):
    images = pixels()
    write_batch(tmp_path / "test_batch.bin", images)
    assert find(tmp_path, "calibration") is None
    write_batch(tmp_path / "data_batch_2.bin", images[:1], [9])
    write_batch(tmp_path / "data_batch_1.bin", images[1:], [8, 7])
    found, train = find(tmp_path, "evaluation"), find(tmp_path, "calibration")
    assert same(found, images) and same(train, images[[1, 2, 0]], [8, 7, 9])
    assert found.classes[3] == "cat" and len(found.classes) == 10
    (tmp_path / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    assert find(tmp_path, "evaluation").classes == tuple("abcdefghij")


@pytest.mark.parametrize(
    ("size", "told"),
    [(3073 * 2 - 1, "6145 bytes, expected a multiple of 3073"), (0, "no images, expected at least one")],
)
def test_batches_that_are_not_whole_are_refused(tmp_path, size, told):
    (tmp_path / "test_batch.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=r"test_batch\.bin: " + told):
        find(tmp_path, "evaluation")


def test_a_label_above_nine_is_refused(tmp_path):
    write_batch(tmp_path / "test_batch.bin", pixels(), [0, 10, 1])
    with pytest.raises(DataError, match=r"class 10 of image 1, expected 0 to 9 \(10 classes\)"):
        find(tmp_path, "evaluation")


class Bomb:
    """Shouts when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise AssertionError('unpickled')",)


@pytest.mark.parametrize("part", ["evaluation", "calibration"])
def test_pickles_are_refused_unopened_with_the_cure(tmp_path, part):
    for name in ("test_batch", "data_batch_1"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"_batch.* is CIFAR-10's Python version, a pickle.*; give the binary version"):
        find(tmp_path, part)


# npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("as_folder", [True, False])
def test_an_archive_in_the_manner_of_keras(tmp_path, save, as_folder):
    images, labels = pixels(), np.array(LABELS, np.uint8)[:, None]
    save(tmp_path / "set.npz", x_test=images, y_test=labels, x_train=images[::-1], y_train=labels[::-1])
    root = tmp_path if as_folder else tmp_path / "set.npz"
    found = find(root, "evaluation")
    assert same(found, images) and same(find(root, "calibration"), images[::-1], LABELS[::-1])
    assert found.files() == [tmp_path / "set.npz"] and found.name == (tmp_path.name if as_folder else "set")


@pytest.mark.parametrize(
    ("order", "kept"),
    [(lambda x: x, 3), (lambda x: x.transpose(0, 3, 1, 2), 3), (lambda x: x[..., 0], 1), (lambda x: x[..., :1], 1)],
    ids=["NHWC", "NCHW", "NHW", "NHW1"],
)
def test_every_order_of_axes_comes_out_the_same(tmp_path, order, kept):
    np.savez(tmp_path / "set.npz", images=np.asfortranarray(order(pixels())), labels=LABELS)
    assert same(find(tmp_path, "evaluation"), pixels()[..., :kept])
    assert find(tmp_path, "calibration") is None


def test_an_archive_is_unpacked_once_and_not_before_it_is_needed(tmp_path, monkeypatch):
    np.savez(tmp_path / "set.npz", images=pixels(), labels=LABELS)
    opened = []
    real = np.load
    monkeypatch.setattr(np, "load", lambda *args, **options: opened.append(args) or real(*args, **options))
    found = find(tmp_path, "evaluation")
    assert len(opened) == 1, "the labels"
    assert same(found, pixels()) and same(found, pixels()) and len(opened) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": pixels() / 255.0}, r"images is float64, expected uint8; save 0\.\.255 as uint8"),
        ({"images": np.array([None, 1, "a"], object)}, "images is object, expected uint8; save plain arrays"),
        ({"labels": np.array([None, 1, Bomb()], object)}, "labels cannot be read .*Object arrays"),
        ({"labels": np.eye(3, dtype=np.uint8)}, r"uint8 of shape \(3, 3\), expected integer class indices.*argmax"),
        ({"labels": [0.0, 1.0, 2.0]}, r"float64 of shape \(3,\), expected integer class indices"),
        ({"labels": [0, 1]}, "2 labels for 3 images"),
        ({"labels": [0, -1, 2]}, "class -1 of image 1, expected 0 or more"),
        ({"labels": np.array([0, 1, 2**63], np.uint64)}, "class 9223372036854775808 of image 2"),
        ({"labels": 3}, r"int64 of shape \(\), expected integer class indices"),
        ({"images": pixels()[:0], "labels": []}, "no images, expected at least one"),
        ({"images": pixels()[0]}, "3 labels for 32 images"),
        (
            {"images": np.zeros((3, 4, 5, 2), np.uint8)},
            r"images is \(3, 4, 5, 2\), expected .* with C = 1 or 3",
        ),
        ({"images": np.zeros((3, 0, 5), np.uint8)}, r"images is \(3, 0, 5\), expected \(N, H, W\)"),
    ],
)
def test_archives_that_do_not_fit_are_refused(tmp_path, change, told):
    np.savez(tmp_path / "set.npz", **{"images": pixels(), "labels": LABELS, **change})
    with pytest.raises(DataError, match=r"set\.npz: " + told):
        find(tmp_path, "evaluation")


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (["x_train", "y_train"], r"nothing to evaluate on, .*x_test \+ y_test or images \+ labels in it, not x_train"),
        (["x_test"], "x_test without y_test, found x_test; expected both"),
        ([], "in it, not nothing"),
    ],
)
def test_archives_with_other_names_are_told_those(tmp_path, arrays, told):
    np.savez(tmp_path / "set.npz", **{name: pixels() for name in arrays})
    with pytest.raises(DataError, match=told):
        find(tmp_path / "set.npz", "evaluation")


def test_two_archives_are_named(tmp_path):
    for name in "ab":
        np.savez(tmp_path / name, images=pixels(), labels=LABELS)
    with pytest.raises(DataError, match=r"2 archives \(a\.npz, b\.npz\), expected one; give the file itself"):
        find(tmp_path, "evaluation")


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_archive_is_refused_or_harmless(tmp_path_factory, place, value, cut):
    path = tmp_path_factory.mktemp("npz") / "set.npz"
    np.savez_compressed(path, images=pixels(1, 4), labels=LABELS)
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    path.write_bytes(data[:at] if cut else bytes([*data[:at], value, *data[at + 1 :]]))
    try:
        assert same(find(path, "evaluation"), pixels(1, 4)) and not cut
    except DataError as error:
        assert str(path) in str(error)
