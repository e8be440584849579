"""IMDN, RFDN, EFDN, RLFN: published sizes and scores, merging, checkpoints, IMDN's adaptive cropping."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from hypothesis import given
from hypothesis import strategies as st

from compress.data.folder import pairs
from compress.errors import WeightsError
from compress.evaluate import score, to_uint8
from compress.methods.reparameterize import merged
from compress.models import efdn, imdn, rfdn, rlfn
from compress.registry import MODELS
from compress.weights import read

EFDN_X4 = "data/weights/sr/ntire2025/team00_EFDN.pth"
EFDN_X2 = "data/weights/sr/efdn/EFDNx2_baseline.pth"
RFDN_X4 = "data/weights/sr/rfdn/RFDN_AIM.pth"
SMALL = {
    "efdn": (efdn, {"channels": 8}),
    "imdn": (imdn, {"channels": 8, "blocks": 2}),
    "rfdn": (rfdn, {"channels": 8, "blocks": 2}),
    "rlfn": (rlfn, {"channels": 8, "blocks": 2, "middle": 10, "attention": 4}),
}
every_family = pytest.mark.parametrize("name", SMALL)


def fresh(name, seed=0, **sizes):
    module, small = SMALL[name]
    torch.manual_seed(seed)
    return module.build(**{**small, **sizes})


def image(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def output(module, x):
    with torch.inference_mode():
        return module.eval()(x)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def scores(module, folder):
    found = []
    for pair in pairs(folder, module.scale):
        lr, hr = pair.load()
        x = torch.from_numpy(lr / np.float32(255)).permute(2, 0, 1)[None]
        found.append(score(to_uint8(output(module, x)[0].permute(1, 2, 0).numpy()), hr, module.scale).psnr)
    return float(np.mean(found))


# published sizes


@pytest.mark.parametrize(
    ("module", "sizes", "expected"),
    [  # EFDN's and RFDN's README; IMDN and RLFN: the tensors of the checkpoints in the authors' repositories
        (imdn, {"scale": 2}, 694_404),
        (imdn, {"scale": 3}, 703_059),
        (imdn, {"scale": 4}, 715_176),
        (rfdn, {"scale": 4}, 433_448),
        (rlfn, {"scale": 2}, 526_856),
        (rlfn, {"scale": 4}, 543_740),
        (rlfn, {"scale": 4, "channels": 46, "middle": 48, "blocks": 4}, 317_218),
    ],
)
def test_the_default_sizes_have_the_published_number_of_parameters(module, sizes, expected):
    assert parameters(module.build(**sizes)) == expected


def test_the_small_rlfn_has_the_published_number_of_parameters():
    assert [parameters(rlfn.build_small(scale=scale)) for scale in (2, 4)] == [454_620, 470_208]


def test_the_merged_efdn_has_the_published_number_of_parameters():
    assert [parameters(merged(efdn.build(scale=scale))) for scale in (2, 4)] == [260_604, 276_192]


# fresh networks


@every_family
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_image_of_any_odd_size_is_enlarged_by_the_scale(name, scale):
    module = fresh(name, scale=scale)
    assert module.training and module.scale == scale
    for height, width in ((15, 15), (17, 23), (32, 21)):
        assert output(module, image(height, width)).shape == (1, 3, scale * height, scale * width)


@every_family
def test_fresh_values_follow_the_seed(name):
    first, same, other = (fresh(name, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[k], same[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


@every_family
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_fresh_network_enlarges_bilinearly_but_for_a_faint_residual(name, scale, photo):
    x = torch.from_numpy(photo(24, 28) / np.float32(255)).permute(2, 0, 1)[None]
    module = fresh(name, scale=scale)
    expected = F.interpolate(x, scale_factor=scale, mode="bilinear")
    inside = (..., slice(scale, -scale), slice(scale, -scale))  # the 3x3 kernels see the padding at the border
    assert float((output(module, x) - expected)[inside].pow(2).mean().sqrt()) < 0.1
    with torch.no_grad():
        (module.tail if name == "efdn" else module.upsampler)[0].weight[:, 3:] = 0.0
    # without the other channels it is exact up to float32
    assert float((output(module, x) - expected)[inside].abs().max()) < 1e-5


@every_family
def test_every_parameter_gets_a_gradient(name):
    module = fresh(name)
    module(image(24, 24)).square().mean().backward()
    without = [k for k, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


@every_family
def test_one_grey_gives_finite_gradients(name):
    """IMDN's attention takes the root of the variance, whose slope at 0 is infinite."""
    module = fresh(name)
    module(torch.zeros(1, 3, 24, 24)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


@every_family
def test_too_few_channels_are_refused(name):
    with pytest.raises(ValueError, match="channels 2"):
        fresh(name, channels=2)


def test_imdn_needs_channels_that_can_be_quartered():
    with pytest.raises(ValueError, match="channels 10: a quarter is distilled"):
        imdn.build(channels=10)


# checkpoints


@every_family
def test_a_state_dict_gives_the_same_network_again(name):
    for scale in (2, 4):
        module = fresh(name, scale=scale)
        again = SMALL[name][0].from_state(module.state_dict(), Path("w.pth"))
        assert again.scale == scale and not again.training
        assert torch.equal(output(again, image(16, 19)), output(module, image(16, 19)))


@every_family
def test_the_merged_form_gives_the_same_network_again(name):
    plain = merged(fresh(name))
    again = SMALL[name][0].from_state(plain.state_dict(), Path("w.pth"))
    assert torch.equal(output(again, image(16, 19)), output(plain, image(16, 19)))


@every_family
@pytest.mark.parametrize("other", SMALL)
def test_a_checkpoint_is_recognised_by_its_own_family_alone(name, other):
    state = fresh(other).state_dict()
    assert MODELS[name].recognises(state) == (name == other)
    if name == other:
        return
    with pytest.raises(WeightsError, match=rf"weights w.pth are not {name.upper()}'s: expected .*; found .*; choose"):
        SMALL[name][0].from_state(state, Path("w.pth"))


@every_family
def test_a_missing_tensor_is_named(name):
    state = dict(fresh(name).state_dict())
    gone = next(k for k in reversed(state) if k.endswith(("conv4.bias", "c4.bias")))
    del state[gone]
    with pytest.raises(WeightsError, match=f"missing: {gone}"):
        SMALL[name][0].from_state(state, Path("w.pth"))


@every_family
@pytest.mark.parametrize("shape", [(8, 1, 3, 3), (8,), (2, 3, 3, 3)], ids=["grey", "flat", "narrow"])
def test_a_first_tensor_of_another_shape_is_refused(name, shape):
    state = dict(fresh(name).state_dict())
    first = next(k for k in ("head.weight", "fea_conv.weight", "conv_1.weight") if k in state)
    state[first] = torch.zeros(shape)
    with pytest.raises(WeightsError, match=f"are not {name.upper()}'s"):
        SMALL[name][0].from_state(state, Path("w.pth"))


@every_family
def test_a_last_tensor_that_is_no_multiple_of_a_square_is_refused(name):
    state = dict(fresh(name).state_dict())
    last = "tail.0.weight" if name == "efdn" else "upsampler.0.weight"
    state[last] = torch.zeros(50, 8, 3, 3)
    with pytest.raises(WeightsError, match=r"3 \* scale \* scale"):
        SMALL[name][0].from_state(state, Path("w.pth"))


# EFDN's edge blocks


def after_1x1(branch, x):
    """A 1x1 convolution, its output framed by its bias (arXiv:2204.08759; unitv2.py)."""
    wide = F.conv2d(x, branch.k0, branch.b0)
    framed = branch.b0.view(1, -1, 1, 1).repeat(len(x), 1, x.shape[2] + 2, x.shape[3] + 2)
    framed[:, :, 1:-1, 1:-1] = wide
    return framed


def seven_branches(block, x):
    """The block's convolution, written out branch by branch."""
    total = block.rep_conv(x) + block.conv1x1(x) + x
    pair = block.conv1x1_3x3
    total = total + F.conv2d(after_1x1(pair, x), pair.k1, pair.b1)
    for edge in (block.conv1x1_sbx, block.conv1x1_sby, block.conv1x1_lpl):
        filters = edge.scale * edge.mask
        total = total + F.conv2d(after_1x1(edge, x), filters, edge.bias, groups=x.shape[1])
    return total


def edge_block(channels=5):
    torch.manual_seed(3)
    block = efdn.EdgeBlock(channels)
    with torch.no_grad():
        for edge in (block.conv1x1_sbx, block.conv1x1_sby, block.conv1x1_lpl):
            edge.scale.normal_()  # a fresh block has them small
            edge.bias.normal_()
        block.act.weight.uniform_()
    return block


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (9, 12)])
def test_an_edge_block_and_its_merged_form_equal_the_seven_branches(size):
    block, x = edge_block(), torch.randn(2, 5, *size) * 3
    with torch.no_grad():
        expected = block.act(seven_branches(block, x))
        tolerance = 1e-5 * float(expected.abs().max())
        assert float((block(x) - expected).abs().max()) < tolerance
        assert float((block.merge()(x) - expected).abs().max()) < tolerance


