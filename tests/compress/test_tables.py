"""Table networks in training: the fast interpolation against torch, and every form against the engine."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import zoo
from compress.errors import UsageError
from compress.methods.reparameterize import merged
from compress.models import _simplex
from compress.models._simplex import Grid, interpolate
from compress.models._tables import Layer, TableNetwork, written_out
from compress.models._taps import Plain, Sampled, _apportioned, pattern_taps
from export.compiled import compiler
from export.lut.network import Band, Network, Stage, Table, plain_taps, rows_of
from export.lut.numpy_engine import enlarge

GRIDS = [Grid(1), Grid(2, 3), Grid(3, 5), Grid(4, 6), Grid(4), Grid(4, 4, Band(2, 5)), Grid(4, 5, Band(1, 7))]
NETWORKS = [
    ("sr-lut", {}),
    ("sr-lut", {"form": "F", "interval_bits": 3}),
    ("mulut", {"interval_bits": 6}),
    ("mulut", {"patterns": "SY", "stages": 3, "interval_bits": 5}),
    ("mulut", {"patterns": "S", "window": 3, "mix": True}),
    ("mulut", {"patterns": "SD", "window": 5, "mix": True, "band": True, "interval_bits": 5}),
    ("spf-lut", {"patterns": "S", "interval_bits": 6}),
    ("spf-lut", {"patterns": "S", "window": 2, "mix": True, "band": True}),
]
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")


def points(grid, count, seed, fractions=True):
    random = np.random.default_rng(seed)
    near = random.integers(0, 256, (count, 1)) + random.normal(0, 40, (count, grid.taps))
    values = np.where(random.random((count, 1)) < 0.7, near, random.integers(0, 256, (count, grid.taps)))
    values = np.clip(np.round(values * 256) / 256 if fractions else np.round(values), 0, 255)
    values[: count // 10] = values[: count // 10, :1]  # ties
    return torch.from_numpy(values).float()


def in_torch(monkeypatch):
    monkeypatch.setattr(_simplex, "passes", lambda file: None)


@needs_compiler
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_compiled_pass_gives_what_torch_gives(grid, monkeypatch):
    values, gradient = points(grid, 9000, 1), torch.randn(9000, 3, generator=torch.Generator().manual_seed(0))
    entries = torch.randint(-128, 128, (grid.rows, 3), generator=torch.Generator().manual_seed(1)).float()

    def results():
        v, e = values.clone().requires_grad_(), entries.clone().requires_grad_()
        located = grid.locate(v)
        out = interpolate(v, located, e)
        out.backward(gradient)
        return located, out, v.grad, e.grad

    fast = results()
    in_torch(monkeypatch)
    slow = results()
    for part in ("rows", "weights", "order", "coarse", "seen"):
        assert torch.equal(getattr(fast[0], part), getattr(slow[0], part)), part
    assert torch.equal(fast[1], slow[1]), "whole entries and binary weights: exact"
    assert torch.allclose(fast[2], slow[2], atol=1e-3)
    assert torch.allclose(fast[3], slow[3], atol=1e-3)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_gradients_are_the_slopes(grid, monkeypatch):
    """Against finite differences inside of a simplex."""
    in_torch(monkeypatch)
    values = points(grid, 200, 2)
    random = torch.Generator().manual_seed(3)
    values = (values.floor() + 0.5 + torch.rand(values.shape, generator=random) * 0.2).clamp(0, 254.7)
    values = (values * 256).round() / 256
    entries = torch.randn(grid.rows, 2, generator=random).double().float()
    probe = values.clone().requires_grad_()
    interpolate(probe, grid.locate(probe), entries)[:, 0].sum().backward()
    step = 1 / 256
    for tap in range(grid.taps):
        moved = values.clone()
        moved[:, tap] += step
        a, b = (interpolate(v, grid.locate(v), entries)[:, 0] for v in (values, moved))
        same = (grid.locate(values).rows == grid.locate(moved).rows).all(1)
        assert same.float().mean() > 0.5
        assert torch.allclose(((b - a) / step)[same], probe.grad[same, tap], atol=1e-2)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_nodes_read_their_own_row(grid):
    """At a node the table's value is that row's alone, but that 256 lies beyond the values."""
    inside = (grid.nodes < 256).all(1)
    nodes = grid.nodes[inside][:: max(1, int(inside.sum()) // 500)]
    entries = torch.arange(grid.rows).float()[:, None]
    found = interpolate(nodes, grid.locate(nodes), entries)[:, 0].long()
    assert torch.equal(grid.nodes[found], nodes)


def test_values_that_are_no_numbers_are_read_as_black():
    values = torch.full((3, 4), float("nan"))
    assert int(Grid(4).locate(values).rows.max()) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 2))
def test_sampler_weights_are_whole_and_add_up(seed, window, planes):
    random = np.random.default_rng(seed)
    weights = random.dirichlet(np.ones(planes * window * window) * random.choice([0.02, 1, 50]), 4)
    given = torch.from_numpy(weights).float().view(4, planes, window, window)
    counts = _apportioned(given)
    assert torch.equal(counts, counts.round()) and bool((counts.flatten(1).sum(1) == 256).all())
    assert float((counts / 256 - given).abs().max()) <= 1 / 256 + 1e-5


def random_network(name, sizes):
    """Values far from the start, so that sums pass both ends of the range."""
    module = zoo.fresh(name, 2, 0, width=8, depth=1, **sizes).module
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            parameter += torch.randn(parameter.shape, generator=random) * (0.2 if "reader" in key else 0.1)
    return module


@pytest.mark.parametrize(("name", "sizes"), NETWORKS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 6)], ids=str)
def test_the_training_form_computes_what_its_tables_compute(name, sizes, size):
    module = random_network(name, sizes)
    image = np.random.default_rng(6).integers(0, 256, (2, *size), dtype=np.uint8)
    with torch.inference_mode():
        found = (module(torch.from_numpy(image)[None].float() / 255)[0] * 255).round().numpy()
        deployed = (merged(module)(torch.from_numpy(image)[None].float() / 255)[0] * 255).round().numpy()
    expected = np.stack([enlarge(module.tables(), plane) for plane in image])
    assert np.array_equal(found, expected)
    assert np.array_equal(deployed, expected)
    assert module.halo == module.tables().halo or sizes.get("window"), "a window's far end may weigh nothing"


def test_a_fresh_network_repeats_pixels():
    module = zoo.fresh("mulut", 2, 0, width=4, depth=0).module
    with torch.no_grad():
        for stage in module.stages:
            for branch in stage:
                branch.contents.last.weight.zero_()
    image = torch.randint(0, 256, (1, 1, 6, 5), generator=torch.Generator().manual_seed(0)) / 255
    expected = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    # a quarter of a grey level is rounded to entries of whole ones: up to half of it in each of four rotations
    assert float((module(image) - expected).detach().abs().max()) <= 2.001 / 255


def test_tables_written_out_give_the_same_tables_again():
    random = np.random.default_rng(7)
    stages = []
    for plane, last in ((0, False), (1, True)):
        grid = (4, 5, Band(2, 6))
        entries = random.integers(-128, 128, (rows_of(*grid), 4 if last else 1), dtype=np.int8)
        table = Table(plain_taps("Y", plane), entries, grid[1], grid[2])
        stages.append(Stage((table,), 1 if last else 4, 0 if last else 127, scale=2 if last else 1))
    given = Network("some", tuple(stages), "reflect")
    again = written_out(given).tables()
    assert again.padding == "reflect" and again.stages[0].divisor == 4 and again.stages[0].bias == 127
    for before, after in zip(given.stages, again.stages, strict=True):
        assert np.array_equal(before.tables[0].entries, after.tables[0].entries)
        assert before.tables[0].taps == after.tables[0].taps and before.tables[0].band == after.tables[0].band


def test_every_pixel_of_a_batch_reaches_the_entries_it_reads():
    module = zoo.fresh("mulut", 2, 0, width=4, depth=0).module
    trained = written_out(module.tables()).train()
    image = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    (trained(image) - 0.5).square().mean().backward()
    for parameter in trained.parameters():
        touched = float((parameter.grad != 0).float().mean())
        assert 0 < touched < 0.5, "rows that no pixel reads have no gradient"


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("mulut", {"patterns": "SX"}, "patterns is 'SX'"),
        ("mulut", {"stages": 0}, "stages is 0"),
        ("mulut", {"window": 1}, "window is 1, expected 0 or 3 to 9"),
        ("mulut", {"mix": True}, "mix without a window"),
        ("sr-lut", {"form": "Z"}, "form is 'Z'"),
        ("spf-lut", {"interval_bits": 2}, "interval_bits is 2, expected 3 to 6"),
    ],
)
def test_sizes_that_make_no_network_are_told(name, sizes, message):
    with pytest.raises(UsageError, match=message):
        zoo.fresh(name, 2, 0, **sizes)


def test_a_pattern_with_a_window_begins_at_its_pixels():
    plain, sampled = pattern_taps("D", 0), pattern_taps("D", 0, window=3)
    assert isinstance(plain, Plain) and isinstance(sampled, Sampled)
    image = torch.randint(0, 256, (1, 1, 7, 8), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        assert float((plain([image], False) - sampled([image], False)).abs().max()) < 10


def test_where_the_files_of_forms_differ(tmp_path: Path):
    """The training form is small; written out it is one tensor, the bytes of its .lut file."""
    module = zoo.fresh("mulut", 2, 0, width=4, depth=0).module
    assert isinstance(module, TableNetwork) and module.layers[-1] == Layer(3, scale=2)
    (tensor,) = merged(module).state_dict().values()
    assert tensor.dtype == torch.uint8 and len(tensor) > module.tables().table_bytes
