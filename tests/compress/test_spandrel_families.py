"""The small networks of spandrel's architectures: saved, they are recognised, have the sizes asked for, and run."""

import importlib
import importlib.util

import pytest
import torch
from safetensors.torch import save_file

from compress import torchvision_shim
from compress.source import Request, resolve
from compress.sources.checkpoint import Described
from compress.spandrel_families import FAMILIES, OMITTED, Member, state_of

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="needs spandrel"),
    pytest.mark.filterwarnings("ignore:torch.meshgrid"),
]
BY_NAME = {member.name: member for member in FAMILIES}
MILLIONS = {"FBCNN": 35, "SCUNet": 6, "Uformer": 4}  # where the class fixes its widths
LIMIT = 3


def built(member, state):
    """The class itself with the sizes asked for and the same values."""
    module = getattr(importlib.import_module(member.module), member.kind)(**member.arguments)
    module.load_state_dict(state)
    return module.eval()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_saved_member_is_recognised_and_is_the_network_that_was_built(name, tmp_path):
    member = BY_NAME[name]
    state = state_of(member)
    save_file(state, tmp_path / "model.safetensors")
    network = resolve(Request(model=str(tmp_path / "model.safetensors")))
    assert network.name == name.lower()
    assert sum(v.numel() for v in network.module.parameters()) < MILLIONS.get(name, LIMIT) * 1e6
    side = -(-64 // network.unit) * network.unit
    x = torch.rand(1, network.channels, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = network.module(x.clone())
        assert found.shape == (1, network.channels, side * network.scale, side * network.scale)
        assert found.isfinite().all()
        assert found.std() > 1e-3
        if isinstance(network.module, Described):  # else the zoo's own, tested there
            network.module.model = built(member, state)
            torch.testing.assert_close(network.module(x.clone()), found, atol=1e-5, rtol=0)


def test_every_architecture_of_spandrel_is_a_member_or_left_out_for_a_reason():
    torchvision_shim.need("spandrel")
    registry = importlib.import_module("spandrel").MAIN_REGISTRY
    known = {support.architecture.id for support in registry.architectures("detection")}
    assert known == set(BY_NAME) | set(OMITTED)
    assert not set(BY_NAME) & set(OMITTED)
    assert len(BY_NAME) == len(FAMILIES)


def test_values_follow_the_seed_alone():
    member = BY_NAME["SAFMN"]
    before = torch.random.get_rng_state()
    first, again, other = state_of(member), state_of(member), state_of(member, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_tensors_can_be_saved_and_no_branch_is_switched_off():
    state = state_of(BY_NAME["NAFNet"])
    assert all(v.is_contiguous() and not v.requires_grad for v in state.values())
    assert len({v.data_ptr() for v in state.values()}) == len(state)
    assert all(state[k].any() for k in state if k.endswith((".beta", ".gamma")))


def test_sizes_are_those_asked_for():
    member = Member(
        "Compact", "spandrel.architectures.Compact", "Compact", {"num_feat": 8, "num_conv": 1, "upscale": 2}
    )
    assert state_of(member)["body.0.weight"].shape == (8, 3, 3, 3)
