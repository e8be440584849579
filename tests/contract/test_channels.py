"""Every network of the zoo loses 30 % of its channels and still runs, or says which layers forbid it."""

import inspect
from dataclasses import replace

import pytest
import torch

from compress import zoo
from compress.channels.importance import scores
from compress.channels.selection import Budget, cost
from compress.channels.trial import checked, pruned
from compress.errors import UsageError
from compress.methods.reparameterize import merged
from compress.registry import MODELS
from export.tiling import round_up

SLOW = {
    "affnet", "cas-vit-xs", "catanet", "dlgsanet-light", "dlgsanet-tiny", "efficientnet-lite0", "imdn", "lsnet-t",
    "resnet110", "resnet32", "resnet44", "resnet56", "spf-lut", "swin-tiny", "inception-next-tiny", "mobilenet-v2",
    "mulut", "deit-tiny", "shufflenet-v2", "convnext-tiny",
}  # fmt: skip
SIDES = (32, 64, 96)


def small_of(name):
    """A network of the family, its input as small as it takes."""
    takes = "input_size" in inspect.signature(MODELS[name].build).parameters
    for sizes in [{"input_size": side} for side in SIDES if takes] + [{}]:
        try:
            return zoo.fresh(name, **sizes)
        except UsageError:
            continue
    raise AssertionError(name)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in MODELS])
def test_thirty_per_cent_of_the_channels_go(name):
    network = small_of(name)
    whole = merged(network.module).eval()
    if replace(network, module=whole).tables is not None:
        pytest.skip("look-up tables")
    height, width = network.input_size or round_up((16, 20), network.unit)
    x = torch.rand(1, network.channels, height, width)
    found, _ = checked(whole, x)
    assert found.groups, found.forbidden
    small = pruned(whole, x, lambda f: scores(whole, f, "l2"), Budget(0.3, "channels"))
    left = checked(small, x)[0]
    assert cost(left, left.all_kept, "channels") <= 0.7 * found.channels
    with torch.no_grad():
        assert small(x).shape == whole(x).shape
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in whole.parameters())
