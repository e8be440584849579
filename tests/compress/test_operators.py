"""The operators of small networks, counted by hand."""

import pytest
import torch
from torch import nn

from compress import cost
from compress.errors import CompressError
from compress.operators import workload
from compress.zoo import fresh


def kinds(module, shape=(1, 4, 8, 8)):
    return [o.kind for o in workload(module, shape).operators]


def test_a_convolution_by_hand():
    (op,) = workload(nn.Conv2d(4, 6, 3, padding=1), (1, 4, 8, 8)).operators
    assert (op.kind, op.macs, op.read, op.written) == ("conv", 64 * 4 * 6 * 9, 256, 384)
    assert (op.weights, op.channels_in, op.channels_out, op.taps) == (216, 4, 6, 9)


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(4, 4, 1), "pointwise"),
        (nn.Conv2d(4, 4, 3, groups=4), "depthwise"),
        (nn.Conv2d(4, 4, 3, groups=2), "grouped"),
        (nn.ConvTranspose2d(4, 4, 2, 2), "transposed"),
        (nn.Linear(8, 3), "linear"),
        (nn.SiLU(), "activation"),
        (nn.LayerNorm(8), "normalise"),
        (nn.Softmax(1), "softmax"),
        (nn.MaxPool2d(2), "pool"),
        (nn.Upsample(scale_factor=2), "resize"),
        (nn.PixelShuffle(2), "layout"),
    ],
)
def test_kinds(module, kind):
    assert kinds(module) == [kind]


def test_convolutions_over_time_are_their_own_kind():
    assert kinds(nn.Conv3d(2, 2, 3), (1, 2, 4, 8, 8)) == ["volumetric"]


def test_normalisation_and_relu_are_folded_behind_a_convolution_only():
    folded = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    assert kinds(folded) == ["conv"]
    assert kinds(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))) == ["normalise", "conv"]


def test_a_concatenation_reads_all_parts():
    class Joined(nn.Module):
        def forward(self, x):
            return torch.cat([x, x * 2], 1)

    multiplied, joined = workload(Joined(), (1, 4, 8, 8)).operators
    assert (multiplied.kind, joined.kind, joined.read, joined.written) == ("elementwise", "concat", 512, 512)


@pytest.mark.parametrize("name", ["span", "espcn", "mobilenet-v2"])
def test_macs_are_those_of_cost(name):
    module = fresh(name).module
    shape = (1, 3, 64, 64)
    assert workload(module, shape).macs == cost.measure(module, shape).macs


def test_a_wrong_shape_is_told():
    with pytest.raises(CompressError, match="does not run on an input of shape"):
        workload(nn.Conv2d(4, 4, 3), (1, 3, 8, 8))
