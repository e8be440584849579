"""What every format owes: write, sign, open, run at any size, in pieces or whole, with the network's numbers."""

import functools
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from compress.models.span import Span
from export import formats
from export.artifact import Artifact, Card, ExportSpec, Image, Session
from export.errors import ExportError
from export.parity import compare
from export.policy import QuantPolicy
from export.receptive_field import radius
from export.tiling import enlarge
from export.torch_session import TorchSession

CHANNELS, SCALE, THREADS = 32, 2, 2
SIZES = [(17, 23), (64, 64), (40, 97)]
INT8_DB = 35.0
"""Against the float network.  Measured on the sizes above, all formats: 40.1 to 44.0 dB."""

every_format = pytest.mark.parametrize("name", formats.names())
every_file = pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name in formats.names() for dtype in ("float32", "int8")]
)


@dataclass(frozen=True)
class Written:
    """A file, and what it was made from."""

    spec: ExportSpec
    folder: Path
    artifact: Artifact

    @property
    def path(self) -> Path:
        return self.artifact.path(self.folder)

    def open(self) -> Session:
        return formats.open_file(self.path, THREADS)


@pytest.fixture(scope="session")
def picture(photo: Callable[..., NDArray[np.uint8]]) -> Callable[..., Image]:
    return lambda height, width, seed=0: photo(height, width, seed).astype(np.float32) / np.float32(255)


def tiny_span() -> nn.Module:
    """Interpolates, plus what its random features add: enough for int8 to cost what it costs a trained network."""
    torch.manual_seed(0)
    network = Span(CHANNELS, SCALE).eval()
    network.start_from_interpolation()
    with torch.no_grad():
        network.conv_1.weight[3:] *= 3.0
    return network


@pytest.fixture(scope="session")
def network() -> nn.Module:
    return tiny_span()


@pytest.fixture(scope="session")
def written(
    network: nn.Module, picture: Callable[..., Image], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Written]:
    """``written(format, dtype)``: SPAN's file, written at the first request."""
    halo = radius(network, 3, SCALE)
    calibration = [picture(32, 32, seed) for seed in range(8)]

    @functools.cache
    def write(name: str, dtype: str) -> Written:
        folder = tmp_path_factory.mktemp(f"{name}-{dtype}")
        spec = ExportSpec(network, Card("span", SCALE, 3, halo, dtype), (24, 28))
        if dtype == "int8":
            spec = replace(spec, policy=QuantPolicy(), calibration=calibration)
        return Written(spec, folder, formats.write(name, spec, folder, "span"))

    return write


