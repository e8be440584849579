"""The photographs that ship with the package."""

import hashlib
from pathlib import Path

import pytest

from compress.data.builtin import calibration_images, evaluation_images
from compress.data.images import read_rgb

ALL = [*calibration_images(), *evaluation_images()]
FOLDER = Path(ALL[0]).parent.parent


def test_there_are_pictures_for_both_uses() -> None:
    assert len(calibration_images()) >= 5
    assert len(evaluation_images()) >= 3


def test_no_picture_serves_both_uses() -> None:
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in ALL]
    assert len(set(digests)) == len(ALL)
    assert not {p.name for p in calibration_images()} & {p.name for p in evaluation_images()}


def test_they_stay_small() -> None:
    assert sum(p.stat().st_size for p in ALL) < 3 * 2**20


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_each_opens_is_large_enough_and_has_its_source_stated(path: Path) -> None:
    assert min(read_rgb(path).shape[:2]) >= 256
    assert f"{path.parent.name}/{path.name}" in (FOLDER / "SOURCES.md").read_text()
