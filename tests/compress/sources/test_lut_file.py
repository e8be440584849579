"""A .lut file as the model: its tables in torch, one file of them in each format, and no quantization."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.errors import CompressError, UsageError, WeightsError
from compress.methods.quantize import Quantize
from compress.methods.reparameterize import Reparameterize
from compress.network import RESTORATION, SUPER_RESOLUTION, Network
from compress.options import Options
from compress.pipeline import reach_of, specs_of
from compress.registry import METHODS, TASKS
from compress.task import Data
from export import formats
from export.artifact import Card
from export.lut import container, numpy_engine
from export.lut.network import Network as Tables
from export.lut.network import Stage, Table, plain_taps
from export.lut.torch_module import Lookup
from export.receptive_field import Reach

Resolve = Callable[..., Network]


def tables(scale: int = 2) -> Tables:
    entries = np.random.default_rng(0).integers(-128, 128, (5**2, scale**2), dtype=np.int8)
    return Tables("inner", (Stage((Table(plain_taps("1x2"), entries, 6),), 1, scale=scale),))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """``saved(scale=2, channels=3)``: a .lut file."""

    def save(scale: int = 2, channels: int = 3) -> Path:
        path = tmp_path / f"tables_{scale}_{channels}.lut"
        container.write(tables(scale), path, Card("inner", scale, channels, 1, "int8"))
        return path

    return save


def test_it_is_the_tables_in_torch(resolve: Resolve, saved: Callable[..., Path]) -> None:
    path = saved()
    network = resolve(path)
    assert (network.name, network.scale, network.channels, network.task) == ("tables_2_3", 2, 3, SUPER_RESOLUTION)
    assert (network.weights.path, len(network.weights.sha256)) == (path, 64)
    assert isinstance(network.module, Lookup) and network.tables is network.module.tables
    assert network.size == 25 * 4 and network.policy is None and not network.module.training
    pixels = np.random.default_rng(1).integers(0, 256, (5, 6), dtype=np.uint8)
    with torch.inference_mode():
        found = network.module(torch.from_numpy(pixels.astype(np.float32) / np.float32(255))[None, None])
    np.testing.assert_array_equal(np.rint(found[0, 0].numpy() * 255), numpy_engine.enlarge(tables(), pixels))


def test_channels_are_the_cards_and_the_task_is_the_scales(resolve: Resolve, saved: Callable[..., Path]) -> None:
    network = resolve(saved(1, 1))
    assert (network.channels, network.task) == (1, RESTORATION)


def test_flags_that_make_no_sense(resolve: Resolve, saved: Callable[..., Path]) -> None:
    for given in ({"random": True}, {"weights": Path("w.pth")}, {"arguments": {"a": "1"}}):
        with pytest.raises(UsageError, match="holds its tables: drop --weights, --random and --model-arg"):
            resolve(saved(), **given)
    with pytest.raises(UsageError, match="enlarges by 2, --scale says 3; drop --scale"):
        resolve(saved(), scale=3)


def test_a_damaged_file_is_named(resolve: Resolve, saved: Callable[..., Path], tmp_path: Path) -> None:
    path = saved()
    path.write_bytes(path.read_bytes()[:-3])
    for bad in (path, tmp_path / "none.lut"):
        with pytest.raises(WeightsError, match=rf"model .*{bad.name}: "):
            resolve(bad)


def test_the_receptive_field_is_known_and_one_file_is_written(resolve: Resolve, saved: Callable[..., Path]) -> None:
    network = resolve(saved())
    reach = reach_of(network)
    assert reach == Reach(1, 1)
    task = TASKS[network.task](network, Data())
    for given in (network, Reparameterize()(network, task)):
        (spec,) = specs_of(given, task, reach, (24, 32), Options("m", "t"))
        assert (spec.card.dtype, spec.card.halo, spec.policy) == ("int8", 1, None) and spec.tables is network.tables


def test_tables_are_not_quantized(resolve: Resolve, saved: Callable[..., Path]) -> None:
    network = resolve(saved())
    task = TASKS[network.task](network, Data())
    message = "tables_2_3 consists of look-up tables, which are integers already: nothing is left to quantize; --recipe"
    with pytest.raises(UsageError, match=message):
        Quantize()(network, task)
    assert Reparameterize()(network, task) is network
    assert METHODS["reparameterize"] is Reparameterize


def test_a_file_that_differs_at_all_stops_the_run(
    resolve: Resolve, saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.measure import Measurer
    from compress.progress import Reporter
    from compress.run_folder import RunFolder
    from export.artifact import Artifact

    network = resolve(saved())
    task = TASKS[network.task](network, Data())
    artifact = Artifact("", (saved().name,), "lut", "int8", ("0" * 64,), 1000, {})
    same = formats.open_file(tmp_path / artifact.files[0], 1)

    class Off:
        input_size = None

        def run(self, image: np.ndarray) -> np.ndarray:
            out = same.run(image)
            out[0, 0, 0] += np.float32(1 / 255) if out[0, 0, 0] < 0.5 else -np.float32(1 / 255)
            return out

    for number, (session, right) in enumerate(((same, True), (Off(), False))):
        monkeypatch.setattr(formats, "open_file", lambda path, threads, session=session: session)
        with RunFolder(tmp_path / f"run-{number}", False) as folder:
            measurer = Measurer(task, network, Reach(1, 1), 1, folder, Reporter(quiet=True))
            if right:
                assert measurer.parity(artifact, network).max_abs == 0
            else:
                with pytest.raises(CompressError, match=r"differs from the network by 0\.0039 .* expected none"):
                    measurer.parity(artifact, network)
    assert replace(network, name="other").tables is network.tables
