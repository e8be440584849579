"""Methods on look-up tables: what they keep, what they make smaller, and that training goes on where it stopped."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress import zoo
from compress.errors import UsageError
from compress.methods.distil import Distil
from compress.methods.lut_diagonal import LutDiagonal
from compress.methods.lut_finetune import LutFinetune
from compress.methods.lut_samplers import LutSamplers
from compress.methods.reparameterize import Reparameterize
from compress.progress import SILENT, Reporter
from compress.registry import TASKS
from compress.task import Data
from compress.workshop import Workshop
from export.lut.network import Band, rows_of
from export.lut.numpy_engine import enlarge

SMALL = {"width": 8, "depth": 1}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    ys, xs = np.mgrid[:72, :96]
    for k in range(6):
        stripes = 128 + 60 * np.sin(xs / (2 + k) + ys / 9) + 40 * ((xs // (5 + k) + ys // 7) % 2)
        Image.fromarray(np.stack([stripes, stripes[::-1], 255 - stripes], -1).clip(0, 255).astype(np.uint8)).save(
            folder / f"{k}.png"
        )
    return folder


@pytest.fixture(scope="module")
def tables():
    network = zoo.fresh("mulut", 2, 0, patterns="SD", interval_bits=5, **SMALL)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=random)
    return Reparameterize()(network, None)


@pytest.fixture(scope="module")
def task(tables, photographs):
    return TASKS["super-resolution"](tables, Data(calibration=photographs))


def image(seed=0, size=(9, 12)):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def test_samplers_change_nothing_until_they_are_trained(tables, task):
    after = LutSamplers(window=4, mix=True)(tables, task).module.tables
    before = tables.module.tables
    assert np.array_equal(enlarge(after, image()), enlarge(before, image()))
    assert all(len(tap) == 16 for table in after.stages[0].tables for tap in table.taps), "no plane before the input"
    assert all(len(tap) == 32 for table in after.stages[1].tables for tap in table.taps)
    assert {s.plane for table in after.stages[1].tables for s in table.sources} == {0, 1}
    assert LutSamplers(window=4)(replace(tables, module=LutSamplers(window=4)(tables, task).module), task) is not None


def test_samplers_that_do_not_reach_a_tap_are_refused(tables, task):
    with pytest.raises(UsageError, match="lut-samplers: a tap at 0, 2, expected it within 2"):
        LutSamplers(window=2)(tables, task)


def test_a_compressed_table_is_exact_on_its_diagonal_and_at_coarse_nodes(tables, task):
    small = LutDiagonal()(tables, task).module.tables
    for before, after in zip(tables.module.tables.stages, small.stages, strict=True):
        for whole, kept in zip(before.tables, after.tables, strict=True):
            assert kept.band == Band(2, 6) and len(kept.entries) == rows_of(4, 5, Band(2, 6))
            assert np.array_equal(kept.entries[0], whole.entries[0]), "all black"
            assert np.array_equal(kept.entries[-1], whole.entries[-1]), "all white, of the coarse table"
    smooth = np.full((6, 7), 77, np.uint8) + np.arange(7, dtype=np.uint8)
    assert np.array_equal(enlarge(small, smooth), enlarge(tables.module.tables, smooth)), "near the diagonal"


def test_the_usual_tables_keep_a_tenth_of_their_bytes(task):
    """1807 + 6561 of 83521 rows (Li et al., CVPR 2024)."""
    network = Reparameterize()(zoo.fresh("sr-lut", 2, 0, **SMALL), task)
    before, after = network.module.tables, LutDiagonal()(network, task).module.tables
    assert (before.table_bytes, after.table_bytes) == (83521 * 4, (1807 + 6561) * 4)


def test_tables_of_few_taps_and_across_planes_stay_whole(task):
    few = Reparameterize()(zoo.fresh("sr-lut", 2, 0, form="F", **SMALL), task)
    assert LutDiagonal()(few, task).module.tables.stages[0].tables[0].band is None
    spf = Reparameterize()(zoo.fresh("spf-lut", 2, 0, patterns="S", depth=0, width=4, interval_bits=6), task)
    bands = [table.band for stage in LutDiagonal()(spf, task).module.tables.stages for table in stage.tables]
    assert [band is None for band in bands] == [False] * 4 + [True] + [False] * 4


def test_training_tables_brings_them_nearer_to_the_images(tables, task):
    whole = LutFinetune(steps=40, batch=4, crop=16, shrink=(1.0,), learning_rate=5e-3)(tables, task)
    before, after = (judged(network, task) for network in (tables, whole))
    assert after > before + 0.5
    assert (
        whole.module.tables.stages[0].tables[0].entries.shape == tables.module.tables.stages[0].tables[0].entries.shape
    )


def test_training_keeps_bands_and_moves_samplers(tables, task):
    given = LutSamplers(window=3, mix=True)(LutDiagonal()(tables, task), task)
    after = LutFinetune(steps=10, batch=2, crop=16, shrink=(1.0,), learning_rate=1e-2)(given, task).module.tables
    table = after.stages[1].tables[0]
    assert table.band == Band(2, 6) and table.sampled
    assert table.taps != given.module.tables.stages[1].tables[0].taps


def judged(network, task):
    held = task.held_out(network)
    run = lambda image: network.module(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()  # noqa: E731
    with torch.inference_mode():
        return held.judge(run, lambda done: None).mean


class StopsAt(Reporter):
    """Plays the user's Ctrl-C when the training bar reaches a step."""

    def __init__(self, step):
        super().__init__(quiet=True)
        self.step = step

    @contextmanager
    def bar(self, label, total):
        def update(done):
            if label.startswith("training") and done == self.step:
                raise KeyboardInterrupt

        yield update


@pytest.mark.parametrize("kind", ["distil", "lut-finetune"])
def test_a_stopped_training_goes_on_to_the_same_tables(kind, tables, task, tmp_path):
    quick = {"steps": 6, "batch": 2, "crop": 16, "shrink": (1.0,)}
    method = LutFinetune(**quick) if kind == "lut-finetune" else Distil("mulut", ("patterns=S", "width=4"), **quick)
    teacher = zoo.fresh("span", 2, 0, channels=8) if kind == "distil" else tables
    alone = method(teacher, task, Workshop(tmp_path / "alone", SILENT, 3))
    with pytest.raises(KeyboardInterrupt):
        method(teacher, task, Workshop(tmp_path / "stopped", StopsAt(4), 3))
    resumed = method(teacher, task, Workshop(tmp_path / "stopped", SILENT, 3))
    again = method(teacher, task, Workshop(tmp_path / "stopped", StopsAt(1), 3))  # done: nothing is trained
    for other in (resumed, again):
        assert other.name == "mulut" and other.scale == 2
        pairs = zip(alone.module.state_dict().values(), other.module.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("method", [LutDiagonal(), LutFinetune(), LutSamplers()], ids=lambda m: type(m).__name__)
def test_networks_without_tables_are_refused(method, task):
    with pytest.raises(UsageError, match=r"span has no look-up tables; take a \.lut file, or put distil"):
        method(zoo.fresh("span", 2, 0, channels=8), task)


def test_a_pupil_of_another_task_is_refused(task):
    with pytest.raises(UsageError, match="distil: span is made for super-resolution, dncnn for restoration"):
        Distil("dncnn")(zoo.fresh("span", 2, 0, channels=8), task)
    with pytest.raises(UsageError, match="sizes holds 'width', expected name=value"):
        Distil("mulut", ("width",))(zoo.fresh("span", 2, 0, channels=8), task)
