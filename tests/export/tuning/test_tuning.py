"""Tuning on the graph of a file: ranges, exact grids, fitted weights, training."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export import formats, graph, tuning
from export.artifact import Card, ExportSpec
from export.errors import ExportError
from export.graph.ir import Graph, Grid, Op
from export.policy import QuantPolicy, Rounding
from export.tuning import tune
from export.tuning.adaround import adaround
from export.tuning.exact import exact_constants, exact_ends, share_grids
from export.tuning.ranges import BINS, Histogram, clip, collect, grid_of, set_ranges
from export.tuning.reconstruct import _gptq, reconstruct
from export.tuning.sensitivity import sensitivity
from export.tuning.tint import tinted

BYTE = Grid(torch.tensor(1.0), torch.tensor(0.0), -128, 127)


class Net(nn.Module):
    """A mean taken off, SiLU, a gate, a shuffle: what tuning has to do with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.shuffle = nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)
        with torch.no_grad():
            self.first.weight.mul_(4)
            self.last.bias.add_(0.5)
            self.last.weight.mul_(4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.first(x - 0.44))
        x = x * (torch.sigmoid(self.second(x)) - 0.5)
        y: Tensor = self.shuffle(self.last(x))
        return y


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return Net().eval()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    rough = random.random((24, 5, 5, 3))
    smooth = nn.functional.interpolate(torch.from_numpy(rough).permute(0, 3, 1, 2), 32, mode="bicubic")
    return list((smooth.clamp(0, 1) * 255).round().div(255).permute(0, 2, 3, 1).float().numpy())


