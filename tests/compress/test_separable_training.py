"""One-dimensional tables: trained through the tables that they become, in compiled passes as in torch's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from compress import zoo
from compress.errors import UsageError, WeightsError
from compress.methods.reparameterize import merged
from compress.models import _separable_sums
from compress.models._separable import written_out
from compress.models._separable_sums import mixed, windowed
from export.separable.numpy_engine import enlarge

SIZES = [
    {"scale": 4, "channels": 16, "blocks": 1},
    {"scale": 2, "channels": 8, "blocks": 2, "shift": 2},
    {"scale": 1, "channels": 4, "blocks": 0, "shift": 1},
]


def random_network(sizes):
    """Values far from the start, so that sums pass both ends of the range and channels move."""
    sizes = dict(sizes)
    module = zoo.fresh("shift-lut", sizes.pop("scale"), 0, width=6, **sizes).module
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            parameter += torch.randn(parameter.shape, generator=random) * (2.0 if key.endswith("shifts") else 0.2)
    return module


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 6)], ids=str)
def test_the_training_form_computes_what_its_tables_compute(sizes, size):
    module = random_network(sizes).eval()
    image = np.random.default_rng(6).integers(0, 256, (2, *size), dtype=np.uint8)
    given = torch.from_numpy(image)[None].float() / 255
    with torch.inference_mode():
        found = (module(given)[0] * 255).round().numpy()
        deployed = (merged(module)(given)[0] * 255).round().numpy()
        again = (written_out(module.tables()).eval()(given)[0] * 255).round().numpy()
    expected = np.stack([enlarge(module.tables(), plane) for plane in image])
    for each in (found, deployed, again):
        np.testing.assert_array_equal(each, expected)
    assert module.halo >= module.tables().halo


@pytest.mark.parametrize(
    ("sums", "shape", "entries"),
    [
        (mixed, (2, 5, 3, 16), (16, 64, 16)),
        (mixed, (1, 4, 4, 8), (8, 64, 3)),
        (windowed, (2, 7, 5, 1), (9, 64, 16)),
        (windowed, (2, 7, 5, 1), (9, 4, 6)),
        (windowed, (3, 6, 9, 16), (9, 64, 16)),
        (windowed, (1, 3, 3, 4), (9, 64, 4)),
    ],
)
def test_compiled_passes_and_torchs_own_agree(sums, shape, entries, monkeypatch):
    random = torch.Generator().manual_seed(1)
    x = torch.randint(0, entries[1], shape, generator=random).float()
    table = torch.randint(-128, 128, entries, generator=random).float()
    smooth = table + torch.rand(entries, generator=random)
    results = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(_separable_sums, "passes", lambda file: None)
        leaves = [x.clone().requires_grad_(), table.clone().requires_grad_()]
        out = sums(*leaves, smooth)
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-3)


def test_gradients_by_hand():
    """One channel at level 5: the entry read gets the gradient, the value half the neighbours' difference."""
    table = torch.zeros(1, 64, 1)
    table[0, 4:7, 0] = torch.tensor([1.0, 7.0, 9.0])
    table.requires_grad_()
    x = torch.full((1, 1, 1, 1), 5.0, requires_grad=True)
    found = mixed(x, table, table.detach())
    (3 * found).sum().backward()
    assert found.item() == 7 and x.grad.item() == 3 * (9 - 1) / 2
    assert float(table.grad[0, 5]) == 3 and float(table.grad.abs().sum()) == 3


def test_every_parameter_learns_shifts_as_well():
    module = random_network(SIZES[1])
    image = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    (module(image) - torch.rand(2, 1, 32, 32)).square().mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name


def test_a_fresh_network_is_near_to_repeating_pixels():
    module = zoo.fresh("shift-lut", 4, 0).module.eval()
    with torch.no_grad():
        for part in module.parts:
            if part.kind != "pointwise":
                part.high.slope.zero_()
        module.parts[0].low.slope.fill_(-0.75)
    image = torch.full((1, 1, 5, 5), 100 / 255)
    found = module(image).detach()
    assert float((found - 100 / 255).abs().max()) <= 2 / 255


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"channels": 5}, "channels is 5, expected one of 4, 8, 16, 32, 64"),
        ({"blocks": 25}, "blocks is 25, expected 0 to 24"),
        ({"shift": -1}, "shift is -1, expected 0 to 15"),
    ],
)
def test_sizes_that_make_no_network_are_told(sizes, message):
    with pytest.raises(UsageError, match=message):
        zoo.fresh("shift-lut", 2, 0, **sizes)


def test_checkpoints_of_both_forms_are_loaded(tmp_path: Path):
    module = random_network(SIZES[1])
    image = torch.rand(1, 1, 6, 7, generator=torch.Generator().manual_seed(2))
    for number, form in enumerate((module.eval(), merged(module))):
        path = tmp_path / f"{number}.safetensors"
        save_file({key: value.contiguous() for key, value in form.state_dict().items()}, path)
        found = zoo.load("shift-lut", path, 2)
        assert torch.equal(found.module(image), form(image))
    with pytest.raises(WeightsError, match="not shift-lut's"):
        save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
        zoo.load("shift-lut", tmp_path / "other.safetensors", 2)
