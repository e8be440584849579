"""Labelled images: folders, tables, what is no layout at all, and the real data.

Files of arrays: test_labelled_arrays.py; how images are fitted to a network: test_fit.py.
"""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from compress.data.classes import checked_labels
from compress.data.images import read_rgb
from compress.data.labelled import find
from compress.data.layouts import part_of
from compress.errors import DataError


def write_images(root, names):
    """An image file a name, its pixels telling its place in the names."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(path, lossless=True)


def loaded(found):
    return [found.load(number) for number in range(found.count)]


# folders


def test_each_folder_is_a_class_in_the_order_of_their_names(tmp_path):
    write_images(tmp_path, ["dog/a.png", "cat/b.png", "cat/a.png", "eel/x.webp"])
    found = find(tmp_path, "evaluation")
    assert found.name == tmp_path.name and found.classes == ("cat", "dog", "eel")
    assert found.labels.tolist() == [0, 0, 1, 2]
    assert [image[0, 0, 0] for image in loaded(found)] == [2, 1, 0, 3]
    assert found.files() == [tmp_path / n for n in ("cat/a.png", "cat/b.png", "dog/a.png", "eel/x.webp")]
    assert find(tmp_path, "calibration") is None


@pytest.mark.parametrize("inner", ["", "images/"])
@pytest.mark.parametrize("evaluation", ["val", "validation", "test"])
@pytest.mark.parametrize("train", ["train", "training", None])
def test_folders_of_parts_hold_folders_of_classes(tmp_path, evaluation, train, inner):
    write_images(tmp_path, [f"{evaluation}/cat/{inner}1.png", f"{evaluation}/dog/{inner}2.png"])
    assert find(tmp_path, "evaluation").labels.tolist() == [0, 1]
    assert find(tmp_path, "calibration") is None
    if train:
        write_images(tmp_path, [f"{train}/{name}/{inner}1.png" for name in ("cat", "dog", "ant")])
        assert find(tmp_path, "evaluation").classes == ("ant", "cat", "dog"), "indices are those of training"
        assert find(tmp_path, "evaluation").labels.tolist() == [1, 2]
        assert find(tmp_path, "calibration").labels.tolist() == [0, 1, 2]


def test_val_comes_before_test(tmp_path):
    write_images(tmp_path, ["test/a/1.png", "test/b/1.png", "val/c/1.png", "val/d/1.png"])
    assert find(tmp_path, "evaluation").classes == ("c", "d")


def test_a_class_may_be_called_train(tmp_path):
    write_images(tmp_path, ["bus/1.png", "train/1.png"])
    assert find(tmp_path, "evaluation").classes == ("bus", "train")
    assert find(tmp_path, "calibration") is None


def test_a_list_of_classes_decides_order_and_names(tmp_path):
    write_images(tmp_path, ["n01/1.png", "n02/1.png"])
    (tmp_path / "classes.txt").write_text("n02\tdog, hound\n\nn09\tnot here\nn01\tcat\n")
    found = find(tmp_path, "evaluation")
    assert found.classes == ("dog, hound", "not here", "cat") and found.labels.tolist() == [2, 0]
    assert found.files()[-1] == tmp_path / "classes.txt"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cat\n", r"folders dog are not among the 1 classes of .*classes\.txt, expected such as cat"),
        ("cat\ndog\ncat\n", "cat is listed 2 times, expected every class once"),
        ("\n", "empty, expected one class name a line"),
    ],
)
def test_a_list_of_classes_that_does_not_fit_is_refused(tmp_path, text, told):
    write_images(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=told):
        find(tmp_path, "evaluation")


def test_a_list_of_classes_in_another_encoding_is_refused(tmp_path):
    write_images(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "classes.txt").write_bytes("kätzchen".encode("utf-16"))
    with pytest.raises(DataError, match=r"classes\.txt: cannot be read as UTF-8 text"):
        find(tmp_path, "evaluation")


def test_an_empty_class_folder_is_named(tmp_path):
    write_images(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "eel").mkdir()
    (tmp_path / "eel/notes.txt").touch()
    with pytest.raises(DataError, match=r"class folder .*eel: no images, found notes\.txt; put its images there"):
        find(tmp_path, "evaluation")


def test_hidden_folders_are_no_classes(tmp_path):
    write_images(tmp_path, ["cat/1.png", "dog/1.png", ".cache/1.png", "cat/.2.png", "__MACOSX/1.png"])
    assert find(tmp_path, "evaluation").count == 2


def test_classes_that_were_not_trained_are_refused(tmp_path):
    write_images(tmp_path, ["val/cat/1.png", "val/images/1.png", "train/cat/1.png", "train/dog/1.png"])
    with pytest.raises(DataError, match=r"folders images have no partner in .*train, expected .*\(cat, dog\)"):
        find(tmp_path, "evaluation")


def test_one_folder_of_images_is_no_set_of_classes(tmp_path):
    write_images(tmp_path, ["images/1.png", "images/2.png"])
    with pytest.raises(DataError, match=r"one class only \(images/\), expected a folder for each of two or more"):
        find(tmp_path, "evaluation")


def test_an_image_that_cannot_be_read_is_named_when_it_is_loaded(tmp_path):
    write_images(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "dog/1.png").write_bytes(b"hello")
    found = find(tmp_path, "evaluation")
    assert found.load(0).shape == (4, 5, 3)
    with pytest.raises(DataError, match=r"dog/1\.png: cannot be read"):
        found.load(1)


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_outside_the_images_is_refused(tmp_path, index):
    write_images(tmp_path, ["cat/1.png", "dog/1.png"])
    with pytest.raises(IndexError, match=f"image {index} of .*: there are 2, counted from 0"):
        find(tmp_path, "evaluation").load(index)


# tables


@pytest.mark.parametrize("heading", ["", "file{0}class\n"])
@pytest.mark.parametrize(("name", "comma"), [("labels.tsv", "\t"), ("labels.csv", ",")])
def test_a_table_gives_each_file_its_class(tmp_path, name, comma, heading):
    write_images(tmp_path, ["b.png", "a.png", "sub/c.png"])
    text = heading.format(comma) + f"b.png{comma}999\na.png{comma} 0\n\nsub/c.png{comma}3\n"
    (tmp_path / name).write_text(text)
    found = find(tmp_path, "evaluation")
    assert found.classes == () and found.labels.tolist() == [999, 0, 3]
    assert [image[0, 0, 0] for image in loaded(found)] == [0, 1, 2]
    assert found.files() == [tmp_path / n for n in ("b.png", "a.png", "sub/c.png", name)]
    assert find(tmp_path, "calibration") is None


def test_a_table_as_spreadsheets_write_it(tmp_path):
    write_images(tmp_path, ["a, b.png"])
    (tmp_path / "labels.csv").write_bytes(b'\xef\xbb\xbfname,class\r\n"a, b.png",3\r\n')
    assert find(tmp_path, "evaluation").labels.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.png\t0\n", r"1 labels for 2 images, b\.png not listed; add or remove them"),
        ("a.png\t0\nb.png\t1\nc.png\t1\n", r"1 of 3 files do not exist \(c\.png\), expected them in "),
        ("a.png\t0\nb.png\n", r"line 2: 1 fields, expected 2 \(file name, class index\)"),
        ("a.png\t0\nb.png\tcat\n", r"line 2: 'cat', expected a class index as 0 or 17"),
        ("a.png\tcat\nb.png\t1\n", r"line 1: 'cat', expected a class index"),
        ("a.png\t1.5\nb.png\t1\n", r"line 1: '1\.5', expected a class index"),
        ("a.png\t0\nb.png\t-1\n", r"class -1 of image 1, expected 0 or more"),
        ("a.png\t0\nb.png\t9\n", r"class 9 of image 1, expected 0 to 1 \(2 classes\)"),
        ("a.png\t0\na.png\t1\n", r"a\.png is listed 2 times, expected once"),
        ("a.png\t0\n../b.png\t1\n", r"\.\./b\.png lies outside"),
        ("", "no images listed, expected a file name and a class index a line"),
        ("file\tindex\n", "no images listed"),
        ('"a.png\t0\n', "line 1: cannot be read"),
    ],
)
def test_a_table_that_does_not_fit_is_told_the_line(tmp_path, text, told):
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "labels.tsv").write_text(text)
    if "9" in text:
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"labels\.tsv.*" + told):
        find(tmp_path, "evaluation")


# all of them


def test_a_folder_of_another_kind_is_told_what_lies_there_and_what_could(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(
        DataError, match=r"no labelled images, found 0\.txt, .*7\.txt \.\.\.; expected one of "
    ) as error:
        find(tmp_path, "evaluation")
    for layout in ("labels.tsv", "_rows.png", "idx3-ubyte", "test_batch.bin", ".npz", "CLASS/*.png"):
        assert layout in str(error.value)


@pytest.mark.parametrize("folder", ["", "a/b/"])
def test_flat_and_too_deep_images_have_no_labels(tmp_path, folder):
    write_images(tmp_path, [f"{folder}cat/x/1.png" if folder else "1.png"])
    with pytest.raises(DataError, match="no labelled images, found "):
        find(tmp_path, "evaluation")


def test_what_does_not_exist_and_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="gone: does not exist; give one of "):
        find(tmp_path / "gone", "evaluation")
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match=r"a\.csv: no labelled images, found a file of another kind; expected one of"):
        find(tmp_path / "a.csv", "evaluation")


def test_data_to_calibrate_on_alone_are_told_so(tmp_path):
    write_images(tmp_path, ["train/cat/1.png", "train/dog/1.png"])
    assert find(tmp_path, "calibration").count == 2
    with pytest.raises(DataError, match=r"nothing to evaluate on, found train/; expected val/CLASS/ or test/CLASS/"):
        find(tmp_path, "evaluation")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train_first6000_rows.png", "calibration"),
        ("Training-images", "calibration"),
        ("t10k-images", "evaluation"),
        ("emnist-letters-test-images", "evaluation"),
        ("validation", "evaluation"),
        ("interval", None),
        ("attest", None),
    ],
)
def test_names_tell_the_part(name, part):
    assert part_of(name) == part


@given(labels=st.lists(st.integers(-2, 5), max_size=6), count=st.integers(0, 6), classes=st.integers(0, 5))
def test_labels_pass_only_if_there_is_one_for_each_image_and_all_are_classes(tmp_path_factory, labels, count, classes):
    fine = len(labels) == count > 0 and min(labels) >= 0 and (not classes or max(labels) < classes)
    path = tmp_path_factory.getbasetemp() / "labels"
    try:
        assert checked_labels(labels, count, "abcde"[:classes], path).tolist() == labels
        assert fine
    except DataError:
        assert not fine


# real data


def test_cifar10_is_rows(shared):
    found = find(shared / "data/cls/cifar10", "evaluation")
    assert (found.count, found.load(0).shape, found.classes[found.labels[0]]) == (2000, (32, 32, 3), "cat")
    assert np.bincount(found.labels, minlength=10).min() > 150
    assert find(shared / "data/cls/cifar10", "calibration").count == 6000


def test_fashion_mnist_is_idx(shared):
    found = find(shared / "data/cls/fashion-mnist", "evaluation")
    assert (found.count, found.load(9999).shape, found.labels[0]) == (10000, (28, 28, 1), 9)
    assert np.bincount(found.labels).tolist() == [1000] * 10
    assert find(shared / "data/cls/fashion-mnist", "calibration").count == 10000


def test_tiny_imagenet_is_folders(shared):
    root = shared / "data/cls/tiny-imagenet-subset"
    found, train = find(root, "evaluation"), find(root, "calibration")
    assert (found.count, train.count, found.classes[0]) == (500, 1500, "Egyptian cat")
    first = int((found.labels == 0).argmax())
    assert found.files()[first].parent.name == "n02124075"
    assert np.array_equal(found.load(first), read_rgb(found.files()[first]))
    assert np.bincount(train.labels).tolist() == [150] * 10


def test_imagenet_samples_are_a_table(shared):
    found = find(shared / "data/cls/imagenet-samples", "evaluation")
    assert (found.count, found.labels[0], found.files()[0].name) == (40, 12, "n01532829_house_finch.JPEG")
