"""The measurements of a run, on networks that are small enough to be known."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import CompressError
from compress.measure import MERGE_TOLERANCE, Measurer, through
from compress.methods.reparameterize import Reparameterize
from compress.network import CLASSIFICATION, RESTORATION, Network, WeightsSource
from compress.progress import Reporter
from compress.run_folder import RunFolder
from compress.task import ItemScore, Scores
from export import formats, timing
from export.artifact import Artifact
from export.receptive_field import Reach
from export.timing import Host, Latency
from export.torch_session import TorchSession

EXACT = Reach(1, 1)
SHAPES = []


class Branches(nn.Module):
    """Two branches that are one convolution; ``error`` is added to what the merged one computes."""

    def __init__(self, error=0.0):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.error = error

    def forward(self, x):
        return self.first(x) + self.second(x)

    def merge(self):
        conv = nn.Conv2d(3, 3, 3, padding=1)
        with torch.no_grad():
            conv.weight.copy_(self.first.weight)
            conv.weight[:, :, 1:2, 1:2] += self.second.weight
            conv.bias.copy_(self.first.bias + self.second.bias + self.error)
        return conv


class Recorded(nn.Module):
    """Passes images on, and notes their sizes."""

    def forward(self, x):
        SHAPES.append(tuple(x.shape[2:]))
        return x


class Averaging(nn.Module):
    """Every pixel sees the whole image."""

    def forward(self, x):
        return x - 0.5 * x.mean((2, 3), keepdim=True)


@dataclass
class Given:
    """A task that judges nothing: its sample is given, its scores count the calls."""

    image: np.ndarray
    calls: list = field(default_factory=list)
    floor_name: str = "input"
    size: int = 1

    def sample(self):
        return self.image

    def judge(self, run, progress):
        self.calls.append("judge")
        progress(1)
        return Scores("p", "dB", (ItemScore("a", float(run(self.image).mean())),))

    def floor(self, progress):
        self.calls.append("floor")
        progress(1)
        return Scores("p", "dB", (ItemScore("a", 20.0),))


def network_of(module, **changes):
    source = WeightsSource(None, "0" * 64, builtin=False)
    return replace(Network("net", module.eval(), 1, 3, source, task=RESTORATION), **changes)


@pytest.fixture
def picture(photo):
    """A made-up image in [0, 1]."""
    return lambda height, width: photo(height, width).astype(np.float32) / np.float32(255)


@pytest.fixture
def make(tmp_path, picture):
    """``make(network, reach)``: a measurer in a fresh folder, on an image of 90x150."""
    with RunFolder(tmp_path / "run", resume=False) as folder:

        def measurer(network, reach=EXACT, image=None):
            task = Given(picture(90, 150) if image is None else image)
            return Measurer(task, network, reach, 1, folder, Reporter(quiet=True))

        yield measurer


def test_images_run_in_tiles_and_inputs_of_classifiers_whole(picture):
    SHAPES.clear()
    image = picture(70, 50)
    fixed = network_of(Recorded(), input_size=(32, 40))
    output = through(TorchSession(fixed.module), fixed, Reach(4, 1))(image)
    assert np.array_equal(output, image) and set(SHAPES) == {(32, 40)}, "a network of one size is never given another"
    SHAPES.clear()
    through(TorchSession(fixed.module), replace(fixed, input_size=None), Reach(4, 1))(image)
    assert set(SHAPES) == {(70, 50)}
    SHAPES.clear()
    classifier = replace(fixed, classes=5, task=CLASSIFICATION, input_size=(70, 50))
    through(TorchSession(classifier.module), classifier, Reach(None, 1))(image)
    assert SHAPES == [(70, 50)]


def test_tiles_start_on_the_networks_grid(picture):
    SHAPES.clear()
    network = network_of(Recorded(), unit=8)
    output = through(TorchSession(network.module), network, Reach(4, 8))(picture(70, 50))
    assert output.shape == (70, 50, 3) and SHAPES == [(72, 56)]


def test_scores_are_measured_once_and_kept(make):
    measurer = make(network_of(Recorded()))
    session = TorchSession(measurer.network.module)
    first = [measurer.floor(), measurer.scores("torch-float32", lambda: session)]
    again = [measurer.floor(), measurer.scores("torch-float32", lambda: session)]
    assert first == again and measurer.task.calls == ["floor", "judge"]
    kept = {p.name for p in (measurer.folder.root / "steps").iterdir()}
    assert kept == {"scores-input.json", "scores-torch-float32.json"}


@pytest.mark.parametrize("size", [(90, 150), (6, 4), (400, 500)])
def test_a_right_merge_is_counted_and_is_rounding(make, picture, size):
    torch.manual_seed(0)
    network = network_of(nn.Sequential(Branches(), nn.ReLU(), Branches()))
    measurer = make(network, image=picture(*size))
    merge = measurer.merge(Reparameterize()(network, measurer.task))
    assert merge.blocks == 2 and 0 < merge.max_abs < MERGE_TOLERANCE


def test_a_wrong_merge_stops_the_run(make):
    torch.manual_seed(0)
    network = network_of(nn.Sequential(Branches(error=1e-3)))
    measurer = make(network)
    with pytest.raises(
        CompressError, match=r"merging 1 blocks of net changed its output by .* at most 1e-05; its merge"
    ):
        measurer.merge(Reparameterize()(network, measurer.task))


def test_where_nothing_was_merged_there_is_nothing_to_say(make):
    network = network_of(nn.Conv2d(3, 3, 3, padding=1))
    measurer = make(network)
    assert measurer.merge(Reparameterize()(network, measurer.task)) is None
    branches = network_of(nn.Sequential(Branches()))
    assert make(branches).merge(branches) is None, "the recipe of a float file may leave the blocks as they are"


def test_tiles_of_a_network_that_looks_at_the_whole_image_cost_something(make):
    seam = make(network_of(Averaging()), Reach(None, 1)).seam()
    assert (seam.height, seam.width, seam.tile) == (90, 150, (64, 75))
    assert 20 < seam.psnr_db < 100 and seam.max_abs > 1e-4


def test_tiles_keep_to_the_unit(make):
    seam = make(network_of(Averaging(), unit=16), Reach(None, 16)).seam()
    assert (seam.height, seam.width, seam.tile) == (80, 144, (64, 80))


@pytest.mark.parametrize(
    ("reach", "changes"),
    [
        (Reach(3, 1), {}),
        (Reach(None, 1), {"classes": 10, "task": CLASSIFICATION, "input_size": (90, 150)}),
        (Reach(None, 1), {"input_size": (32, 32)}),
    ],
    ids=["exact", "classifier", "one-size"],
)
def test_other_networks_have_no_seam(make, reach, changes):
    assert make(network_of(Averaging(), **changes), reach).seam() is None


class Shifted:
    """A session whose outputs are off by a little."""

    def __init__(self, module, by, input_size=None):
        self.inner, self.by, self.input_size = TorchSession(module), by, input_size

    def run(self, image):
        SHAPES.append(image.shape[:2])
        return self.inner.run(image) + np.float32(self.by)


@pytest.fixture
def opened(monkeypatch):
    """``opened(session)``: every file opens as that session."""
    return lambda session: monkeypatch.setattr(formats, "open_file", lambda path, threads: session)


def artifact(dtype):
    return Artifact("artifacts", (f"net_{dtype}.onnx",), "onnx", dtype, ("0" * 64,), 1000, {"Conv": 1})


def test_a_float_file_that_gives_other_numbers_stops_the_run(make, opened):
    network = network_of(Recorded())
    measurer = make(network)
    opened(Shifted(network.module, 1e-2))
    with pytest.raises(
        CompressError, match=r"net_float32\.onnx: differs from the network by 0\.01 on outputs up to 1,"
    ):
        measurer.parity(artifact("float32"), network)
    assert measurer.parity(artifact("int8"), network).max_abs == pytest.approx(1e-2, rel=1e-3)


@pytest.mark.parametrize("size", [(40, 60), (128, 200)])
def test_a_file_of_one_size_is_compared_at_that_size(make, opened, size):
    network = network_of(Recorded())
    opened(Shifted(network.module, 0.0, size))
    SHAPES.clear()
    assert make(network).parity(artifact("float32"), network).psnr_db == 200.0
    assert set(SHAPES) == {size}


def test_a_classifiers_file_is_compared_on_its_logits(make, opened, picture):
    network = network_of(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), classes=3, task=CLASSIFICATION, input_size=(20, 20)
    )
    opened(Shifted(network.module, 0.0, (20, 20)))
    assert make(network, Reach(None, 1), picture(20, 20)).parity(artifact("float32"), network).as_float


def test_timings_are_taken_in_turn_and_kept(make, monkeypatch):
    asked = []

    def measure(paths, size, channels, threads):
        asked.append((len(paths), size, channels, threads))
        return [Latency(*size, threads, 10.0, 9.0, 12.0, (10.0,)) for _ in paths]

    monkeypatch.setattr(timing, "measure", measure)
    monkeypatch.setattr(timing, "peak_memory", lambda path, size, channels, threads: 2**20)
    monkeypatch.setattr(timing, "host", lambda: Host("cpu", "x86_64", 2, 0.5, "busy"))
    measurer = make(network_of(Recorded()))
    files = [artifact("float32"), artifact("int8")]
    first = measurer.timings(files, (64, 96))
    assert first == measurer.timings(files, (64, 96)) and asked == [(2, (64, 96), 3, 1)]
    assert first.peak_memory_bytes == (2**20, 2**20) and first.host.warning == "busy"
