"""CFSR, CATANet and DLGSANet: sizes, forms, checkpoints, and the operations that upstream computes otherwise."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)

from compress.data.folder import pairs
from compress.errors import WeightsError
from compress.evaluate import score, to_uint8
from compress.methods.reparameterize import merged
from compress.models import catanet, cfsr, dlgsanet
from compress.models._windows import Cover
from compress.registry import MODELS
from compress.weights import read, write
from export.torch_session import TorchSession

SMALL = {
    "cfsr": {"channels": 8, "groups": 2, "blocks": 1, "kernel": 5},
    "catanet": {"channels": 8, "query": 4, "hidden": 8, "blocks": 2},
    "dlgsanet-tiny": {"channels": 12, "groups": 1, "blocks": 1, "kernels": 4, "heads": 2},
    "dlgsanet-light": {"channels": 12, "groups": 2, "blocks": 1, "kernels": 4, "heads": 2},
}


def fresh(name, scale=4, seed=0, **sizes):
    torch.manual_seed(seed)
    return MODELS[name].build(scale=scale, **(sizes or SMALL[name]))


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def run(module, *size, seed=1):
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return module.eval()(x)


def wake(module):
    """Large values where fresh ones hide a block: CFSR's layer scales, edge strengths and biases."""
    for name, parameter in module.named_parameters():
        if "layer_scale" in name:
            torch.nn.init.constant_(parameter, 0.5)
        elif "scale_" in name or "bias" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return module


# published: CFSR 307 K for x4 (README; the exact counts are those of its released files), CATANet 477, 550 and 535 K
# (arXiv:2503.06896, table 1), DLGSANet-tiny 566, 572 and 581 K, -light 745, 752 and 761 K (arXiv:2301.02031, table 2)
@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("cfsr", 2, 291_324),
        ("cfsr", 3, 297_819),
        ("cfsr", 4, 306_912),
        ("catanet", 2, 477_435),
        ("catanet", 3, 549_635),
        ("catanet", 4, 535_195),
        ("dlgsanet-tiny", 2, 565_710),
        ("dlgsanet-tiny", 3, 572_205),
        ("dlgsanet-tiny", 4, 581_298),
        ("dlgsanet-light", 2, 745_188),
        ("dlgsanet-light", 3, 751_683),
        ("dlgsanet-light", 4, 760_776),
    ],
)
def test_the_merged_form_has_the_published_number_of_parameters(name, scale, expected):
    assert parameters(merged(MODELS[name].build(scale=scale))) == expected


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", SMALL)
def test_any_size_is_enlarged_by_the_scale(name, scale):
    module = fresh(name, scale)
    assert module.scale == scale and module.training
    for height, width in [(1, 1), (5, 33), (31, 18)]:
        output = run(module, height, width)
        assert output.shape == (1, 3, height * scale, width * scale)
        assert output.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_fresh_values_follow_the_seed(name):
    first, again, other = (fresh(name, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("form", ["training", "merged"])
@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_gives_the_same_network_again(name, form, scale, tmp_path):
    module = wake(fresh(name, scale))
    module = merged(module) if form == "merged" else module
    write(tmp_path / "w.safetensors", module.state_dict(), {})
    loaded = MODELS[name].from_state(read(tmp_path / "w.safetensors"), tmp_path / "w.safetensors")
    assert not loaded.training and loaded.scale == scale
    assert parameters(loaded) == parameters(module)
    assert torch.equal(run(loaded, 18, 21), run(module, 18, 21))
    assert MODELS[name].recognises(module.state_dict())


@pytest.mark.parametrize("name", SMALL)
def test_each_network_trains(name):
    module = fresh(name)
    loss = module(torch.rand(2, 3, 20, 20)).square().mean()
    loss.backward()
    silent = [k for k, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []


@pytest.mark.parametrize("name", SMALL)
def test_weights_of_another_network_are_refused(name, tmp_path):
    others = [other for other in SMALL if other.split("-")[0] != name.split("-")[0]]
    for other in others:
        with pytest.raises(WeightsError, match=r"are not .*'s: expected .*; found .*; choose another --model"):
            MODELS[name].from_state(fresh(other).state_dict(), tmp_path)
        assert not MODELS[name].recognises(fresh(other).state_dict())


@pytest.mark.parametrize("name", SMALL)
def test_a_missing_tensor_is_named(name, tmp_path):
    state = fresh(name).state_dict()
    lost = next(k for k in reversed(state) if k.endswith("weight") and "norm" in k)
    with pytest.raises(WeightsError, match=f"missing: {lost}"):
        MODELS[name].from_state({k: v for k, v in state.items() if k != lost}, tmp_path)


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("cfsr", {"kernel": 8}, "kernel 8 has no centre"),
        ("catanet", {"channels": 42}, "must be multiples of 4"),
        ("catanet", {"scale": 8}, "scale 8; give 2, 3 or 4"),
        ("dlgsanet-tiny", {"heads": 5}, "must be a multiple of 5"),
    ],
)
def test_sizes_that_do_not_fit_are_told(name, sizes, message):
    with pytest.raises(ValueError, match=message):
        MODELS[name].build(**sizes)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (12, 9)])