def test_an_edge_block_has_the_gradients_of_the_seven_branches():
    block = edge_block().double()
    x, weight = torch.randn(2, 5, 6, 7, dtype=torch.double), torch.randn(2, 5, 6, 7, dtype=torch.double)
    names, values = zip(*block.named_parameters(), strict=True)
    found = torch.autograd.grad((block(x) * weight).sum(), values)
    expected = torch.autograd.grad((block.act(seven_branches(block, x)) * weight).sum(), values)
    for name, a, b in zip(names, found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9), name


def test_the_frame_of_the_1x1_matters_at_the_border():
    """With zeros around it, as a padded convolution has them, no single kernel is exact; the twin must feel it."""
    block, x = edge_block(), torch.randn(1, 5, 6, 6)
    pair = block.conv1x1_3x3
    with torch.no_grad():
        zeros = F.conv2d(F.conv2d(x, pair.k0, pair.b0), pair.k1, pair.b1, padding=1)
        framed = F.conv2d(after_1x1(pair, x), pair.k1, pair.b1)
    assert torch.allclose(zeros[..., 1:-1, 1:-1], framed[..., 1:-1, 1:-1], atol=1e-6)
    assert float((zeros - framed).abs().max()) > 1e-2


def test_the_edge_filters_are_sobel_and_laplace():
    ramp = torch.arange(5.0).repeat(5, 1)[None, None]  # rises by one a column
    block = efdn.EdgeBlock(4)
    filters = {k: getattr(block, k).mask[:1] for k in ("conv1x1_sbx", "conv1x1_sby", "conv1x1_lpl")}
    inside = {k: F.conv2d(ramp, f).unique().tolist() for k, f in filters.items()}
    assert inside == {"conv1x1_sbx": [-8.0], "conv1x1_sby": [0.0], "conv1x1_lpl": [0.0]}
    assert F.conv2d(ramp.transpose(2, 3), filters["conv1x1_sby"]).unique().tolist() == [-8.0]
    assert F.conv2d(ramp**2, filters["conv1x1_lpl"]).unique().tolist() == [2.0]


