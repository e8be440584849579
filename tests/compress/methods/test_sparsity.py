"""Pruning of single weights: the oracles of ISS-P, and what every such method keeps."""

import math
from itertools import pairwise

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
from compress.methods.assl import Aligning, Assl, alignment_gradient
from compress.methods.iss_p import IssP, Shrinking
from compress.methods.magnitude import Magnitude, OneShot
from compress.methods.n_m import NOfM, smallest_of_groups
from compress.methods.rigl import Moving, Rigl, moved_zeros
from compress.methods.srp import Growing, Srp
from compress.progress import SILENT
from compress.registry import TASKS
from compress.task import Data
from compress.workshop import Workshop
from export.torch_session import TorchSession

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
    "method",
    [
        IssP(prune_steps=3, sparsity=0.8, **QUICK),
        Magnitude(sparsity=0.8, **QUICK),
        Srp(0.8, prune_steps=3, **QUICK),
        Assl(0.8, prune_steps=3, **QUICK),
        Rigl(0.8, **QUICK),
    ],
    ids=["iss-p", "magnitude", "srp", "assl", "rigl"],
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


def test_groups_along_the_input_are_those_of_hardware():
    """Two of four consecutive input channels at every place of the kernel, and the first row by hand."""
    weight = torch.randn(6, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[0, :4, 0, 0] = torch.tensor([0.3, -0.1, 0.2, -0.4])
    mask = smallest_of_groups(weight, 2, 4, "input")
    assert mask[0, :4, 0, 0].tolist() == [False, True, True, False]
    groups = mask.permute(0, 2, 3, 1).reshape(-1, 4)
    assert bool((groups.sum(1) == 2).all())


def test_groups_of_the_flattened_tensor_are_those_of_the_paper():
    weight = torch.tensor([[5.0, 1, 2], [3, -4, 0.5], [9, 8, 7]])
    assert smallest_of_groups(weight, 3, 4, "flat").int().tolist() == [[0, 1, 1], [1, 1, 1], [0, 1, 0]]


def test_what_is_left_over_makes_no_group():
    mask = smallest_of_groups(torch.ones(2, 6), 2, 4, "input")
    assert mask.int().tolist() == [[1, 1, 0, 0, 0, 0]] * 2


def test_a_group_that_would_be_emptied_is_refused(task):
    with pytest.raises(UsageError, match="n-m on span: 4 zeros in 4 empty every layer"):
        NOfM(zeros=4)(zoo.fresh("span", 2, 0, channels=8), task)


def test_a_trained_network_keeps_its_groups(task):
    after = NOfM(**QUICK)(zoo.fresh("span", 2, 0, channels=8), task)
    weight = next(w for w in prunable(after.module, ()).values() if w.shape[1] % 4 == 0)
    groups = (weight == 0).movedim(1, -1).reshape(-1, 4).sum(1)
    assert bool((groups == 2).all())


def test_the_smallest_weights_give_way_to_the_largest_gradients():
    weight = torch.tensor([5.0, 1.0, 0.0, 0.0, 3.0, 0.0], requires_grad=True)
    weight.grad = torch.tensor([9.0, 9.0, 0.1, -2.0, 9.0, 0.5])
    gone = torch.tensor([False, False, True, True, False, True])
    assert moved_zeros(weight, gone, 0.34).tolist() == [False, True, True, False, False, True]
    assert torch.equal(moved_zeros(weight, gone, 0.1), gone), "a third of three is one, a tenth is none"


def test_a_sparse_training_keeps_its_number_of_zeros():
    module = layers()
    shaper = Moving(0.7, 0.5, every=2, until=8, skip=(), seed=0)
    places = []
    for step in range(10):
        module(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        shaper.on_gradients(module, step)
        counts = {name: dropped(w.numel(), 0.7) for name, w in prunable(module, ()).items()}
        assert {name: int(mask.sum()) for name, mask in shaper.gone.items()} == counts
        assert all((w.grad[shaper.gone[n]] == 0).all() for n, w in prunable(module, ()).items())
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.1 * parameter.grad
        shaper.on_weights(module, step)
        places.append(shaper.gone["0"].clone())
        module.zero_grad()
    moved = [not torch.equal(a, b) for a, b in pairwise(places)]
    assert moved[1] and not any(moved[0::2]) and not any(moved[7:]), "at even steps, until the eighth"


def test_a_growing_penalty_is_on_the_smallest_weights_alone():
    module = layers()
    before = {name: weight.detach().clone() for name, weight in prunable(module, ()).items()}
    shaper = Growing(0.5, ceiling=0.8, until=4)
    for step in range(4):
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        shaper.on_gradients(module, step)
        for name, weight in prunable(module, ()).items():
            expected = before[name] * selected(before[name], 0.5) * 0.8 * (step + 1) / 4
            assert torch.allclose(weight.grad, expected)
        assert sum(zeros(module).values()) == 0
        shaper.on_weights(module, step)
    assert zeros(module) == {name: dropped(w.numel(), 0.5) for name, w in before.items()}


def test_the_gradient_of_the_alignment_is_that_of_autograd():
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    threshold = weight.detach().abs().flatten().sort().values[14]
    mask = torch.sigmoid(weight.abs() - threshold)
    (-(mask * mask).sum()).backward()
    assert torch.allclose(alignment_gradient(weight.detach(), 0.5), weight.grad)
    assert threshold == weight.detach()[selected(weight.detach(), 0.5)].abs().max()


def test_a_penalty_after_the_alignment_grows_and_stays():
    """Of 20 steps 2 align, 13 grow and 5 stay; what goes is chosen after the alignment."""
    module = layers()
    shaper = Aligning(0.5, ceiling=0.8, until=20, align_weight=0.4)
    weights = prunable(module, ())
    for step in range(20):
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        shaper.on_gradients(module, step)
        factor = 0.8 * min(1.0, (step - 1) / 13)
        for name, weight in weights.items():
            if step < 2:
                expected = 0.4 / 3 * alignment_gradient(before[name], 0.5)
            else:
                expected = before[name] * selected(before[name], 0.5) * factor
            assert torch.allclose(weight.grad, expected), step
        assert all((p.grad == 0).all() for n, p in module.named_parameters() if n.endswith("bias"))
        assert sum(zeros(module).values()) == 0 and bool(shaper.chosen) == (step >= 2)
        shaper.on_weights(module, step)
    assert zeros(module) == {name: dropped(w.numel(), 0.5) for name, w in weights.items()}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Two classes, told apart by their brightness."""
    random = np.random.default_rng(0)
    labels = np.arange(100) % 2
    images = np.clip(60 + 120 * labels[:, None, None, None] + random.normal(0, 20, (100, 32, 32, 3)), 0, 255)
    path = tmp_path_factory.mktemp("labelled") / "set.npz"
    parts = {"x_train": images[:60], "x_test": images[60:]}
    np.savez(path, **{k: v.astype(np.uint8) for k, v in parts.items()}, y_train=labels[:60], y_test=labels[60:])
    return path


SCHOOL = {"steps": 70, "batch": 12, "learning_rate": 0.04, "teacher_weight": 0.0}


@pytest.mark.parametrize(
    "method",
    [
        IssP(prune_steps=20, sparsity=0.6, **SCHOOL),
        Magnitude(sparsity=0.6, **SCHOOL),
        Srp(0.6, prune_steps=20, **SCHOOL),
        Assl(0.6, prune_steps=20, **SCHOOL),
        Rigl(0.6, every=4, **SCHOOL),
        NOfM(3, 5, "flat", **SCHOOL),
    ],
    ids=["iss-p", "magnitude", "srp", "assl", "rigl", "n-m"],
)
def test_a_classifier_is_pruned_and_learns_its_labels(method, labelled, tmp_path):
    network = zoo.fresh("mlperf-resnet8", seed=0, classes=2, width=4)
    task = TASKS["classification"](network, Data(labelled))
    after = method(network, task, Workshop(tmp_path, SILENT, 3))
    weights = prunable(after.module, ())
    for name, weight in weights.items():
        expected = weight.numel() // 5 * 3 if isinstance(method, NOfM) else dropped(weight.numel(), 0.6)
        assert int((weight == 0).sum()) == expected, name
    session = TorchSession(after.module)
    assert task.judge(session.run, lambda done: None).mean >= 90, "guessing reaches 50"
    loaded = zoo.load("mlperf-resnet8", tmp_path / "weights.safetensors")
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded.module(x), after.module(x))


def test_a_classifier_learns_from_what_it_was(labelled, tmp_path):
    network = zoo.fresh("mlperf-resnet8", seed=0, classes=2, width=4)
    task = TASKS["classification"](network, Data(labelled))
    method = Magnitude(sparsity=0.5, steps=3, batch=4, teacher_weight=1.0)
    taught = method(network, task, Workshop(tmp_path / "taught", SILENT, 3, network))
    alone = method(network, task, Workshop(tmp_path / "alone", SILENT, 3))
    pairs = zip(prunable(taught.module, ()).values(), prunable(alone.module, ()).values(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_choices_on_held_out_images_are_not_trained_on(labelled):
    network = zoo.fresh("mlperf-resnet8", seed=0, classes=2, width=4)
    task = TASKS["classification"](network, Data(labelled)).held_out(network)
    assert task.training_images().count == 60 - task.size == 30


def test_a_classifier_without_labels_cannot_be_trained():
    network = zoo.fresh("mlperf-resnet8", seed=0, classes=2, width=4)
    with pytest.raises(UsageError, match="mlperf-resnet8: a classifier is trained on labelled images, and there are"):
        Magnitude()(network, TASKS["classification"](network, Data()))


@pytest.mark.parametrize(
    "shaper",
    [
        lambda: Shrinking(0.5, 0.9, 3),
        lambda: Growing(0.5, 0.5, 3),
        lambda: Aligning(0.5, 0.5, 4, 0.1),
        lambda: Moving(0.5, 0.3, 1, 9, (), 0),
    ],
    ids=["iss-p", "srp", "assl", "rigl"],
)
@pytest.mark.parametrize("stop", [1, 5])
def test_what_a_checkpoint_keeps_is_enough_to_go_on(shaper, stop):
    def steps(module, shaper, first, last):
        for step in range(first, last):
            module(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            shaper.on_gradients(module, step)
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter -= 0.1 * parameter.grad
            shaper.on_weights(module, step)
            module.zero_grad()

    whole, part, again = layers(), layers(), layers()
    steps(whole, shaper(), 0, 8)
    before, after = shaper(), shaper()
    steps(part, before, 0, stop)
    again.load_state_dict(part.state_dict())
    after.load(before.state())
    steps(again, after, stop, 8)
    pairs = zip(whole.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