@pytest.fixture(scope="module")
def pair(net: nn.Module, images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("pair")
    card = Card("net", 2, 3, 3, "float32")
    formats.write("tflite", ExportSpec(net, card, (32, 32)), out, "float32")
    formats.write("tflite", ExportSpec(net, card, (32, 32), QuantPolicy(), images), out, "int8")
    return out / "int8.tflite", out / "float32.tflite"


@pytest.fixture
def read(pair: tuple[Path, Path]) -> Graph:
    return graph.read(*pair)


def noise(read: Graph, images: list[np.ndarray]) -> float:
    """Signal to noise against the float network, dB."""
    x = torch.from_numpy(np.stack(images))
    with torch.no_grad():
        exact = read.run(x, quantized=False)
        return float(10 * torch.log10(exact.var() / (read.run(x) - exact).square().mean()))


def written(
    net: nn.Module,
    images: list[np.ndarray],
    policy: QuantPolicy,
    kind: str,
    out: Path,
    judged: list[np.ndarray] | None = None,
) -> float:
    """Signal to noise of the file in its own runtime, dB; on the calibration images, or others."""
    spec = ExportSpec(net, Card("net", 2, 3, 3, "int8"), (32, 32), policy, images)
    session = formats.open_file(formats.write(kind, spec, out, "x").path(out), 1)
    errors, powers = [], []
    for image in judged or images:
        with torch.no_grad():
            exact = net(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
        errors.append(np.mean((session.run(image) - exact) ** 2))
        powers.append(exact)
    return float(10 * np.log10(np.stack(powers).var() / np.mean(errors)))


TUNED = QuantPolicy(clipping="mse", rounding="gptq", correction="least-squares", exact=True)


@pytest.mark.parametrize("kind", ["tflite", "onnx", "openvino"])
def test_a_tuned_file_beats_the_stock_one_in_its_own_runtime(
    net: nn.Module, images: list[np.ndarray], kind: str, tmp_path: Path
) -> None:
    stock = written(net, images, QuantPolicy(), kind, tmp_path / "a")
    tuned = written(net, images, TUNED, kind, tmp_path / "b")
    assert tuned > stock + 0.5


def test_the_graph_predicts_what_the_runtime_scores(
    net: nn.Module, images: list[np.ndarray], read: Graph, tmp_path: Path
) -> None:
    tune(read, TUNED, torch.from_numpy(np.stack(images)))
    assert noise(read, images) == pytest.approx(written(net, images, TUNED, "tflite", tmp_path), abs=0.3)


def test_training_lowers_the_error_on_inputs_it_did_not_see(pair: tuple[Path, Path], images: list[np.ndarray]) -> None:
    x, found = torch.from_numpy(np.stack(images)), []
    for steps in (0, 100):
        read = graph.read(*pair)
        tune(read, QuantPolicy(weight_bits=4, correction="bias", training_steps=steps), x[:16])
        found.append(noise(read, images[16:]))
    assert found[1] > found[0] + 0.3


def test_training_gives_the_same_numbers_again(pair: tuple[Path, Path], images: list[np.ndarray]) -> None:
    x = torch.from_numpy(np.stack(images[:8]))
    results = []
    for _ in range(2):
        read = graph.read(*pair)
        tune(read, QuantPolicy(**{**TUNED.__dict__, "training_steps": 3}), x)
        results.append(read.run(x).detach())
    assert torch.equal(*results)


@pytest.mark.parametrize("scheme", ["symmetric", "symmetric-uint8", "power-of-two"])
def test_schemes_are_kept_by_the_file(net: nn.Module, images: list[np.ndarray], scheme: str, tmp_path: Path) -> None:
    policy = QuantPolicy(scheme=scheme, correction="bias")  # type: ignore[arg-type]
    assert written(net, images, policy, "tflite", tmp_path) > 15
    found = graph.read(tmp_path / "x.tflite")
    free = [grid for grid in found.activations() if not grid.fixed]
    if scheme == "symmetric-uint8":
        assert {float(grid.zero) for grid in free} == {-128.0, 0.0}
    else:
        assert {float(grid.zero) for grid in free} == {0.0}
    if scheme == "power-of-two":
        assert all(float(torch.log2(grid.scale)).is_integer() for grid in free)


def test_four_bit_weights_take_fifteen_values(net: nn.Module, images: list[np.ndarray], tmp_path: Path) -> None:
    policy = QuantPolicy(**{**TUNED.__dict__, "weight_bits": 4})
    assert 8 < written(net, images, policy, "tflite", tmp_path) < written(net, images, TUNED, "tflite", tmp_path / "8")
    found = graph.read(tmp_path / "x.tflite")
    for layer in found.layers:
        values = found.grids[layer.weight].integers(found.constants[layer.weight])
        assert float(values.abs().max()) <= 7


def test_packed_four_bit_weights_give_the_same_in_fewer_bytes(
    net: nn.Module, images: list[np.ndarray], tmp_path: Path
) -> None:
    policy = replace(TUNED, weight_bits=4)
    loose = written(net, images, policy, "tflite", tmp_path / "loose")
    packed = written(net, images, replace(policy, packed=True), "tflite", tmp_path / "packed")
    assert packed == pytest.approx(loose, abs=0.05)
    sizes = [(tmp_path / name / "x.tflite").stat().st_size for name in ("loose", "packed")]
    weights = sum(p.numel() for p in net.parameters() if p.dim() == 4)
    assert sizes[0] - sizes[1] > 0.4 * weights


@pytest.mark.parametrize("policy", [QuantPolicy(activation_bits=16), replace(TUNED, activation_bits=16)])
def test_sixteen_bit_activations_leave_the_weights_noise(
    net: nn.Module, images: list[np.ndarray], policy: QuantPolicy, tmp_path: Path
) -> None:
    eight = written(net, images, replace(policy, activation_bits=8), "tflite", tmp_path / "eight")
    assert written(net, images, policy, "tflite", tmp_path / "sixteen") > eight + 1.0


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (QuantPolicy(activation_bits=16), "16-bit activations"),
        (QuantPolicy(packed=True, weight_bits=4), "packed 4-bit weights"),
    ],
)
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_what_a_runtime_has_no_kernels_for_is_refused_by_name(
    net: nn.Module, images: list[np.ndarray], policy: QuantPolicy, words: str, kind: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=words):
        written(net, images, policy, kind, tmp_path)


def test_layers_may_have_bits_of_their_own(read: Graph, images: list[np.ndarray]) -> None:
    tune(read, QuantPolicy(**{**TUNED.__dict__, "layer_bits": (8, 4, 8)}), torch.from_numpy(np.stack(images)))
    assert [read.grids[layer.weight].high for layer in read.layers] == [127, 7, 127]