def test_merging_efdn_is_exact_borders_included():
    torch.manual_seed(4)
    module = efdn.build(scale=2, channels=16)
    plain = merged(module)
    assert not any(isinstance(m, efdn.EdgeBlock) for m in plain.modules())
    assert plain.state_dict().keys() == efdn.Efdn(16, 2).state_dict().keys()
    assert float((output(plain, image(19, 21)) - output(module, image(19, 21))).abs().max()) < 1e-5


# attention


def test_imdn_weighs_channels_by_mean_plus_contrast():
    """With a gate that passes its input on, the factor is sigmoid(mean + standard deviation)."""
    torch.manual_seed(5)
    attention = imdn._ContrastAttention(4)
    x = torch.randn(2, 4, 7, 9)
    attention.conv_du = torch.nn.Sigmoid()
    expected = x * torch.sigmoid(x.mean((2, 3), keepdim=True) + x.std((2, 3), correction=0, keepdim=True))
    assert torch.allclose(attention(x), expected, atol=1e-6)


@pytest.mark.parametrize("slim", [False, True])
def test_the_spatial_attention_only_weakens(slim):
    torch.manual_seed(6)
    x = torch.randn(1, 8, 20, 33)
    factors = output(rfdn.Esa(8, 4, slim), x) / x
    assert float(factors.min()) > 0 and float(factors.max()) < 1


