"""Image files of every kind that people have, and what broken ones are told."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from compress.data.images import list_images, read_rgb
from compress.errors import DataError


def write_png(path, depth, colour_type, channels, size=(4, 5)):
    """A PNG by hand, because Pillow writes no 16-bit colour."""
    height, width = size
    row = b"\0" + bytes(range(width * channels * depth // 8))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.fixture
def picture(photo, tmp_path):
    """An 8-bit RGB PNG and its pixels."""
    pixels = photo(20, 30)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


def test_a_png_comes_back_as_it_is(picture):
    path, pixels = picture
    found = read_rgb(path)
    assert found.dtype == np.uint8 and np.array_equal(found, pixels)


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png").tolist() == [[[1, 2, 3]]]


def test_grey_is_repeated(tmp_path, photo):
    grey = np.ascontiguousarray(photo(8, 9)[..., 0])
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(read_rgb(tmp_path / "a.png"), np.stack([grey] * 3, 2))


def test_black_and_white_is_0_and_255(tmp_path):
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png").tolist() == [[[0] * 3, [255] * 3]]


def test_alpha_is_dropped_without_blending(tmp_path, photo):
    rgba = np.dstack([photo(8, 9), np.full((8, 9), 7, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert np.array_equal(read_rgb(tmp_path / "a.png"), rgba[..., :3])


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])], ids=["opaque", "one", "many"])
def test_a_palette_is_looked_up_and_its_transparency_dropped(tmp_path, transparency):
    """Pillow warns of some of these; a user's images must not (warnings are errors here)."""
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)
    assert read_rgb(tmp_path / "a.png").tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".ppm", ".webp"])
def test_other_lossless_formats_are_read(tmp_path, photo, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(photo(8, 9)).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    assert np.array_equal(read_rgb(path), photo(8, 9))


@pytest.mark.parametrize(
    ("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["grey", "rgb", "grey-alpha", "rgba"]
)
def test_16_bits_a_channel_are_refused_with_the_cure(tmp_path, colour_type, channels):
    write_png(tmp_path / "deep.png", 16, colour_type, channels)
    with pytest.raises(DataError, match=r"deep\.png.*expected 8 bits a channel.*convert it to an 8-bit PNG"):
        read_rgb(tmp_path / "deep.png")


def test_the_same_png_by_hand_with_8_bits_is_read(tmp_path):
    write_png(tmp_path / "a.png", 8, 2, 3)
    assert read_rgb(tmp_path / "a.png")[0].tolist() == np.arange(15).reshape(5, 3).tolist()


def test_float_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="mode F, expected 8 bits"):
        read_rgb(tmp_path / "a.tif")


def test_a_truncated_png_is_refused_wherever_it_was_cut(picture, tmp_path):
    """Pillow reads pixels that are complete although the file's last chunks are lost; that is right, too."""
    path, pixels = picture
    whole = path.read_bytes()
    cut = tmp_path / "cut.png"
    for length in range(0, len(whole) - 1, 7):
        cut.write_bytes(whole[:length])
        try:
            assert np.array_equal(read_rgb(cut), pixels), length
            assert length > len(whole) - 24
        except DataError as error:
            assert "cut.png: cannot be read" in str(error) and "replace or remove the file" in str(error)


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>404</html>"], ids=["empty", "text", "html"])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: cannot be read.*replace or remove"):
        read_rgb(tmp_path / "a.png")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        read_rgb(tmp_path / "gone.png")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_rgb(tmp_path)


def test_a_decompression_bomb_is_refused(picture, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="cannot be read"):
        read_rgb(picture[0])


def test_list_images_takes_images_by_name_and_leaves_the_rest(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.txt", ".hidden.png", "d.jpeg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["a.jpg", "b.PNG", "d.jpeg"]
