"""MACs, parameters and activations: by hand, by counting one at a time, and against published numbers."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from compress import zoo
from compress.cost import TOP, measure
from compress.errors import CompressError
from compress.methods.reparameterize import merged


class Function(nn.Module):
    """A function of the input as a network."""

    def __init__(self, work):
        super().__init__()
        self.work = work

    def forward(self, x):
        return self.work(x)


def by_name(module, shape):
    return {layer.name: layer for layer in measure(module, shape).layers}


@pytest.mark.parametrize(
    ("channels", "giga", "macs", "parameters"),
    [(48, 27.87, 27_868_004_352, 426_288), (28, 9.83, 9_833_807_872, 150_688)],
)
def test_span_has_its_published_cost(channels, giga, macs, parameters):
    found = measure(merged(zoo.fresh("span", scale=4, channels=channels).module), (1, 3, 256, 256))
    assert (found.macs, found.parameters, found.weight_bytes) == (macs, parameters, 4 * parameters)
    assert round(found.macs / 1e9, 2) == giga
    # first, 6 x 3 and last convolution, the 1x1 fusion: 21 outputs of C channels; and the 48 sub-pixels
    assert found.activation_bytes == 4 * 256 * 256 * (21 * channels + 48)
    assert [layer.name for layer in found.layers][:3] == ["conv_1", "block_1.c1_r", "block_1.c2_r"]
    assert found.layers[-1].kind == "PixelShuffle" and found.layers[-1].output_shape == (1, 3, 1024, 1024)


def test_span_at_the_size_of_the_papers():
    found = measure(merged(zoo.fresh("span", scale=4, channels=48).module), (1, 3, 180, 320))
    assert round(found.macs / 1e9, 2) == 24.49  # for a 1280 x 720 output


@pytest.mark.parametrize(
    ("name", "giga"), [("srresnet", 146), ("imdn", 40.9), ("rlfn", 29.8), ("carn", 90.9), ("carn-m", 32.5)]
)
def test_published_counts_of_other_networks(name, giga):
    module = merged(zoo.fresh(name, scale=4).module)
    found = measure(module, (1, 3, 180, 320))  # for a 1280 x 720 output, from the papers' tables
    assert found.macs / 1e9 == pytest.approx(giga, rel=2e-3)  # ours may write a resize as a small convolution
    assert found.parameters == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution(reference, stride, groups, kernel):
    layer = nn.Conv2d(4, 8, kernel, stride, padding=1, groups=groups)
    found = measure(layer, (2, 4, 7, 6))
    expected = reference("slow_cost").convolution((2, 4, 7, 6), tuple(layer.weight.shape), stride, 1, groups)
    assert found.macs == expected
    assert found.activation_bytes == 4 * math.prod(found.layers[0].output_shape)
    assert found.layers[0].name == TOP and found.layers[0].kind == "Conv2d"


def test_a_convolution_by_hand():
    layer = nn.Conv2d(3, 16, 3, stride=2, padding=1)
    found = measure(layer, (1, 3, 8, 8)).layers[0]
    assert found.macs == 16 * (4 * 4) * (3 * 9) == 6912
    assert found.parameters == 16 * 27 + 16 == 448 and found.weight_bytes == 1792
    assert found.output_shape == (1, 16, 4, 4) and found.activation_bytes == 16 * 16 * 4


def test_a_dilated_one_dimensional_and_a_three_dimensional_convolution():
    assert measure(nn.Sequential(nn.Flatten(2), nn.Conv1d(2, 5, 3, dilation=2)), (1, 2, 3, 4)).macs == 5 * 8 * 2 * 3
    assert measure(nn.Conv3d(2, 3, 2), (1, 2, 4, 5, 6)).macs == 3 * (3 * 4 * 5) * 2 * 8


@pytest.mark.parametrize(("stride", "groups", "kernel"), [(1, 1, 3), (2, 1, 4), (2, 2, 3), (4, 4, 9)])
def test_a_transposed_convolution(reference, stride, groups, kernel):
    layer = nn.ConvTranspose2d(4, 8, kernel, stride, padding=1, groups=groups)
    found = measure(layer, (1, 4, 5, 3))
    assert found.macs == reference("slow_cost").transposed((1, 4, 5, 3), tuple(layer.weight.shape))
    assert found.activation_bytes == 4 * math.prod(found.layers[0].output_shape)


def test_a_linear_layer_on_vectors_and_on_sequences(reference):
    vector = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    assert measure(vector, (2, 3, 2, 2)).macs == 2 * 12 * 5
    sequence = measure(nn.Linear(6, 5, bias=False), (2, 3, 4, 6))
    assert sequence.macs == reference("slow_cost").product_of_matrices((2, 3, 4, 6), (6, 5)) == 720
    assert sequence.parameters == 30 and sequence.activation_bytes == 4 * 2 * 3 * 4 * 5


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda x: x @ x.transpose(-1, -2), 2 * 3 * 5 * 7 * 5),
        (lambda x: torch.einsum("bhik,bhjk->bhij", x, x), 2 * 3 * 5 * 7 * 5),
        (lambda x: x[0, 0] @ torch.ones(7, 4), 5 * 7 * 4),
        (lambda x: x[0, 0] @ torch.ones(7), 5 * 7),
        (lambda x: x[0, 0, 0] @ x[0, 0, 1], 7),
        (lambda x: torch.addmm(torch.ones(4), x[0, 0], torch.ones(7, 4)), 5 * 7 * 4),
        (lambda x: torch.baddbmm(torch.ones(1), x[0], x[0].transpose(1, 2)), 3 * 5 * 7 * 5),
        (lambda x: torch.addbmm(torch.ones(1), x[0], x[0].transpose(1, 2)), 3 * 5 * 7 * 5),
        (lambda x: torch.addmv(torch.ones(5), x[0, 0], torch.ones(7)), 5 * 7),
        (lambda x: F.conv2d(x, torch.ones(4, 3, 3, 3), padding=1), 2 * 4 * 5 * 7 * 27),
        (lambda x: F.linear(x, torch.ones(4, 7)), 2 * 3 * 5 * 7 * 4),
    ],
    ids=["matmul", "einsum", "mm", "mv", "dot", "addmm", "baddbmm", "addbmm", "addmv", "conv2d", "linear"],
)
def test_operators_that_a_network_calls_itself(work, expected):
    found = measure(Function(work), (2, 3, 5, 7))
    assert found.macs == expected and found.layers[0].name == TOP


@pytest.mark.parametrize("work", [F.relu, lambda x: x + x, lambda x: F.interpolate(x, scale_factor=2), lambda x: x * 2])
def test_elementwise_operators_are_no_macs(work):
    found = measure(Function(work), (1, 3, 8, 8))
    assert found.macs == 0 and found.activation_bytes == 0


def test_scaled_dot_product_attention_is_two_products():
    def attend(x):
        return F.scaled_dot_product_attention(x, x[..., :4, :], x[..., :4, :].repeat(1, 1, 1, 2))

    found = measure(Function(attend), (2, 3, 6, 8))
    heads, queries, keys, width, values = 2 * 3, 6, 4, 8, 16
    assert found.macs == heads * queries * keys * (width + values)
    assert found.activation_bytes == 4 * heads * queries * (keys + values)  # the scores, and what they weigh


class Attention(nn.Module):
    """Self-attention as networks write it."""

    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj((q @ k.transpose(-1, -2)).softmax(-1) @ v)


def test_the_products_of_an_attention_belong_to_its_module():
    module = nn.Sequential(nn.Flatten(2), nn.Linear(20, 8), Attention(8))
    found = by_name(module, (1, 6, 4, 5))
    assert list(found) == ["0", "1", "2.qkv", "2", "2.proj"], "in the order of execution"
    attention = found["2"]
    assert attention.macs == 6 * 8 * 6 + 6 * 6 * 8 and attention.kind == "Attention: matmul"
    assert attention.activation_bytes == 4 * (6 * 6 + 6 * 8) and attention.parameters == 0
    assert found["2.qkv"].macs == 6 * 8 * 24 and found["2.qkv"].kind == "Linear"
    assert measure(module, (1, 6, 4, 5)).macs == 6 * 20 * 8 + 6 * 8 * 24 + 6 * 8 * 8 + 576


def test_multihead_attention_keeps_the_parameters_it_computes_with():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            x = x.flatten(2)
            return self.attention(x, x, x)[0]

    module = Network().eval()
    found = by_name(module, (1, 6, 2, 4))
    assert list(found) == ["attention"], "the output projection is not run as a module"
    assert found["attention"].parameters == 4 * 8 * 8 + 4 * 8
    assert found["attention"].macs == 4 * (6 * 8 * 8) + 2 * (6 * 6 * 8)


def test_a_module_called_twice_computes_twice_and_weighs_once():
    layer = nn.Conv2d(4, 4, 3, padding=1)
    once, twice = measure(nn.Sequential(layer), (1, 4, 6, 6)), measure(nn.Sequential(layer, layer), (1, 4, 6, 6))
    assert twice.macs == 2 * once.macs and twice.activation_bytes == 2 * once.activation_bytes
    assert twice.parameters == once.parameters == 4 * 4 * 9 + 4
    assert [(x.name, x.calls) for x in twice.layers] == [("0", 2)]


def test_a_shared_tensor_weighs_once():
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    found = measure(nn.Sequential(first, second), (1, 1, 6, 6))
    assert found.parameters == 36 + 6 + 6 == sum(p.numel() for p in nn.Sequential(first, second).parameters())
    assert [layer.parameters for layer in found.layers] == [42, 6]


def test_what_is_not_run_is_listed_with_its_parameters():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 1)

        def forward(self, x):
            return self.used(x)

    found = by_name(Network(), (1, 3, 4, 4))
    assert (found["spare"].calls, found["spare"].macs, found["spare"].parameters) == (0, 0, 20)
    assert found["spare"].output_shape == ()


def test_parameters_of_a_module_with_submodules_are_listed_under_it():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain, self.conv = nn.Parameter(torch.ones(3, 1, 1)), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(x) * self.gain

    found = by_name(Network(), (1, 3, 4, 4))
    assert found[TOP].parameters == 3 and found[TOP].macs == 0 and found[TOP].kind == "Network"
    assert found["conv"].parameters == 12


def test_a_training_form_keeps_its_parameters_in_the_layer_that_merges_them():
    module = zoo.fresh("span", channels=8).module
    found = measure(module, (1, 3, 16, 16))
    assert found.parameters == sum(p.numel() for p in module.parameters())
    assert found.layers[0].name == "conv_1" and found.layers[0].parameters > 8 * 27 + 8


@pytest.mark.parametrize("fused", [True, False], ids=["before", "after"])
def test_measuring_changes_nothing(fused):
    torch.backends.mha.set_fastpath_enabled(fused)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    measure(module, (2, 3, 8, 8))
    assert module.training and all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert torch.backends.mha.get_fastpath_enabled() is fused
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize("last", [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Upsample(scale_factor=2), nn.GELU()])
def test_a_large_input_needs_no_memory(last):
    network = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), last)
    assert measure(network, (1, 64, 32768, 32768)).macs == 64 * 64 * 9 * 2**30


def test_a_network_that_looks_at_values_is_run_for_real():
    def choose(x):
        return x @ x.transpose(-1, -2) if float(x.sum()) == 0.0 else x

    assert measure(Function(choose), (1, 1, 4, 5)).macs == 4 * 5 * 4


def test_on_shapes_and_on_values_the_counts_are_the_same():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2), nn.Linear(36, 8), Attention(8))

    def look(x):
        float(x.sum())
        return network(x)

    shapes, values = measure(network, (1, 3, 8, 8)), measure(Function(look), (1, 3, 8, 8))
    assert (shapes.macs, shapes.activation_bytes) == (values.macs, values.activation_bytes)


def test_operators_under_inference_mode_are_counted_too():
    def work(x):
        with torch.inference_mode():
            return F.linear(x, torch.ones(4, 7)) + F.conv2d(x, torch.ones(3, 3, 1, 1)) @ torch.ones(7, 4)

    assert measure(Function(work), (1, 3, 5, 7)).macs == 15 * 7 * 4 + 3 * 35 * 3 + 15 * 7 * 4


def test_a_network_that_gives_several_tensors_shows_the_first():
    found = measure(Function(lambda x: ([x[:, :1], x], x)), (1, 3, 4, 4))
    assert found.layers[0].output_shape == (1, 1, 4, 4)


def test_an_input_that_does_not_fit_is_refused_with_the_reason():
    with pytest.raises(CompressError, match=r"Conv2d does not run on an input of shape \(1, 5, 8, 8\): .*channels"):
        measure(nn.Conv2d(3, 4, 3), (1, 5, 8, 8))
