"""Cards survive the text, and a damaged file is noticed."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from export.artifact import Artifact, Card, digest
from export.errors import ExportError

CARD = Card("span", 4, 3, 21, "int8")


@pytest.mark.parametrize("card", [CARD, replace(CARD, halo=None), replace(CARD, model='ä "quoted" name')])
def test_a_card_survives_its_text(card: Card) -> None:
    assert Card.from_json(card.to_json(), Path("x.onnx")) == card
    assert "\n" not in card.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "3",
        '"edgepress"',
        "null",
        "{}",
        json.dumps({"edgepress": 2, "model": "span", "scale": 4, "channels": 3, "halo": 21, "dtype": "int8"}),
        json.dumps({"edgepress": 1, "model": "span"}),
        json.dumps({"edgepress": 1, **vars(CARD), "colour": "red"}),
        json.dumps({"edgepress": 1, **vars(CARD), "scale": "4"}),
        json.dumps({"edgepress": 1, **vars(CARD), "unit": 0}),
        json.dumps({"edgepress": 1, **vars(CARD), "halo": -1}),
        json.dumps({"edgepress": 1, **vars(CARD), "classes": True}),
        "[" * 99999,
    ],
)
def test_a_damaged_card_names_the_file_and_the_cure(text: str) -> None:
    with pytest.raises(ExportError, match=r"dir/x\.onnx: its edgepress card cannot be read .* export the file again"):
        Card.from_json(text, Path("dir/x.onnx"))


ODD = [None, True, "", "x", 1.5, -1, 0, 1, 2**64, int("9" * 4000), [], {}, "\ud800", "super-resolution", "nchw"]


@pytest.mark.parametrize("field", [*vars(CARD), "edgepress"])
def test_a_card_of_odd_values_is_refused_or_holds_the_types_it_says(field: str) -> None:
    for value in ODD:
        text = json.dumps({"edgepress": 1, **vars(CARD), field: value})
        try:
            card = Card.from_json(text, Path("x.onnx"))
        except ExportError:
            continue
        assert all(type(getattr(card, name)) is int for name in ("scale", "channels", "unit"))
        assert type(card.model) is type(card.dtype) is type(card.task) is str and type(card.crop_share) is float
        assert Card.from_json(card.to_json(), Path("x.onnx")) == card


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    (tmp_path / "artifacts").mkdir()
    for name, content in (("net.xml", b"<net/>"), ("net.bin", b"\x00\x01")):
        (tmp_path / "artifacts" / name).write_bytes(content)
    hashes = tuple(digest(tmp_path / "artifacts" / name) for name in ("net.xml", "net.bin"))
    return Artifact("artifacts", ("net.xml", "net.bin"), "openvino", "int8", hashes, 8, {"Convolution": 1})


def test_a_digest_is_sha256(artifact: Artifact) -> None:
    assert artifact.sha256[0] == hashlib.sha256(b"<net/>").hexdigest()


def test_the_name_is_format_and_dtype_and_the_path_is_the_main_file(artifact: Artifact, tmp_path: Path) -> None:
    assert artifact.name == "openvino-int8"
    assert artifact.path(tmp_path) == tmp_path / "artifacts" / "net.xml"


def test_an_artifact_is_intact_until_one_of_its_files_changes_or_goes(artifact: Artifact, tmp_path: Path) -> None:
    second = tmp_path / "artifacts" / "net.bin"
    assert artifact.intact(tmp_path)
    second.write_bytes(b"\x00\x02")
    assert not artifact.intact(tmp_path)
    second.write_bytes(b"\x00\x01")
    assert artifact.intact(tmp_path)
    second.unlink()
    assert not artifact.intact(tmp_path)