@torch.no_grad()
def test_the_edge_convolution_of_cfsr_equals_the_sum_of_its_branches(size):
    torch.manual_seed(2)
    layer = wake(cfsr.EdgeConv(6, 9))
    x = torch.randn(2, 6, *size)
    edges = [
        F.conv2d(
            x,
            layer.get_parameter(f"scale_{name}") * layer.get_buffer(f"mask_{name}"),
            layer.get_parameter(f"{name}_bias"),
            padding=1,
            groups=6,
        )
        for name in ("sobel_x", "sobel_y", "laplacian")
    ]
    expected = layer.lkb_origin(x) + layer.small_conv(x) + sum(edges)
    assert float((layer(x) - expected).abs().max()) < 1e-5
    assert float((layer.merge()(x) - expected).abs().max()) < 1e-5


def test_the_edge_filters_sum_to_nothing_and_see_edges():
    layer = cfsr.EdgeConv(1, 9)
    ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    middle = {name: F.conv2d(ramp, layer.get_buffer(f"mask_{name}"))[0, 0, 1, 1] for name in ("sobel_x", "sobel_y")}
    assert middle == {"sobel_x": -8.0, "sobel_y": 0.0}  # falling to the right counts as positive
    assert all(layer.get_buffer(f"mask_{name}").sum() == 0 for name in ("sobel_x", "sobel_y", "laplacian"))


@pytest.mark.parametrize("size", [(3, 3), (13, 11)])
def test_merging_cfsr_is_exact(size):
    module = wake(fresh("cfsr")).eval()
    plain = merged(module)
    assert not any(hasattr(m, "merge") for m in plain.modules())
    assert float((run(plain, *size) - run(module, *size)).abs().max()) < 1e-5


def test_cfsr_with_edges_in_the_feed_forward_networks_alone_loads_too(tmp_path):
    """The form in which the current official code trains: the large kernels are plain."""
    module = wake(cfsr.Cfsr(3, 8, (1, 2), 7, 2, edges=(False, True)))
    loaded = cfsr.from_state(module.state_dict(), tmp_path)
    assert torch.equal(run(loaded, 9, 9), run(module, 9, 9))
    assert float((run(merged(loaded), 9, 9) - run(module, 9, 9)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("scale", "expected"), [(2, 38.067), (3, 34.500), (4, 32.326)]
)  # published for x4: 32.33 (README of Aitical/CFSR)
def test_the_official_cfsr_scores_what_it_is_known_for(shared, scale, expected):
    path = shared / f"data/weights/sr/cfsr/CFSR_x{scale}.pth"
    if not path.is_file():
        pytest.skip(f"{path} is absent: fetch model_zoo/CFSR_x{scale}.pth of Aitical/CFSR")
    session = TorchSession(cfsr.from_state(read(path), path))
    found = []
    for pair in pairs(shared / "data/sr/Set5", scale):
        lr, hr = pair.load()
        found.append(score(to_uint8(session.run(lr.astype(np.float32) / 255)), hr, scale).psnr)
    assert float(np.mean(found)) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("channels", "groups", "side"), [(6, 2, 3), (4, 4, 5), (4, 1, 3)])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (4, 3)])