def test_histograms_are_kept_for_the_same_float_graph_and_inputs_only(
    pair: tuple[Path, Path], images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.from_numpy(np.stack(images))
    collected: list[Graph] = []
    monkeypatch.setattr(tuning, "_seen", OrderedDict())
    monkeypatch.setattr(tuning, "collect", lambda g, i: (collected.append(g), collect(g, i))[1])
    first, again, others, changed = (graph.read(*pair) for _ in range(4))
    tune(first, TUNED, x)
    tune(again, TUNED, x)
    assert collected == [first]
    assert all(torch.equal(g.scale, again.grids[name].scale) for name, g in first.grids.items())
    tune(others, TUNED, x[1:])
    weight = changed.layers[0].weight
    changed.originals[weight] = changed.originals[weight] * 1.01
    tune(changed, TUNED, x)
    assert collected == [first, others, changed]


def test_exact_ends_lose_nothing(read: Graph, images: list[np.ndarray]) -> None:
    x = torch.from_numpy(np.stack(images))
    set_ranges(read, collect(read, x), "min-max")
    exact_ends(read, image_out=True)
    assert torch.equal(read.snap(read.input, x), x) or float((read.snap(read.input, x) - x).abs().max()) < 1e-6
    first = read.ops[0]
    assert first.kind == "SUB"
    moved = x - float(read.constants[first.inputs[1]].reshape(-1)[0])
    assert float((read.snap(first.output, moved) - moved).abs().max()) < 1e-6
    assert read.grids[read.output].range == pytest.approx((0.0, 1.0))


def test_a_gate_less_a_half_keeps_its_integers(read: Graph) -> None:
    exact_constants(read)
    gate = next(op for op in read.ops if op.kind == "SUB" and op is not read.ops[0])
    before, after = read.grids[gate.inputs[0]], read.grids[gate.output]
    assert float(after.scale) == float(before.scale)
    assert float(after.zero) == float(before.zero) + 128


def grid(scale: float, zero: float = 0.0) -> Grid:
    return Grid(torch.tensor(scale), torch.tensor(zero), -128, 127)


def test_a_constant_of_whole_steps_is_kept_exactly() -> None:
    factors = torch.tensor([1.0, 2.0, 0.25, 8.0])
    graph = Graph(
        "x",
        "y",
        [Op("MUL", ("x", "factors"), "y", torch.mul)],
        {"factors": factors},
        {"x": grid(0.1), "factors": grid(8 / 127), "y": grid(0.3)},
    )
    assert not torch.equal(graph.snapped_constants()["factors"], factors)
    exact_constants(graph)
    assert torch.equal(graph.snapped_constants()["factors"], factors)


def test_a_concatenation_shares_its_grid_with_what_it_alone_reads_or_what_lies_near() -> None:
    ops = [
        Op("Neg", ("x",), "alone", torch.neg),
        Op("Neg", ("x",), "near", torch.neg),
        Op("Neg", ("x",), "finer", torch.neg),
        Op("Concat", ("alone", "near", "finer"), "joined", lambda *parts: torch.cat(parts, -1)),
        Op("Add", ("near", "finer"), "sum", torch.add),
        Op("Sigmoid", ("sum",), "gate", torch.sigmoid),
        Op("Sub", ("gate", "half"), "y", torch.sub),
    ]
    scales = {
        "x": 0.1,
        "alone": 0.02,
        "near": 0.09,
        "finer": 0.01,
        "joined": 0.1,
        "sum": 0.1,
        "gate": 0.003,
        "y": 0.004,
    }
    graph = Graph("x", "y", ops, {"half": torch.tensor(0.5)}, {n: grid(s) for n, s in scales.items()})
    share_grids(graph)
    exact_constants(graph)
    joined = graph.grids["joined"]
    assert graph.grids["alone"] is joined and graph.grids["near"] is joined and graph.grids["finer"] is not joined
    gates = torch.linspace(0, 0.99, 100)
    assert torch.equal(graph.snap("y", graph.snap("gate", gates) - 0.5), graph.snap("gate", gates) - 0.5)


@pytest.mark.parametrize(("scale", "takes"), [(0.1, False), (0.28, True)])
def test_what_others_read_too_keeps_its_finer_grid(scale: float, takes: bool) -> None:
    ops = [
        Op("NEG", ("x",), "a", torch.neg),
        Op("QUANTIZE", ("a",), "b", lambda x: x),
        Op("CONCATENATION", ("b", "b"), "joined", lambda a, b: torch.cat([a, b], -1)),
        Op("ADD", ("a", "joined"), "y", torch.add),
    ]
    shared = grid(0.3)
    graph = Graph("x", "y", ops, {}, {"x": grid(0.1), "a": grid(scale), "b": shared, "joined": shared, "y": grid(0.1)})
    exact_constants(graph)
    assert (graph.grids["a"].follows is shared) == takes


def test_what_is_only_put_on_another_grid_takes_that_one_at_once() -> None:
    graph = Graph(
        "x",
        "joined",
        [
            Op("NEG", ("x",), "a", torch.neg),
            Op("QUANTIZE", ("a",), "b", lambda x: x),
            Op("CONCATENATION", ("b", "b"), "joined", lambda a, b: torch.cat([a, b], -1)),
        ],
        {},
        {"x": grid(0.1), "a": grid(0.11, 5.0), "b": (shared := grid(0.3, -7.0)), "joined": shared},
    )
    exact_constants(graph)
    assert graph.grids["a"].follows is shared
    x = torch.linspace(-9, 9, 50)
    once = shared.snap(-graph.snap("x", x))
    assert torch.equal(graph.run(x)[:50], once)


def test_constant_inputs_and_a_single_one_do_no_harm(read: Graph) -> None:
    tune(read, TUNED, torch.full((1, 32, 32, 3), 0.2))
    assert torch.isfinite(read.run(torch.rand(2, 32, 32, 3))).all()


def histogram(values: Tensor) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, torch.histc(values, BINS, low, high))


