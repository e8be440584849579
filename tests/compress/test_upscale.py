"""Pictures, folders and raw video through files of ours; streams that break off; what is no picture."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress import upscale, y4m
from compress.cli import main
from compress.errors import DataError
from compress.progress import SILENT
from export.artifact import Card
from export.lut import container
from export.lut.network import Network, Stage, Table, plain_taps
from export.lut.numpy_engine import enlarge


class Nearest:
    """Repeats pixels: a network whose output is known."""

    input_size = None

    def run(self, image):
        return image.repeat(2, 0).repeat(2, 1)


NEAREST = upscale.Enlarger(Card("nearest", 2, 3, 0, "float32"), Nearest(), planewise=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tables() -> Network:
    entries = np.random.default_rng(0).integers(-128, 128, (5**2, 4), dtype=np.int8)
    return Network("net", (Stage((Table(plain_taps("1x2"), entries, 6),), 1, scale=2),))


@pytest.fixture(scope="module")
def model(tables, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "net.lut"
    container.write(tables, path, Card("net", 2, 3, tables.halo, "int8"))
    return path


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def clip(colours: str, height: int, width: int, frames: int = 2) -> tuple[bytes, list[y4m.Frame]]:
    video = y4m.Video(width, height, colours, ("F25:1",))
    made = [tuple(noise(*size, seed=9 * f + k) for k, size in enumerate(video.planes)) for f in range(frames)]
    stream = io.BytesIO()
    y4m.write_header(stream, video)
    for frame in made:
        y4m.write_frame(stream, frame)
    return stream.getvalue(), made


@pytest.mark.parametrize("shape", [(1, 1, 3), (9, 1, 3), (17, 23, 3)])
def test_a_picture(tables, model, tmp_path, shape):
    pixels = noise(*shape)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    assert main(["upscale", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--model", str(model)]) == 0
    wanted = np.stack([enlarge(tables, np.ascontiguousarray(pixels[..., c])) for c in range(3)], -1)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), wanted)


def test_a_folder_keeps_the_names(model, photos_folder, tmp_path):
    given = photos_folder()
    assert main(["upscale", str(given), str(tmp_path / "out"), "--model", str(model), "--quiet"]) == 0
    assert {p.stem for p in (tmp_path / "out").iterdir()} == {p.stem for p in given.iterdir()}
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".png"}


@pytest.mark.parametrize("colours", ["420jpeg", "422", "444", "mono"])
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
def test_tables_enlarge_every_plane(tables, model, colours, size):
    given, frames = clip(colours, *size)
    out = io.BytesIO()
    assert upscale.film(upscale.opened(model, 1), io.BytesIO(given), out, SILENT) == 2  # type: ignore[arg-type]
    out.seek(0)
    video = y4m.header_of(out)
    assert (video.height, video.width, video.colours, video.rest) == (2 * size[0], 2 * size[1], colours, ("F25:1",))
    for found, wanted in zip(y4m.frames(out, video), frames, strict=True):
        for plane, whole in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(plane, enlarge(tables, whole)[: plane.shape[0], : plane.shape[1]])


@pytest.mark.parametrize("colours", ["420", "444", "mono"])
def test_networks_see_rgb_and_the_picture_stays(colours):
    size = (6, 8)
    planes = y4m.Video(size[1], size[0], colours, ()).planes
    frame = tuple(np.full(s, value, np.uint8) for s, value in zip(planes, (120, 100, 150), strict=False))
    for plane, before in zip(NEAREST.frame(frame), frame, strict=True):
        assert plane.shape == (2 * before.shape[0], 2 * before.shape[1])
        assert np.abs(plane.astype(int) - int(before[0, 0])).max() <= 1  # RGB in whole levels between


def test_video_through_pipes(model):
    given, _ = clip("420jpeg", 6, 8)
    command = [sys.executable, "-m", "compress", "upscale", "-", "-", "--model", str(model)]
    done = subprocess.run(command, input=given, capture_output=True, check=True)
    assert done.stdout.startswith(b"YUV4MPEG2 W16 H12 F25:1 C420jpeg\nFRAME\n")
    assert len(done.stdout) == len(b"YUV4MPEG2 W16 H12 F25:1 C420jpeg\n") + 2 * (6 + 16 * 12 * 3 // 2)
    assert b"2 frames" in done.stderr


def test_a_video_that_ends_within_a_frame(model, tmp_path, capsys):
    given, _ = clip("420jpeg", 6, 8)
    (tmp_path / "cut.y4m").write_bytes(given[:-10])
    out = tmp_path / "out.y4m"
    assert main(["upscale", str(tmp_path / "cut.y4m"), str(out), "--model", str(model)]) == 2
    assert "frame 1 ends after 62 of 72 bytes; 1 are whole" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["cut.y4m"]
    stream = io.BytesIO()
    with pytest.raises(DataError):
        upscale.film(upscale.opened(model, 1), io.BytesIO(given[:-10]), stream, SILENT)  # type: ignore[arg-type]
    assert stream.getvalue().count(b"FRAME") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with b''"),
        (b"RIFF....", "expected b'YUV4MPEG2'"),
        (b"YUV4MPEG2 W8 H6 C420p10\n", "samples 420p10, expected 8-bit"),
        (b"YUV4MPEG2 W8 C420\n", "height none"),
        (b"YUV4MPEG2 W0 H6\n", "width 0"),
        (b"YUV4MPEG2 W8 H6 C420\nFRAM", "expected b'FRAME'"),
    ],
)
def test_what_is_no_video_is_named(model, tmp_path, capsys, content, message):
    (tmp_path / "in.y4m").write_bytes(content)
    assert main(["upscale", str(tmp_path / "in.y4m"), str(tmp_path / "out.y4m"), "--model", str(model)]) == 2
    assert message in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["in.y4m"]


def test_what_cannot_be_enlarged_is_named(model, tmp_path, capsys):
    Image.fromarray(noise(4, 4).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(noise(4, 4, 4), "RGBA").save(tmp_path / "alpha.png")
    (tmp_path / "empty").mkdir()

    def said(given: str, out: str, file: Path = model) -> str:
        assert main(["upscale", str(tmp_path / given), str(tmp_path / out), "--model", str(file)]) == 2
        return capsys.readouterr().err

    assert "expected 8 bits a channel" in said("deep.png", "out.png")
    assert "no such file or folder" in said("none.png", "out.png")
    assert "no images" in said("empty", "out")
    assert "written as PNG" in said("alpha.png", "out.jpg")
    assert "video goes to" in said("alpha.png", "out.y4m")
    assert "no such file" in said("alpha.png", "out.png", tmp_path / "none.lut")
    assert not (tmp_path / "out.png").exists()
    assert main(["upscale", str(tmp_path / "alpha.png"), str(tmp_path / "out.png"), "--model", str(model)]) == 0
