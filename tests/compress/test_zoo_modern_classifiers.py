"""DeiT, Swin, ConvNeXt, InceptionNeXt, CAS-ViT, LSNet and AFFNet: sizes, timm's twins, forms, refusals."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import nn

from compress.errors import WeightsError
from compress.methods.reparameterize import mergeable, merged
from compress.models.affnet import Fourier
from compress.models.inception_next import fold, fold_before
from compress.models.lsnet import GroupNorm, Ska
from compress.network import CLASSIFICATION
from compress.registry import MODELS

FILE = Path("w.pth")
NAMES = ["deit-tiny", "swin-tiny", "convnext-tiny", "inception-next-tiny", "cas-vit-xs", "lsnet-t", "affnet"]
SMALL = {
    "deit-tiny": {"input_size": 16, "patch": 4, "width": 16, "depth": 2},
    "swin-tiny": {"input_size": 32, "patch": 2, "width": 16, "depths": (2, 1, 2), "window": 4},
    "convnext-tiny": {"input_size": 32, "patch": 2, "widths": (8, 16, 24), "depths": (1, 2, 1)},
    "inception-next-tiny": {"input_size": 32, "patch": 2, "widths": (16, 24, 32), "depths": (1, 2, 1)},
    "cas-vit-xs": {"input_size": 32, "patch": 2, "widths": (8, 16, 24), "depths": (1, 2, 1)},
    "lsnet-t": {"input_size": 32, "patch": 2, "widths": (8, 16, 24, 32), "depths": (1, 2, 2, 2)},
    "affnet": {"input_size": 32, "widths": (8, 8, 16, 16, 24), "depths": (1, 2, 1, 2, 1)},
}
# at 1000 classes: timm's and the authors' modules; LSNet's also in its training log (logs/lsnet_t.log)
PUBLISHED = {
    "deit-tiny": 5_717_416,
    "swin-tiny": 28_288_354,
    "convnext-tiny": 28_589_128,
    "inception-next-tiny": 28_055_680,
    "cas-vit-xs": 2_979_700,
    "lsnet-t": 11_409_832,
    "affnet": 1_436_264,
}
MERGING = ["convnext-tiny", "inception-next-tiny", "cas-vit-xs", "lsnet-t", "affnet"]
ANY_SIZE = ["convnext-tiny", "inception-next-tiny", "cas-vit-xs"]
TIMM = {
    "deit-tiny": (
        "deit_tiny_patch16_224",
        {"img_size": 16, "patch_size": 4, "embed_dim": 128, "num_heads": 2, "depth": 2},
    ),
    "swin-tiny": (
        "swin_tiny_patch4_window7_224",
        {
            "img_size": 32,
            "patch_size": 2,
            "window_size": 4,
            "embed_dim": 32,
            "depths": (2, 2, 2),
            "num_heads": (1, 2, 4),
        },
    ),
    "convnext-tiny": ("convnext_tiny", {"dims": (8, 16, 24, 32), "depths": (1, 2, 1, 1)}),
    "inception-next-tiny": ("inception_next_tiny", {"dims": (16, 24, 32, 40), "depths": (1, 2, 1, 1)}),
}


def build(name, seed=0, **sizes):
    torch.manual_seed(seed)
    return MODELS[name].build(**{**SMALL[name], **sizes})


def lively(module):
    """Every value drawn anew, statistics of the norms too, so that no branch is silent; in evaluation mode."""
    torch.manual_seed(1)
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            parameter.data = torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5
        else:
            parameter.data = torch.rand_like(parameter) * 0.5 + (0.5 if name.endswith(("weight", "gamma")) else 0.0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 1.5)
    return module.eval()


def images(side, number=2, channels=3, seed=0):
    return torch.rand(number, channels, side, side, generator=torch.Generator().manual_seed(seed))


def run(module, x):
    with torch.inference_mode():
        return module(x)


def difference(a, b):
    return float((a - b).abs().max())


def relative(found, expected):
    return difference(found, expected) / float(expected.abs().max())


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", NAMES)
def test_a_published_size_has_the_published_number_of_parameters(name):
    with torch.device("meta"):
        module = MODELS[name].build(classes=1000)
    assert sum(p.numel() for p in module.parameters()) == PUBLISHED[name]
    assert MODELS[name].input_size in ((224, 224), (256, 256))


@pytest.mark.parametrize(
    ("name", "sizes", "parameters"),
    [
        ("deit-tiny", {"distilled": True}, 5_910_800),  # timm's deit_tiny_distilled_patch16_224
        ("cas-vit-xs", {"distilled": True}, 3_200_700),  # the 3.20 M of the authors' table
        ("cas-vit-xs", {"widths": (48, 64, 128, 256), "depths": (3, 3, 6, 3), "distilled": True}, 5_764_224),
        ("lsnet-t", {"widths": (96, 192, 320, 448), "depths": (1, 2, 8, 10)}, 16_146_304),
        ("affnet", {"widths": (32, 64, 128, 256, 320), "expansion": 4}, 5_568_696),
    ],
)
def test_other_published_sizes_are_within_reach(name, sizes, parameters):
    with torch.device("meta"):
        module = MODELS[name].build(classes=1000, **sizes)
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize("name", NAMES)
def test_a_small_network_is_a_classifier_that_can_be_trained(name):
    family, module = MODELS[name], build(name, classes=7)
    assert family.task == CLASSIFICATION and "arXiv" in family.title and module.training
    side = SMALL[name]["input_size"]
    assert (module.classes, module.channels, module.input_size) == (7, 3, (side, side))
    logits = module(images(side, 4))
    assert logits.shape == (4, 7) and logits.isfinite().all()
    F.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_an_image_comes_out_the_same_alone_and_in_a_batch(name):
    module, x = lively(build(name)), images(SMALL[name]["input_size"], 3)
    assert relative(run(module, x)[1:2], run(module, x[1:2])) < 1e-5


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize("size", [(32, 32), (41, 35), (16, 50)])
def test_convolutional_networks_take_images_of_any_size(name, size):
    assert run(lively(build(name)), torch.rand(1, 3, *size)).shape == (1, 10)


@pytest.mark.parametrize("name", NAMES)
def test_the_global_seed_decides_the_first_values(name):
    states = [build(name, seed).state_dict() for seed in (1, 1, 2)]
    assert same(states[0], states[1]) and not same(states[0], states[2])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_brings_back_the_network(name, channels):
    family, module = MODELS[name], lively(build(name, channels=channels, classes=5))
    state = module.state_dict()
    assert family.recognises(state)
    again = family.from_state(state, FILE)
    assert not again.training and same(again.state_dict(), state)
    contract = ("classes", "channels", "input_size")
    assert [getattr(again, k) for k in contract] == [getattr(module, k) for k in contract]
    x = images(SMALL[name]["input_size"], channels=channels)
    assert torch.equal(run(again, x), run(module, x))


@pytest.mark.parametrize("name", ["deit-tiny", "cas-vit-xs", "lsnet-t"])
def test_a_distilled_network_averages_its_two_heads(name):
    module = lively(build(name, distilled=True))
    x = images(SMALL[name]["input_size"])
    together = run(module, x)
    assert torch.equal(run(MODELS[name].from_state(module.state_dict(), FILE), x), together)
    heads = [head for part, head in module.named_children() if "head" in part]
    assert len(heads) == 2
    parts = []
    for silent in heads:
        saved = {k: v.clone() for k, v in silent.state_dict().items()}
        for parameter in silent.parameters():
            parameter.data.zero_()
        parts.append(run(module, x))
        silent.load_state_dict(saved)
    assert difference(parts[0] + parts[1], together) < 1e-5


@pytest.mark.parametrize("name", ["convnext-tiny", "inception-next-tiny", "cas-vit-xs", "lsnet-t", "affnet"])
def test_only_another_side_than_the_published_one_is_in_the_checkpoint(name):
    assert build(name).state_dict()["input_side"] == 32
    module = build(name, input_size=MODELS[name].input_size[0])
    assert "input_side" not in module.state_dict()
    again = MODELS[name].from_state(module.state_dict(), FILE)
    assert again.input_size == MODELS[name].input_size


@pytest.mark.parametrize("name", MERGING)
def test_the_merged_form_is_equal_at_borders_too_and_loads(name):
    module = lively(build(name))
    plain = merged(module).eval()
    assert mergeable(module) and not mergeable(plain)
    x = images(SMALL[name]["input_size"])
    expected = run(module, x)
    assert relative(run(plain, x), expected) < 1e-5
    assert MODELS[name].recognises(plain.state_dict())
    again = MODELS[name].from_state(plain.state_dict(), FILE)
    assert same(again.state_dict(), plain.state_dict()) and torch.equal(run(again, x), run(plain, x))
    assert same(merged(again).state_dict(), plain.state_dict()), "merging twice changes nothing"


@pytest.mark.parametrize("name", ["inception-next-tiny", "cas-vit-xs", "lsnet-t", "affnet"])
def test_merging_leaves_only_the_normalisations_that_stand_alone(name):
    left = [n for n, m in merged(build(name)).named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    allowed = {"inception-next-tiny": [], "cas-vit-xs": ["norm"], "affnet": []}
    if name == "lsnet-t":  # after the dynamic kernels there is no convolution to fold into
        assert left and all(n.endswith("mixer.bn") for n in left)
    else:
        assert left == allowed[name]


@pytest.mark.parametrize(("name", "other"), itertools.permutations(NAMES, 2))
def test_no_family_takes_the_checkpoint_of_another(name, other):
    for form in (build(other), merged(build(other))):
        assert not MODELS[name].recognises(form.state_dict())
    with pytest.raises(WeightsError, match=r"w\.pth are not .*expected .*found .*--model"):
        MODELS[name].from_state(build(other).state_dict(), FILE)


@pytest.mark.parametrize("name", NAMES)
def test_no_other_registered_family_recognises_these_checkpoints(name):
    states = [build(name).state_dict(), merged(build(name)).state_dict()]
    assert [n for n in MODELS for state in states if n != name and MODELS[n].recognises(state)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_checkpoint_is_refused_with_the_names_of_what_is_wrong(name):
    state = build(name).state_dict()
    last = list(state)[-1]
    with pytest.raises(WeightsError, match=f"missing: {last}"):
        MODELS[name].from_state({k: v for k, v in state.items() if k != last}, FILE)
    with pytest.raises(WeightsError, match="unexpected: extra"):
        MODELS[name].from_state({**state, "extra": torch.zeros(1)}, FILE)
    with pytest.raises(WeightsError, match=r"lstm"):
        MODELS[name].from_state({"lstm.weight": torch.zeros(3, 3)}, FILE)


@pytest.mark.parametrize("name", list(TIMM))
def test_a_checkpoint_of_timm_gives_the_same_logits(name, timm):
    architecture, sizes = TIMM[name]
    theirs = lively(timm.create_model(architecture, pretrained=False, num_classes=11, **sizes))
    ours = MODELS[name].from_state(theirs.state_dict(), FILE)
    if name in ("deit-tiny", "swin-tiny"):  # their tensors tell the size
        assert ours.input_size == (sizes["img_size"], sizes["img_size"])
    x = images(sizes.get("img_size", 64))
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = run(theirs, (x - mean) / deviation)
    assert float((expected[0] - expected[1]).abs().max()) > 1e-2, "the images make a difference"
    assert difference(run(ours, x), expected) < 1e-4


def test_the_published_size_of_timm_loads_and_gives_the_same_logits(timm):
    theirs = timm.create_model("deit_tiny_patch16_224", pretrained=False).eval()
    ours = MODELS["deit-tiny"].from_state(theirs.state_dict(), FILE)
    x = images(224, 1)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert ours.input_size == (224, 224)
    assert difference(run(ours, x), run(theirs, (x - mean) / deviation)) < 1e-4


def test_swin_renames_the_checkpoints_of_its_authors():
    module = lively(build("swin-tiny"))
    theirs = {}
    for name, value in module.state_dict().items():
        parts = name.split(".")
        if "downsample" in name:  # at the end of the stage before
            parts[1] = str(int(parts[1]) - 1)
        theirs[".".join(parts).replace("head.fc.", "head.")] = value
    theirs["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    theirs["layers.0.blocks.1.attn_mask"] = torch.zeros(16, 16, 16)
    assert MODELS["swin-tiny"].recognises(theirs)
    x = images(32)
    assert torch.equal(run(MODELS["swin-tiny"].from_state(theirs, FILE), x), run(module, x))


def test_convnext_renames_the_checkpoints_of_its_authors():
    module = lively(build("convnext-tiny"))
    theirs = {}
    for name, value in module.state_dict().items():
        name = name.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".")
        if ".downsample." in name:
            name = name.replace("stages.", "downsample_layers.").replace(".downsample.", ".")
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        theirs[name.replace("head.norm", "norm").replace("head.fc", "head")] = value
    assert MODELS["convnext-tiny"].recognises(theirs)
    x = images(32)
    assert torch.equal(run(MODELS["convnext-tiny"].from_state(theirs, FILE), x), run(module, x))


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("deit-tiny", {"input_size": 30}, "multiple of patch"),
        ("deit-tiny", {"width": 200}, "multiple of 64"),
        ("swin-tiny", {"input_size": 48}, "at most 32"),
        ("swin-tiny", {"input_size": 36}, "multiple of 8"),
        ("swin-tiny", {"input_size": 24}, "multiple of window"),
        ("inception-next-tiny", {"widths": (4, 8, 8)}, "at least 8"),
        ("cas-vit-xs", {"patch": 8}, "patch 8"),
        ("lsnet-t", {"patch": 3}, "patch 3"),
        ("lsnet-t", {"depths": (1, 1, 1, 1)}, "at least 2"),
        ("affnet", {"widths": (8, 8, 12, 16, 16)}, "multiple of 8"),
    ],
)
def test_impossible_sizes_are_refused_in_words(name, sizes, message):
    with pytest.raises(ValueError, match=message):
        build(name, **sizes)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2), (5, 8), (8, 5), (7, 7), (32, 32)])
def test_the_fourier_transform_by_products_is_torchs(size):
    height, width = size
    fourier = Fourier(height, width)
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    expected = torch.fft.rfft2(x, norm="ortho")
    found = fourier(x).reshape(2, 3, width // 2 + 1, 2, height)
    assert difference(found[:, :, :, 0].transpose(2, 3), expected.real) < 1e-5
    assert difference(found[:, :, :, 1].transpose(2, 3), expected.imag) < 1e-5
    # a spectrum that is no real image's: the inverse must drop the same parts
    filtered = torch.complex(torch.randn(expected.shape), torch.randn(expected.shape))
    held = torch.cat([filtered.real, filtered.imag], 2).transpose(2, 3).reshape(6, width // 2 + 1, 2 * height)
    back = torch.fft.irfft2(filtered, s=size, norm="ortho")
    assert difference(fourier.back(held).reshape(x.shape), back) < 1e-5


def test_the_frequency_filter_is_the_published_one():
    torch.manual_seed(0)
    block = build("affnet").get_submodule("layer_3.1.global_rep.0.filter")
    for parameter in block.parameters():
        parameter.data.normal_(0, 0.5)
    x = torch.randn(2, 16, 8, 8)
    spectrum = torch.fft.rfft2(x, norm="ortho")
    z = spectrum.reshape(2, 8, 2, 8, 5)
    first, second = (torch.complex(*w.detach()) for w in (block.w1, block.w2))
    offsets = [torch.complex(*b.detach())[:, :, None, None] for b in (block.b1, block.b2)]
    hidden = torch.einsum("bkihw,kio->bkohw", z, first) + offsets[0]
    hidden = torch.complex(F.silu(hidden.real), F.silu(hidden.imag))
    mask = torch.einsum("bkihw,kio->bkohw", hidden, second) + offsets[1]
    mask = torch.complex(F.softshrink(mask.real, 0.01), F.softshrink(mask.imag, 0.01)).reshape(spectrum.shape)
    expected = x + torch.fft.irfft2(mask * spectrum, s=(8, 8), norm="ortho")
    assert relative(run(block, x), expected) < 1e-5
    assert relative(run(block.merge(), x), expected) < 1e-5


def test_small_kernel_aggregation_reads_as_the_authors_kernel_does():
    torch.manual_seed(0)
    x, taps = torch.randn(2, 16, 5, 4), torch.randn(2, 2 * 9, 5, 4)
    padded = F.pad(x, (1, 1, 1, 1))
    expected = torch.zeros_like(x)
    for channel, row, column in itertools.product(range(16), range(5), range(4)):
        kernel = taps[:, channel % 2 * 9 : channel % 2 * 9 + 9, row, column].reshape(2, 3, 3)
        patch = padded[:, channel, row : row + 3, column : column + 3]
        expected[:, channel, row, column] = (kernel * patch).sum((1, 2))
    assert difference(Ska()(x, taps), expected) < 1e-5


@pytest.mark.parametrize("groups", [1, 3])
def test_group_normalisation_by_rows_is_torchs(groups):
    torch.manual_seed(0)
    ours, theirs = GroupNorm(groups, 12), nn.GroupNorm(groups, 12)
    for parameter in ours.parameters():
        parameter.data.normal_()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 12, 5, 7) * 3 + 1
    assert difference(run(ours, x), run(theirs, x)) < 1e-5


def test_normalisations_fold_into_layers_after_and_before_them():
    torch.manual_seed(0)
    norm, x = lively(nn.BatchNorm2d(6)), torch.randn(2, 6, 7, 5)
    for layer in (nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False)):
        assert difference(run(fold(layer, norm), x), run(norm, run(layer, x))) < 1e-5
    for layer in (nn.Conv2d(6, 4, 1, bias=False), nn.Conv2d(6, 4, 2, 2)):
        assert difference(run(fold_before(norm, layer), x), run(layer, run(norm, x))) < 1e-5
    flat, line = lively(nn.BatchNorm1d(6)), nn.Linear(6, 3)
    assert difference(run(fold_before(flat, line), x[:, :, 0, 0]), run(line, run(flat, x[:, :, 0, 0]))) < 1e-5
    with pytest.raises(ValueError, match="padded or grouped"):
        fold_before(norm, nn.Conv2d(6, 6, 3, padding=1))
    with pytest.raises(TypeError, match="Identity"):
        fold(nn.Conv2d(6, 6, 1), nn.Identity())