def same(x: Tensor) -> Tensor:
    return x[None]


def test_clipping_by_hand() -> None:
    values = torch.cat([torch.linspace(-1, 1, 100_000), torch.tensor([100.0])])
    seen = histogram(values)
    assert clip(seen, "min-max", BYTE, same) == (pytest.approx(-1), pytest.approx(100))
    for method in ("percentile-99.99", "density"):
        low, high = clip(seen, method, BYTE, same)
        assert -1.001 <= low < -0.5
        assert 0.5 < high < 10


def test_mse_clips_what_silu_flattens(read: Graph, images: list[np.ndarray]) -> None:
    x = torch.linspace(-100, 10, 50_000)
    low, high = clip(histogram(x), "mse", BYTE, lambda v: nn.functional.silu(v)[None])
    assert -30 < low < -3
    assert high == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("ends", [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)])
def test_a_grid_holds_zero_and_both_ends(ends: tuple[float, float]) -> None:
    grid = grid_of(*ends, BYTE)
    low, high = grid.range
    step = float(grid.scale)
    assert low <= min(ends[0], 0) + step and high >= max(ends[1], 0) - step
    assert float(grid.snap(torch.zeros(1))) == 0.0


def test_snap_is_the_slow_formula_and_its_gradients_are_those_of_learned_steps() -> None:
    grid = Grid(torch.tensor(0.1, requires_grad=True), torch.tensor(3.0), -128, 127)
    x = torch.tensor([-20.0, -0.33, 0.04, 0.06, 5.0, 30.0], requires_grad=True)
    y = grid.snap(x)
    slow = [(min(max(round(v / 0.1) + 3, -128), 127) - 3) * 0.1 for v in x.tolist()]
    assert y.tolist() == pytest.approx(slow)
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 1, 0]
    inside = sum(round(v / 0.1) - v / 0.1 for v in x.tolist()[1:5])
    assert grid.scale.grad is not None
    assert float(grid.scale.grad) == pytest.approx(inside + (-128 - 3) + (127 - 3), rel=1e-4)


def correlated() -> tuple[Tensor, Tensor, Tensor, Tensor, Grid]:
    """Inputs (F, N), weights (1, O, F), their second moments, row scales and the grid."""
    torch.manual_seed(0)
    x = torch.randn(12, 4000, dtype=torch.float64)
    x[1:] += 2 * x[:1]
    rows = torch.randn(1, 5, 12, dtype=torch.float64)
    scale = torch.full((1, 5, 1), 0.3, dtype=torch.float64)
    moments = (x @ x.T / x.shape[1])[None] + 1e-6 * torch.eye(12)
    return x, rows, moments, scale, Grid(torch.tensor(0.3), torch.tensor(0.0), -127, 127)


@pytest.mark.parametrize(("rounding", "share"), [(_gptq, 0.5), (adaround, 0.5)])
def test_rounding_by_moments_beats_the_nearest_on_correlated_inputs(
    rounding: Callable[[Tensor, Tensor, Tensor, Grid], Tensor], share: float
) -> None:
    x, rows, moments, scale, grid = correlated()
    nearest = torch.round(rows / scale) * scale
    ours = rounding(rows, moments, scale, grid)
    torch.testing.assert_close(torch.round(ours / scale) * scale, ours)
    error = [float(((w - rows)[0] @ x).square().mean()) for w in (nearest, ours)]
    assert error[1] < share * error[0]


