"""A file is there whole, or as it was before."""

from pathlib import Path

import pytest

from export.files import atomic_path, atomic_write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("content", "expected"), [("grün\n", "grün\n".encode()), (b"\x00\xff", b"\x00\xff")])
def test_text_and_bytes_arrive_and_nothing_else_remains(tmp_path: Path, content: str | bytes, expected: bytes) -> None:
    atomic_write(tmp_path / "run.json", content)
    assert (tmp_path / "run.json").read_bytes() == expected
    assert names(tmp_path) == ["run.json"]


def test_new_content_replaces_the_old(tmp_path: Path) -> None:
    atomic_write(tmp_path / "run.json", "a longer old text")
    atomic_write(tmp_path / "run.json", "new")
    assert (tmp_path / "run.json").read_text() == "new"


def test_until_the_block_ends_a_reader_sees_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_text("old")
    with atomic_path(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_the_temporary_name_keeps_the_suffix_and_the_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "net.onnx") as part:
        assert (part.suffix, part.parent) == (".onnx", tmp_path)
        part.touch()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "net.onnx") as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_failure_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert names(tmp_path) == ["net.onnx"]


def test_a_block_that_writes_nothing_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(target):
        pass
    assert target.read_text() == "old"
