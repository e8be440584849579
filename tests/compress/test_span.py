"""SPAN: against its description written out, against the published checkpoints, and what other files are told."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)

from compress import zoo
from compress.data.folder import pairs
from compress.errors import WeightsError
from compress.evaluate import score, to_uint8
from compress.methods.reparameterize import merged
from compress.models.span import Conv3XC, Span, build
from compress.weights import read, write

CHECKPOINT = "data/weights/sr/span/spanx4_ch48_deploy_fp16rounded.pth"
NTIRE = "data/weights/sr/ntire2025/team46_span.pth"


def relative(found, expected):
    """Largest difference, as a share of the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max())


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def in_double(module):
    """In double precision, the mean too: the module holds it rounded to float32."""
    module = module.double()
    module.mean.copy_(torch.tensor([0.4488, 0.4371, 0.4040], dtype=torch.double).view(1, 3, 1, 1))
    return module


@pytest.fixture
def small(tmp_path):
    """A random narrow network and a function that saves its (changed) tensors."""
    torch.manual_seed(0)
    module = Span(8, 4).eval()

    def save(**changes):
        state = {k: v for k, v in {**module.state_dict(), **changes}.items() if v is not None}
        write(tmp_path / "span.safetensors", state, {})
        return tmp_path / "span.safetensors"

    return module, save


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (9, 12)])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 48), (48, 48), (5, 2)])
def test_the_training_form_equals_the_expanded_path(reference, inputs, outputs, size):
    torch.manual_seed(1)
    layer = Conv3XC(inputs, outputs)
    state = {f"x.{k}": v for k, v in layer.state_dict().items()}
    x = torch.randn(2, inputs, *size) * 10
    with torch.no_grad():
        found, merged_form = layer(x), layer.merge()(x)
        expected = reference("slow_span").conv3xc(state, "x", x)
    # 1e-5: float32 has 1.2e-7, and the sums run over some hundred terms in another order
    assert relative(found, expected) < 1e-5
    assert relative(merged_form, expected) < 1e-5
    ring = torch.ones(size, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    assert relative(found[..., ring], expected[..., ring]) < 1e-5


def test_the_bias_of_the_first_1x1_matters_at_the_border(reference):
    """If the padding came after the first 1x1, a merged kernel could not be exact; the twin must feel it."""
    torch.manual_seed(1)
    layer = Conv3XC(3, 4)
    state = {f"x.{k}": v for k, v in layer.state_dict().items()}
    x = torch.randn(1, 3, 5, 5)
    first, middle, last = layer.conv
    with torch.no_grad():
        late = last(F.conv2d(F.pad(first(x), (1, 1, 1, 1)), middle.weight, middle.bias)) + layer.sk(x)
        expected = reference("slow_span").conv3xc(state, "x", x)
    assert relative(late[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1]) < 1e-5
    assert relative(late, expected) > 1e-2


def test_the_training_form_has_the_gradients_of_the_expanded_path(reference):
    torch.manual_seed(2)
    layer = Conv3XC(4, 6).double()
    names, values = zip(*layer.named_parameters(), strict=True)
    state = {f"x.{k}": v for k, v in layer.named_parameters()}
    x, weight = torch.randn(2, 4, 6, 5, dtype=torch.double), torch.randn(2, 6, 6, 5, dtype=torch.double)
    found = torch.autograd.grad((layer(x) * weight).sum(), values)
    expected = torch.autograd.grad((reference("slow_span").conv3xc(state, "x", x) * weight).sum(), values)
    for name, a, b in zip(names, found, expected, strict=True):
        assert relative(a, b) < 1e-10, name  # double precision


@pytest.mark.parametrize("trainable", [True, False], ids=["training", "deploy"])
@pytest.mark.parametrize(("scale", "tail"), [(2, 8), (3, 8), (4, 5)])
def test_the_forward_pass_equals_the_description(reference, trainable, scale, tail):
    torch.manual_seed(3)
    module = in_double(Span(8, scale, tail, trainable).eval())
    x = torch.rand(2, 3, 7, 10, dtype=torch.double)
    with torch.no_grad():
        found = module(x)
        assert found.shape == (2, 3, 7 * scale, 10 * scale)
        assert relative(found, reference("slow_span").span(module.state_dict(), x)) < 1e-10  # double precision


def test_the_fourth_part_of_the_fusion_is_block_6_after_silu(reference):
    """The description's catch: pre-activation costs 8 dB with the official weights."""
    torch.manual_seed(3)
    module = Span(8, 4).eval()
    with torch.no_grad():
        module.conv_cat.weight[:, :24] = 0.0
        module.conv_cat.weight[:, 24:] = torch.eye(8)[..., None, None]
        module.conv_cat.bias.zero_()
        seen = []
        module.upsampler.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        module(torch.rand(1, 3, 12, 12))
    assert seen[0].min() > -0.2785  # the minimum of SiLU is -0.27846


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_merging_is_exact(scale):
    torch.manual_seed(4)
    module = Span(16, scale, trainable=True).eval()
    module.start_from_interpolation()
    plain = merged(module)
    assert not any(isinstance(m, Conv3XC) for m in plain.modules())
    assert plain.state_dict().keys() == Span(16, scale).state_dict().keys()
    x = torch.rand(1, 3, 13, 11)
    with torch.no_grad():
        assert float((plain(x) - module(x)).abs().max()) < 1e-5  # outputs are in [0, 1]


def distance_to_bilinear(module, x):
    """Of each output, away from the border, where 3x3 kernels see the padding."""
    scale = module.scale
    with torch.no_grad():
        difference = module(x) - F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    return difference[..., 2 * scale : -2 * scale, 2 * scale : -2 * scale]


@pytest.mark.parametrize("trainable", [True, False], ids=["training", "deploy"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_fresh_network_enlarges_bilinearly(scale, trainable, photo):
    torch.manual_seed(5)
    module = Span(32, scale, trainable=trainable).eval()
    module.start_from_interpolation()
    x = torch.from_numpy(photo(24, 28) / np.float32(255)).permute(2, 0, 1)[None]
    # the random blocks add noise: measured 0.006 to 0.024 over four seeds
    assert float(distance_to_bilinear(module, x).pow(2).mean().sqrt()) < 0.04
    with torch.no_grad():
        module.conv_cat.weight[:3, 32:] = 0.0
        module.upsampler[0].weight[:, 3:] = 0.0
    # without them it is exact up to float32: measured 4e-7
    assert float(distance_to_bilinear(module, x).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("channels", "scale", "expected"),
    [(52, 2, 481_324), (52, 3, 488_359), (52, 4, 498_208), (48, 2, 410_700), (48, 4, 426_288), (28, 4, 150_688)],
)
def test_the_deploy_form_has_the_published_number_of_parameters(channels, scale, expected):
    assert parameters(Span(channels, scale)) == expected


def scores(module, folder):
    found = []
    for pair in pairs(folder, module.scale):
        lr, hr = pair.load()
        with torch.inference_mode():
            x = torch.from_numpy(lr / np.float32(255)).permute(2, 0, 1)[None]
            found.append(score(to_uint8(module(x)[0].permute(1, 2, 0).numpy()), hr, module.scale).psnr)
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("weights", "parameter_count", "expected"),
    [
        (CHECKPOINT, 426_288, {"Set5": 32.203, "Set14": 28.642}),
        (NTIRE, 146_328, {"Set5": 31.736, "Set14": 28.403}),
    ],
    ids=["official-48", "ntire2025-28"],
)
def test_published_checkpoints_score_what_they_are_known_for(shared, weights, parameter_count, expected):
    network = zoo.load("span", shared / weights)
    assert (network.name, network.scale, network.channels) == ("span", 4, 3)
    assert not network.weights.builtin and not network.module.training
    assert parameters(network.module) == parameter_count
    for name, psnr in expected.items():
        assert scores(network.module, shared / "data/sr" / name) == pytest.approx(psnr, abs=0.005)


def test_a_published_checkpoint_equals_the_description(shared, reference):
    module = in_double(zoo.load("span", shared / CHECKPOINT).module)
    x = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    with torch.no_grad():
        found, expected = module(x), reference("slow_span").span(module.state_dict(), x)
    assert relative(found, expected) < 1e-10  # double precision; in float32 the attention amplifies to 5e-5


def test_the_built_in_weights_are_x4_and_say_where_they_come_from():
    network = zoo.load("span")
    assert network.scale == 4 and network.weights.builtin and network.weights.path.is_file()
    assert len(network.weights.sha256) == 64


def test_a_checkpoint_of_the_training_form_is_loaded_in_it(tmp_path):
    """Upstream's files also hold merged kernels that are stale; they must not be taken."""
    torch.manual_seed(6)
    module = Span(8, 2, trainable=True).eval()
    state = module.state_dict()
    stale = {k.replace("sk.", "eval_conv."): torch.zeros(1) for k in state if ".sk." in k}
    torch.save({"params_ema": {**state, **stale}}, tmp_path / "w.pth")
    loaded = zoo.load("span", tmp_path / "w.pth", 2).module
    x = torch.rand(1, 3, 9, 9)
    with torch.no_grad():
        assert torch.equal(loaded(x), module(x))


def test_a_checkpoint_marked_no_norm_is_fed_unshifted(small, tmp_path):
    module, save = small
    loaded = zoo.load("span", save(no_norm=torch.zeros(1))).module
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert relative(loaded((x - module.mean) * 255.0), module(x)) < 1e-6  # the same numbers by the other way


def test_the_scale_is_read_off_the_weights(tmp_path):
    for scale in (2, 3, 4):
        write(tmp_path / "w.safetensors", Span(8, scale).state_dict(), {})
        assert zoo.load("span", tmp_path / "w.safetensors").scale == scale


def test_another_scale_than_that_of_the_weights_is_refused_with_the_cure(small):
    with pytest.raises(WeightsError, match=r"are for scale 4, --scale asks for 2; drop --scale, or give x2 weights"):
        zoo.load("span", small[1](), 2)
    with pytest.raises(WeightsError, match=r"--scale asks for 3; built in is x4 only: give --weights"):
        zoo.load("span", scale=3)


def test_weights_of_another_network_are_told_what_was_found_and_expected(shared):
    with pytest.raises(WeightsError, match=r"are not SPAN's: expected conv_1, .*; found B1, B2,"):
        zoo.load("span", shared / "data/weights/sr/rfdn/RFDN_AIM.pth")


def test_the_other_networks_of_the_collection_are_all_refused(shared):
    folder = shared / "data/weights/sr"
    others = [*folder.glob("efdn/*.pth"), *folder.glob("carn/*.pth"), folder / "ntire2025/team24_spanf.pth"]
    for path in others:
        with pytest.raises(WeightsError, match="are not SPAN's"):
            zoo.load("span", path)


@pytest.mark.parametrize("outputs", [48, 16], ids=["rgb-out", "grey-out"])
def test_weights_for_one_channel_are_told_so(small, outputs):
    module, save = small
    path = save(
        **{
            "conv_1.weight": module.conv_1.weight[:, :1].detach(),
            "upsampler.0.weight": torch.zeros(outputs, 8, 3, 3),
            "upsampler.0.bias": torch.zeros(outputs),
        }
    )
    with pytest.raises(WeightsError, match=r"take 1 channels, expected 3 \(RGB\)"):
        zoo.load("span", path)


def test_a_missing_block_is_named(small):
    path = small[1](**{"block_6.c3_r.bias": None})
    with pytest.raises(WeightsError, match=r"do not fit Span: missing: block_6\.c3_r\.bias; check"):
        zoo.load("span", path)


def test_more_blocks_than_span_has_are_named(small):
    path = small[1](**{"block_7.c1_r.weight": torch.zeros(8, 8, 3, 3)})
    with pytest.raises(WeightsError, match=r"unexpected: block_7\.c1_r\.weight"):
        zoo.load("span", path)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_training_form_starts_from_interpolation_at_the_published_width(scale, photo):
    torch.manual_seed(7)
    module = build(scale)
    assert module.training and module.scale == scale
    assert parameters(merged(module)) == parameters(Span(48, scale))
    x = torch.from_numpy(photo(24, 28) / np.float32(255)).permute(2, 0, 1)[None]
    assert float(distance_to_bilinear(module.eval(), x).pow(2).mean().sqrt()) < 0.04  # as above


def test_a_checkpoint_alone_is_recognised_in_all_its_forms(small, shared):
    names = [name.replace("sk.", "eval_conv.") for name in Span(8, 4, trainable=True).state_dict()]
    forms = [small[0].state_dict(), Span(8, 4, trainable=True).state_dict(), dict.fromkeys(names)]
    assert [zoo.recognise(form) for form in forms] == ["span"] * 3
    assert [zoo.recognise(read(shared / path)) for path in (CHECKPOINT, NTIRE)] == ["span"] * 2