def test_adaround_comes_near_the_best_of_all_roundings() -> None:
    x, rows, moments, scale, grid = correlated()
    ours = adaround(rows[:, :1, :10], moments[:, :10, :10], scale[:, :1], grid)
    below = torch.floor(rows[0, 0, :10] / scale[0, 0])
    ups = torch.tensor(list(itertools.product((0.0, 1.0), repeat=10)), dtype=torch.float64)
    every = (below + ups) * scale[0, 0] - rows[0, 0, :10]
    best = float(((every @ x[:10]) ** 2).mean(1).min())
    assert float(((ours - rows[:, :1, :10])[0] @ x[:10]).square().mean()) < 2.5 * best


def test_adaround_keeps_the_ends_of_the_grid() -> None:
    _x, rows, moments, _, _ = correlated()
    narrow = Grid(torch.tensor(0.3), torch.tensor(0.0), -7, 7)
    scale = rows.abs().amax(2, keepdim=True) / 7
    steps = adaround(rows, moments, scale, narrow) / scale
    assert float(steps.abs().max()) <= 7 + 1e-9


def test_least_squares_makes_up_for_coarse_inputs(read: Graph, images: list[np.ndarray]) -> None:
    x = torch.from_numpy(np.stack(images))
    found = {}
    for correction in ("none", "bias", "least-squares"):
        set_ranges(read, collect(read, x), "min-max")
        policy = QuantPolicy(correction=correction, rounding="nearest")  # type: ignore[arg-type]
        reconstruct(read, x, policy)
        found[correction] = noise(read, images)
    assert found["least-squares"] > found["bias"] >= found["none"] - 0.1


def test_sensitivity_finds_the_tensor_that_was_spoiled(read: Graph, images: list[np.ndarray]) -> None:
    x = torch.from_numpy(np.stack(images[:4]))
    victim = next(op for op in read.ops if op.kind == "CONV_2D")
    grid = read.grids[victim.output]
    grid.scale = grid.scale * 40
    parts = sensitivity(read, x)
    assert parts[0].name == "CONV_2D 1"
    assert parts[0].share > 0.5


@pytest.mark.parametrize("axis", [1, 3])
def test_grey_inputs_get_a_colour_and_coloured_ones_stay(axis: int) -> None:
    grey = (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    coloured = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 255).round() / 255
    images = torch.cat([grey.expand(2, 3, 8, 8), coloured]).movedim(1, axis)
    found = tinted(images, axis)
    assert torch.equal(found[2], images[2])
    channels = found[:2].movedim(axis, 1)
    assert float((channels - channels.mean(1, keepdim=True)).abs().mean()) > 0.02
    assert float((found * 255 - (found * 255).round()).abs().max()) < 1e-4
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert torch.equal(found, tinted(images, axis))


def test_other_numbers_of_channels_are_left_alone() -> None:
    assert torch.equal(tinted(images := torch.rand(2, 1, 4, 4), 1), images)


class Carrier(nn.Module):
    """Each pixel four times, carried through more channels than there are colours."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1)
        self.shuffle = nn.PixelShuffle(2)
        spread = torch.linalg.qr(torch.randn(8, 3))[0]
        with torch.no_grad():
            self.first.weight.copy_(spread[..., None, None])
            self.last.weight.copy_(spread.T.repeat_interleave(4, 0)[..., None, None])
            for layer in (self.first, self.last):
                assert layer.bias is not None
                layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shuffle(self.last(self.first(x)))
        return y


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_a_fit_to_grey_inputs_keeps_the_colours(images: list[np.ndarray], rounding: Rounding, tmp_path: Path) -> None:
    net = Carrier().eval()
    means = [x.mean(2, keepdims=True).repeat(3, 2) for x in images]
    grey = [(np.round(x * 255) / 255).astype(np.float32) for x in means]
    policy = replace(TUNED, rounding=rounding)
    found = {
        correction: written(net, grey, replace(policy, correction=correction), "tflite", tmp_path / correction, images)
        for correction in ("bias", "least-squares")
    }
    assert found["least-squares"] > found["bias"] - 0.5
