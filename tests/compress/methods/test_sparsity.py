"""Pruning of single weights: the oracles of ISS-P, and what every such method keeps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from compress import zoo
from compress.errors import UsageError
from compress.methods._sparsity import dropped, prunable, restarted, selected
from compress.methods.iss_p import IssP, Shrinking
from compress.methods.magnitude import Magnitude, OneShot
from compress.progress import SILENT
from compress.registry import TASKS
from compress.task import Data
from compress.workshop import Workshop

QUICK = {"steps": 6, "batch": 2, "crop": 16, "shrink": (1.0,), "teacher_weight": 0.0}


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1, groups=2), nn.Flatten(), nn.Linear(16, 5))


def zeros(module):
    return {name: int((weight == 0).sum()) for name, weight in prunable(module, ()).items()}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for k in range(4):
        Image.fromarray(random.integers(0, 256, (72, 80, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return TASKS["super-resolution"](zoo.fresh("span", 2, 0, channels=8), Data(calibration=folder))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.floats(0.01, 0.999), st.integers(0, 99))
def test_as_many_go_as_the_sparsity_says(count, sparsity, seed):
    weight = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    mask = selected(weight, sparsity)
    expected = min(math.ceil(round(sparsity * count, 6)), int(0.995 * count))
    assert int(mask.sum()) == expected == dropped(count, sparsity)
    if 0 < expected < count:
        assert weight[mask].abs().max() <= weight[~mask].abs().min()


def test_ties_do_not_change_the_number():
    assert int(selected(torch.ones(10, 10), 0.25).sum()) == 25


def test_large_layers_are_cut_by_a_sample():
    torch.manual_seed(0)
    weight = torch.randn(400, 400)
    share = float(selected(weight, 0.9, exact=False).float().mean())
    assert 0.88 < share < 0.92 and share != 0.9


def test_selected_weights_shrink_by_powers_while_nothing_moves_them():
    """Oracles (b) and (d): after j steps without an optimizer, factor^j of what they were, and never zero."""
    module, before = layers(), {n: w.detach().clone() for n, w in prunable(layers(), ()).items()}
    shaper = Shrinking(0.5, 0.9, until=100)
    for step in range(7):
        shaper.on_weights(module, step)
    for name, weight in prunable(module, ()).items():
        chosen = selected(before[name], 0.5)
        expected = torch.where(chosen, before[name] * 0.9**7, before[name])
        assert torch.allclose(weight, expected, rtol=1e-5)
    assert sum(zeros(module).values()) == 0


def test_a_factor_of_zero_is_one_shot_magnitude_pruning():
    """Oracle (c)."""
    soft, hard = layers(), layers()
    Shrinking(0.6, 0.0, until=1).on_weights(soft, 0)
    OneShot(0.6, after=0).on_weights(hard, 0)
    assert all(torch.equal(a, b) for a, b in zip(soft.state_dict().values(), hard.state_dict().values(), strict=True))


def test_every_layer_has_its_share_of_zeros_after_the_freeze():
    """Oracle (a), also when the optimizer moves the weights afterwards."""
    module = layers()
    shaper = Shrinking(0.7, 0.95, until=3)
    for step in range(6):
        with torch.no_grad():
            for weight in prunable(module, ()).values():
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(step)), alpha=0.05)
        shaper.on_weights(module, step)
        counts = {name: dropped(w.numel(), 0.7) for name, w in prunable(module, ()).items()}
        assert zeros(module) == (counts if step >= 2 else dict.fromkeys(counts, 0))


def test_a_weight_that_outgrows_the_shrinkage_leaves_the_selection():
    module = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    shaper = Shrinking(0.5, 0.5, until=9)
    for step in range(8):
        with torch.no_grad():
            module[0].weight[0, 0] += 0.3
        shaper.on_weights(module, step)
    shaper.on_weights(module, 8)
    assert (module[0].weight != 0).tolist() == [[True, False, False, True]]


def test_biases_and_skipped_layers_are_left_alone():
    module = layers()
    OneShot(0.9, 0, skip=("3",)).on_weights(module, 0)
    assert set(prunable(module, ("3",))) == {"0", "1"}
    assert all((p != 0).all() for n, p in module.named_parameters() if n.endswith("bias") or n.startswith("3"))
    with pytest.raises(UsageError, match="'tail', which fits no layer; layers: 0, 1, 3"):
        prunable(module, ("tail",))
    with pytest.raises(UsageError, match="no convolution or linear layer is left"):
        prunable(module, ("*",))


def test_a_shared_weight_counts_once():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    assert list(prunable(module, ())) == ["0"]


def test_random_values_follow_the_seed():
    given = layers()
    one, again, other = (restarted(given, seed) for seed in (1, 1, 2))
    first = [m[0].weight for m in (one, again, other)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], given[0].weight)


@pytest.mark.parametrize(
    "method", [IssP(prune_steps=3, sparsity=0.8, **QUICK), Magnitude(sparsity=0.8, **QUICK)], ids=["iss-p", "magnitude"]
)
def test_a_pruned_network_has_its_zeros_and_loads_again(method, task, tmp_path):
    network = zoo.fresh("span", 2, 0, channels=8)
    after = method(network, task, Workshop(tmp_path, SILENT, 3))
    weights = prunable(after.module, ())
    assert {n: dropped(w.numel(), 0.8) for n, w in weights.items()} == zeros(after.module)
    loaded = zoo.load("span", tmp_path / "weights.safetensors")
    x = torch.rand(1, 3, 12, 12)
    with torch.inference_mode():
        assert torch.equal(loaded.module(x), after.module(x))
    again = method(network, task, Workshop(tmp_path, SILENT, 3))
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), prunable(again.module, ()).values(), strict=True))