def test_networks_of_grey_levels_take_and_give_images():
    """RFDN and RLFN were trained on 0 to 255: a first bias of one level must not count as a whole range."""
    for name, first in (("rfdn", "fea_conv"), ("rlfn", "conv_1")):
        module = fresh(name)
        x = image(16, 16)
        before = output(module, x)
        with torch.no_grad():
            getattr(module, first).bias[0] += 1.0
        shift = (output(module, x) - before)[:, 0, 4:-4, 4:-4].mean()
        assert float(shift) == pytest.approx(1 / 255, rel=0.5), name


# adaptive cropping


def test_adaptive_crops_are_those_of_the_public_code():
    """1000 = 2 * 500; 500 + 32 is a multiple of 4.  333 // 2 + 32 = 198, rounded down to 196."""
    tiles = imdn.adaptive_crops(1000, 333)
    assert [(t.top, t.left, t.height, t.width) for t in tiles] == [
        (0, 0, 532, 196),
        (0, 137, 532, 196),
        (468, 0, 532, 196),
        (468, 137, 532, 196),
    ]
    assert [(t.keep_top, t.keep_left, t.keep_bottom, t.keep_right) for t in tiles] == [
        (0, 0, 500, 166),
        (0, 166, 500, 333),
        (500, 0, 1000, 166),
        (500, 166, 1000, 333),
    ]


@given(st.integers(8, 300), st.integers(8, 300), st.integers(8, 40), st.sampled_from([1, 2, 4, 8]))
def test_adaptive_crops_keep_each_pixel_once_in_windows_of_the_unit(height, width, overlap, unit):
    kept = np.zeros((height, width), int)
    for t in imdn.adaptive_crops(height, width, overlap, unit):
        assert t.height % unit == t.width % unit == 0
        assert 0 <= t.top <= t.keep_top < t.keep_bottom <= t.top + t.height <= height
        assert 0 <= t.left <= t.keep_left < t.keep_right <= t.left + t.width <= width
        kept[t.keep_top : t.keep_bottom, t.keep_left : t.keep_right] += 1
    assert (kept == 1).all()


@given(st.integers(72, 400), st.integers(72, 400))
def test_adaptive_crops_reach_over_the_middle_by_the_overlap(height, width):
    for t in imdn.adaptive_crops(height, width):
        over = (t.top + t.height - height // 2) if t.top == 0 else height // 2 - t.top
        aside = (t.left + t.width - width // 2) if t.left == 0 else width // 2 - t.left
        assert 28 <= over <= 32 and 28 <= aside <= 32  # 32 less rounding and the odd pixel


@pytest.mark.parametrize("arguments", [(3, 100), (100, 3), (100, 100, 3)])
def test_adaptive_crops_that_cannot_cover_are_refused(arguments):
    with pytest.raises(ValueError, match="each must be at least 4"):
        imdn.adaptive_crops(*arguments)


# official weights


@pytest.mark.parametrize(
    ("name", "weights", "folder", "parameter_count", "expected"),
    [
        ("efdn", EFDN_X4, "Set5", 276_192, 32.076),
        ("efdn", EFDN_X4, "Set14", 276_192, 28.582),
        ("efdn", EFDN_X2, "Set5", 260_604, 37.938),
        ("rfdn", RFDN_X4, "Set5", 433_448, 32.159),
    ],
)
def test_official_weights_score_what_they_are_known_for(shared, name, weights, folder, parameter_count, expected):
    module = SMALL[name][0].from_state(read(shared / weights), shared / weights)
    assert parameters(module) == parameter_count
    assert scores(module, shared / "data/sr" / folder) == pytest.approx(expected, abs=0.005)


def test_families_say_where_they_come_from():
    for name in (*SMALL, "rlfn-s"):
        family = MODELS[name]
        assert "arXiv:" in family.title and family.task == "super-resolution"
        assert inspect.signature(family.build).parameters["scale"].default == 4