def test_the_dynamic_convolution_equals_its_loops(reference, channels, groups, side, size):
    random = torch.Generator().manual_seed(3)
    x = torch.randn(2, channels, *size, generator=random, dtype=torch.double)
    kernels = torch.randn(2, groups * side**2, *size, generator=random, dtype=torch.double)
    expected = reference("slow_dynamic_convolution").dynamic_convolution(x, kernels, side)
    found = dlgsanet.dynamic_convolution(x, kernels, side)
    assert float((found - expected).abs().max()) < 1e-12  # double precision


def test_the_sparse_attention_drops_channels_that_disagree():
    """Three pairs of channels: equal, unrelated and opposite ones; only equal ones are added."""
    layer = dlgsanet.SparseAttention(2, 1, None)
    a = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2)
    b = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    values = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]])
    with torch.no_grad():
        opposite = layer.attend(torch.cat([a, b, a, -b, values], 1))
        equal = layer.attend(torch.cat([a, b, 5 * a, 3 * b, values], 1))
    assert torch.equal(opposite[0, 0], values[0, 0]) and opposite[0, 1].abs().max() == 0
    assert torch.allclose(equal, values)


@pytest.mark.parametrize(("height", "width"), [(5, 5), (7, 12), (9, 16), (11, 6)])
def test_windowed_attention_is_the_mean_over_the_windows(height, width):
    """Written out as upstream's test-time code does, window by window (arXiv:2112.04491)."""
    torch.manual_seed(4)
    layer = dlgsanet.SparseAttention(4, 2, window=5).eval()

    def starts(length):
        side = min(length, 5)
        count = -(-length // side)
        step = -(-(length - side) // max(count - 1, 1)) or 1
        return [min(k * step, length - side) for k in range(count)], side

    x = torch.randn(1, 4, height, width)
    with torch.no_grad():
        qkv = layer.qkv_dwconv(layer.qkv(x))
        total, weight = torch.zeros(1, 4, height, width), torch.zeros(height, width)
        (rows, high), (columns, wide) = starts(height), starts(width)
        for top in rows:
            for left in columns:
                place = (..., slice(top, top + high), slice(left, left + wide))
                total[place] += layer.attend(qkv[place])
                weight[place[1:]] += 1
        assert float((layer(x) - layer.project_out(total / weight)).abs().max()) < 1e-5


def test_training_sees_the_whole_image_and_the_published_windows_are_set():
    module = fresh("dlgsanet-tiny", 3)
    layers = [m for m in module.modules() if isinstance(m, dlgsanet.SparseAttention)]
    assert [m.window for m in layers] == [72]
    x = torch.rand(1, 12, 80, 80)
    with torch.no_grad():
        whole, windows = layers[0](x), layers[0].eval()(x)
    assert float((whole - windows).abs().max()) > 1e-3
    assert float((whole - windows).abs().max()) < float(whole.abs().max())


@pytest.mark.parametrize(("side", "step"), [(5, 5), (5, 3), (16, 14), (4, 1)])
def test_windows_cover_an_axis_and_know_who_holds_a_pixel(side, step):
    for length in range(1, 60):
        cover = Cover(length, side, step, torch.device("cpu"))
        windows = [set(row.tolist()) for row in cover.inside]
        assert set().union(*windows) == set(range(length))
        for pixel in range(length):
            holders = [k for k, window in enumerate(windows) if pixel in window]
            for end, holder in ((cover.first, holders[0]), (cover.last, holders[-1])):
                assert int(end[0][pixel]) == holder
                assert int(cover.inside[holder, end[1][pixel]]) == pixel


def test_local_attention_of_catanet_equals_attention_window_by_window():
    """Upstream's crops; 2 pixels of overlap are averaged.  Sides without a row that three windows hold."""
    torch.manual_seed(5)
    layer = catanet.LocalAttention(8, 4, 8, 16)
    torch.nn.init.normal_(layer.layer[0].fn.proj.weight)
    height, width = 30, 21
    x = torch.randn(1, 8, height, width)
    total, weight = torch.zeros_like(x), torch.zeros(height, width)
    with torch.no_grad():
        for top in (0, 14):
            for left in (0, 5):
                place = (..., slice(top, top + 16), slice(left, left + 16))
                tokens = x[place].flatten(2).transpose(1, 2)
                tokens = tokens + layer.layer[0](tokens)
                total[place] += tokens.transpose(1, 2).reshape(1, 8, 16, 16)
                weight[place[1:]] += 1
        mean = (total / weight).flatten(2).transpose(1, 2)
        expected = mean + layer.layer[1](mean, (height, width))
        found = layer(x.flatten(2).transpose(1, 2), (height, width))
    assert float((found - expected).abs().max()) < 1e-5


def test_tokens_of_a_group_come_together_and_go_back_to_their_places():
    """Alone in a group of its own, each token's attention to itself gives its value: the order must be undone."""
    torch.manual_seed(6)
    layer = catanet.TokenAggregation(8, 4, 8, centres=4, group=1).eval()
    tokens = torch.randn(2, 35, 8)
    inner = layer.iasa_attn
    order = torch.stack([torch.randperm(35), torch.randperm(35)])
    keys, values = layer.irca_attn(layer.means)
    with torch.no_grad():
        inner.to_k.weight.zero_()  # every key alike: the mean of a token's value and the next one's
        inner.proj.weight.copy_(torch.eye(8))
        found = inner(tokens, order, torch.zeros_like(keys), torch.zeros_like(values))
        for n in range(2):
            in_order = inner.to_v(tokens[n][order[n]])
            following = torch.cat([in_order[1:], in_order[-1:]])
            expected = torch.empty(35, 8)
            expected[order[n]] = (in_order + following) / 2
            assert float((found[n] - expected).abs().max()) < 1e-5


def test_tokens_are_sorted_by_their_nearest_centre_and_ties_keep_their_places():
    torch.manual_seed(7)
    layer = catanet.TokenAggregation(8, 4, 8, centres=5, group=16).eval()
    seen = []
    layer.iasa_attn.register_forward_pre_hook(lambda _, args: seen.append(args[:2]))
    with torch.no_grad():
        layer(torch.randn(1, 42, 8), (6, 7))
    normed, order = seen[0][0][0], seen[0][1][0]
    nearest = (F.normalize(normed, dim=1) @ F.normalize(layer.means, dim=1).T).argmax(1)
    assert torch.equal(order, torch.sort(nearest, stable=True).indices)


def test_the_centres_are_learned_in_training_and_kept_in_evaluation():
    module = fresh("catanet")
    block = module.blocks[0][0]
    before = block.means.clone()
    run(module, 20, 20)
    assert torch.equal(block.means, before) and not block.initted
    module.train()(torch.rand(2, 3, 20, 20))
    first = block.means.clone()
    assert block.initted and torch.allclose(first.norm(dim=1), torch.ones(16), atol=1e-5)
    module(torch.rand(2, 3, 20, 20))
    moved = float((block.means - first).norm(dim=1).max())
    assert 0 < moved < 0.0021  # 1/1000 of the way to another unit vector
