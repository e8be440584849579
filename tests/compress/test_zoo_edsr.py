"""EDSR: the authors' checkpoints load, and give what the authors' code gives."""

import pytest
import torch

from compress import zoo
from compress.errors import UsageError, WeightsError
from compress.models.edsr import from_state
from compress.registry import MODELS

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])


def authors_state(width, blocks, scale):
    """Tensors as EDSR-PyTorch saves them."""
    state = zoo.fresh("edsr", scale, 1, width=width, blocks=blocks).module.state_dict()
    state = {name: value * 20 if name.endswith("bias") else value for name, value in state.items()}
    for name, sign in (("sub_mean", -255), ("add_mean", 255)):
        state |= {f"{name}.weight": torch.eye(3).view(3, 3, 1, 1), f"{name}.bias": sign * MEAN}
    return state


@pytest.mark.parametrize(("width", "blocks", "scale"), [(8, 2, 2), (8, 1, 3), (4, 3, 4), (256, 1, 2)])
def test_the_authors_checkpoints_give_what_their_code_gives(reference, tmp_path, width, blocks, scale):
    state = authors_state(width, blocks, scale)
    assert MODELS["edsr"].recognises(state)
    x = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = from_state(state, tmp_path)(x)
        expected = reference("slow_edsr").edsr(x, state, 0.1 if width == 256 else 1.0)
    assert found.shape == (2, 3, 7 * scale, 9 * scale)
    assert torch.allclose(found, expected, atol=2e-5)


def test_the_baseline_has_its_published_size():
    assert zoo.fresh("edsr", 4).size == 1_517_571
    assert zoo.fresh("edsr", 2).size == 1_369_859


def test_what_is_not_edsrs_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="are not EDSR's: expected convolutions head"):
        from_state({"a": torch.zeros(1)}, tmp_path)
    state = zoo.fresh("edsr", 2, width=4, blocks=1).module.state_dict()
    with pytest.raises(WeightsError, match="EDSR's for x5"):
        from_state({**state, "tail.0.0.weight": torch.zeros(100, 4, 3, 3)}, tmp_path)
    with pytest.raises(UsageError, match="scale is 8, expected 2, 3 or 4"):
        zoo.fresh("edsr", 8)
