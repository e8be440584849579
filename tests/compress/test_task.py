"""What all tasks share: scores, and that no picture is used twice."""

import pytest

from compress.errors import DataError
from compress.task import ItemScore, Scores, refuse_shared


def test_scores_are_means_and_name_the_worst():
    found = Scores("p", "dB", (ItemScore("a", 30.0, 0.8), ItemScore("b", 20.0), ItemScore("c", 40.0, 0.9)))
    assert found.mean == 30.0 and found.ssim == pytest.approx(0.85) and found.worst.name == "b"
    assert Scores("p", "dB", (ItemScore("a", 30.0),)).ssim is None


def test_the_mean_is_over_images_not_over_classes():
    found = Scores("p", "%", (ItemScore("cat", 100.0, count=9), ItemScore("dog", 50.0, count=1)))
    assert found.mean == pytest.approx(95.0)
    assert found.worst.name == "dog"


def test_the_same_picture_on_both_sides_is_refused_with_the_reason(photos_folder):
    root = photos_folder("data")
    files = sorted(root.iterdir())
    with pytest.raises(DataError, match=r"3 images are both in --data and in --calibration, e\.g\. .*0\.png; keep"):
        refuse_shared(files, files)


def test_an_overlap_is_found_by_content_under_any_name(photos_folder, tmp_path):
    files = sorted(photos_folder("data").iterdir())
    (tmp_path / "copy.jpg").write_bytes(files[1].read_bytes())
    with pytest.raises(DataError, match=r"1 images are both .*1\.png"):
        refuse_shared(files, [tmp_path / "copy.jpg"])


def refused(evaluation, calibration):
    try:
        refuse_shared(evaluation, calibration)
    except DataError:
        return True
    return False


def test_other_pictures_of_equal_length_pass(tmp_path):
    for name, content in (("a", b"1234"), ("b", b"4321"), ("c", b"123")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (tmp_path / name for name in "abc")
    assert refused([a], [c, a])
    assert not refused([a], [b, c])
    assert not refused([], [a])