@pytest.fixture(scope="session")
def small_spec(picture: Callable[..., Image]) -> Callable[..., ExportSpec]:
    """``small_spec(dtype, granularity="channel")``: one convolution whose last output has tiny weights."""
    layer = nn.Conv2d(3, 3, 3, padding=1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[[0, 1], [0, 1], 1, 1] = 1.0
        layer.weight[2] = 0.0035  # below half a step, 1/254, of a scale shared with the 1.0 above
        layer.bias.zero_()

    def make(dtype: str, granularity: str = "channel") -> ExportSpec:
        spec = ExportSpec(layer.eval(), Card("conv", 1, 3, 1, dtype), (32, 32))
        calibration = [picture(32, 32, seed) for seed in range(4)]
        return replace(spec, policy=QuantPolicy(granularity), calibration=calibration) if dtype == "int8" else spec

    return make


@pytest.fixture(scope="session")
def small(
    small_spec: Callable[..., ExportSpec], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Written]:
    """``small(format, dtype)``: that convolution's file."""

    @functools.cache
    def write(name: str, dtype: str) -> Written:
        folder, spec = tmp_path_factory.mktemp(f"small-{name}-{dtype}"), small_spec(dtype)
        return Written(spec, folder, formats.write(name, spec, folder, "net"))

    return write


@every_file
def test_the_card_comes_back(written: Callable[[str, str], Written], name: str, dtype: str) -> None:
    file = written(name, dtype)
    assert formats.of_file(file.path) == name
    assert formats.read_card(file.path) == file.spec.card


@every_file
def test_the_artifact_tells_what_is_on_disk(written: Callable[[str, str], Written], name: str, dtype: str) -> None:
    file = written(name, dtype)
    paths = [file.folder / part for part in file.artifact.files]
    assert (file.artifact.format, file.artifact.dtype) == (name, dtype)
    assert file.artifact.file_bytes == sum(path.stat().st_size for path in paths)
    assert file.artifact.sha256 == tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    assert file.artifact.operators
    assert all(count > 0 for count in file.artifact.operators.values())


@every_file
def test_only_finished_files_and_the_log_remain(written: Callable[[str, str], Written], name: str, dtype: str) -> None:
    file = written(name, dtype)
    assert sorted(p.name for p in file.folder.iterdir()) == sorted([*file.artifact.files, "conversion.log"])


@every_file
def test_a_changed_byte_is_noticed(
    written: Callable[[str, str], Written], name: str, dtype: str, tmp_path: Path
) -> None:
    file = written(name, dtype)
    for part in file.artifact.files:
        shutil.copy(file.folder / part, tmp_path)
    assert file.artifact.intact(tmp_path)
    for part in file.artifact.files:
        content = bytearray((tmp_path / part).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / part).write_bytes(content)
        assert not file.artifact.intact(tmp_path)
        shutil.copy(file.folder / part, tmp_path)
    (tmp_path / file.artifact.files[-1]).unlink()
    assert not file.artifact.intact(tmp_path)


@every_file
def test_the_shuffle_is_one_operator(written: Callable[[str, str], Written], name: str, dtype: str) -> None:
    counts = {kind.replace("_", "").lower(): n for kind, n in written(name, dtype).artifact.operators.items()}
    assert counts["depthtospace"] == 1
    assert "transpose" not in counts


@every_file
@pytest.mark.parametrize("size", SIZES)
def test_a_file_gives_the_networks_numbers_at_any_size(
    written: Callable[[str, str], Written], picture: Callable[..., Image], name: str, dtype: str, size: tuple[int, int]
) -> None:
    file, image = written(name, dtype), picture(*size, seed=100)
    session = file.open()
    assert session.input_size is None
    output = session.run(image)
    assert (output.dtype, output.shape) == (np.float32, (SCALE * size[0], SCALE * size[1], 3))
    parity = compare(output, TorchSession(file.spec.module).run(image))
    assert parity.as_float if dtype == "float32" else parity.psnr_db > INT8_DB, parity


@every_file
def test_a_session_remembers_nothing(
    written: Callable[[str, str], Written], picture: Callable[..., Image], name: str, dtype: str
) -> None:
    session, image = written(name, dtype).open(), picture(17, 23)
    first = session.run(image)
    kept = first.copy()
    for size in SIZES:
        session.run(picture(*size, seed=1))
    assert np.array_equal(session.run(image), kept)
    assert np.array_equal(first, kept)  # the output is the caller's, not a view into the runtime


@every_file
def test_a_prepared_call_runs(
    written: Callable[[str, str], Written], picture: Callable[..., Image], name: str, dtype: str
) -> None:
    session, image = written(name, dtype).open(), picture(17, 23)
    call = session.prepare(image)
    call()
    call()
    assert session.run(image).shape == (34, 46, 3)


@every_file
@pytest.mark.parametrize("tile", [(56, 60), (47, 131)])
def test_tiled_is_whole_to_the_last_bit(
    written: Callable[[str, str], Written], picture: Callable[..., Image], name: str, dtype: str, tile: tuple[int, int]
) -> None:
    file, image = written(name, dtype), picture(97, 131)
    session = file.open()
    assert file.spec.card.halo == 21
    whole = session.run(image)
    assert np.array_equal(enlarge(session, image, SCALE, file.spec.card.halo, tile), whole)
    # one less than the radius shows, which also proves that the line above can fail
    assert not np.array_equal(enlarge(session, image, SCALE, file.spec.card.halo - 1, tile), whole)


@every_format
def test_int8_is_smaller_than_float32(written: Callable[[str, str], Written], name: str) -> None:
    assert written(name, "int8").artifact.file_bytes < written(name, "float32").artifact.file_bytes


@every_format
def test_a_scale_for_each_channel_keeps_a_channel_of_small_weights(
    small: Callable[[str, str], Written],
    small_spec: Callable[..., ExportSpec],
    picture: Callable[..., Image],
    name: str,
    tmp_path: Path,
) -> None:
    image, file = picture(32, 32), small(name, "int8")
    coarse = formats.write(name, small_spec("int8", "tensor"), tmp_path, "coarse").path(tmp_path)
    expected = TorchSession(file.spec.module).run(image)
    fine, rough = (
        float(np.abs(session.run(image) - expected)[..., 2].max())
        for session in (file.open(), formats.open_file(coarse, THREADS))
    )
    assert fine < 0.008  # two steps of values in [0, 1]: one of the input, one of the output
    assert rough > 0.02  # the weights round to nothing, and so does what they give, 0.09 where the input is bright


@every_file
def test_two_writes_give_the_same_bytes_whatever_the_order_of_calibration_images(
    small: Callable[[str, str], Written], name: str, dtype: str, tmp_path: Path
) -> None:
    file = small(name, dtype)
    spec = replace(file.spec, calibration=file.spec.calibration[::-1])
    assert formats.write(name, spec, tmp_path, "net") == file.artifact
    assert file.artifact.intact(tmp_path)


_IN_ANOTHER_PROCESS = """
import importlib.util, sys
from pathlib import Path
import numpy as np
from export import formats
from export.artifact import Card, ExportSpec
from export.policy import QuantPolicy
spec = importlib.util.spec_from_file_location("test_formats", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["test_formats"] = module
spec.loader.exec_module(module)
name, dtype, folder, crops = sys.argv[2], sys.argv[3], Path(sys.argv[4]), list(np.load(sys.argv[5]))
policy = QuantPolicy() if dtype == "int8" else None
card = Card("span", module.SCALE, 3, 21, dtype)
formats.write(name, ExportSpec(module.tiny_span(), card, (24, 28), policy, crops if policy else ()), folder, "span")
"""


@pytest.mark.slow
@every_file
def test_another_process_writes_the_same_bytes(
    written: Callable[[str, str], Written], repository: Path, name: str, dtype: str, tmp_path: Path
) -> None:
    file, crops = written(name, dtype), tmp_path / "crops.npy"
    np.save(crops, np.array(file.spec.calibration))
    command = [sys.executable, "-W", "ignore", "-c", _IN_ANOTHER_PROCESS, __file__, name, dtype, tmp_path, crops]
    subprocess.run(list(map(str, command)), cwd=repository, check=True, capture_output=True)
    assert file.artifact.intact(tmp_path)


@every_format
def test_int8_without_calibration_says_what_to_do_and_leaves_only_the_log(
    small_spec: Callable[..., ExportSpec], name: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="no calibration images; give --calibration DIR with at least one image"):
        formats.write(name, replace(small_spec("int8"), calibration=()), tmp_path, "net")
    assert [p.name for p in tmp_path.iterdir()] == ["conversion.log"]


@every_format
def test_a_network_that_the_converter_refuses_is_named(name: str, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError("no such luck")

    spec = ExportSpec(Broken(), Card("brokennet", 1, 3, 0, "float32"), (32, 32))
    with pytest.raises(ExportError, match=rf"^{name} float32: the converter failed on brokennet: .*conversion\.log$"):
        formats.write(name, spec, tmp_path, "net")
    assert [p.name for p in tmp_path.iterdir()] == ["conversion.log"]


@pytest.mark.parametrize("stem", ["a.b", "float32", "net[1]"])
def test_a_file_may_have_any_name(small_spec: Callable[..., ExportSpec], stem: str, tmp_path: Path) -> None:
    artifact = formats.write("onnx", small_spec("int8"), tmp_path, stem)
    assert artifact.files == (f"{stem}.onnx",)
    assert artifact.intact(tmp_path)
