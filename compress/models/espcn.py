"""ESPCN: efficient sub-pixel convolution (Shi et al., CVPR 2016, arXiv:1609.05158).

5x5 and 3x3 convolutions with tanh, then a 3x3 whose channels are shuffled into pixels ((f1, n1) = (5, 64),
(f2, n2) = (3, 32), f3 = 3).  Tensors are named as in the common PyTorch code (yjn870/ESPCN-pytorch); those of frozen
TensorFlow graphs of fannymonori/TF-ESPCN, f1 to f3 and b1 to b3, load as well.  The paper's networks see luma alone:
``colours=1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.models.luminance import bare, for_colours
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Espcn", "build", "from_state"]

_FORMS = ("tanh", "relu", "relu-tanh")
_FROM_TF = {"1": "first_part.0", "2": "first_part.2", "3": "last_part.0"}


class Espcn(nn.Module):
    """ESPCN.

    Args:
        width: channels after the first convolution; half as many after the second.
        scale: enlargement.
        colours: channels of input and output, 1 or 3.
        form: "tanh" as in the paper; "relu", which integer hardware has; "relu-tanh", with tanh at the output too,
            as TF-ESPCN was trained.  Kernels do not tell these apart, so any but the first is written into the state
            dict, as its position among the three.
    """

    def __init__(self, width: int, scale: int, colours: int = 3, form: str = "tanh") -> None:
        super().__init__()
        self.scale = scale
        if form not in _FORMS:
            raise ValueError(f"activation is {form!r}, expected 'tanh' or 'relu'")
        activation = nn.Tanh if form == "tanh" else nn.ReLU
        half = width // 2
        self.first_part = nn.Sequential(
            nn.Conv2d(colours, width, 5, padding=2), activation(), nn.Conv2d(width, half, 3, padding=1), activation()
        )
        self.last_part = nn.Sequential(nn.Conv2d(half, colours * scale**2, 3, padding=1), nn.PixelShuffle(scale))
        self.bound = nn.Tanh() if form == "relu-tanh" else nn.Identity()
        if form != "tanh":
            self.register_buffer("form", torch.tensor(_FORMS.index(form)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, colours, H, W) in [0, 1] to (N, colours, scale*H, scale*W)."""
        enlarged: Tensor = self.bound(self.last_part(self.first_part(x)))
        return enlarged


def _from_tensorflow(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels (h, w, in, out) to (out, in, h, w), under our names."""
    ours = {"form": torch.tensor(_FORMS.index("relu-tanh"))}
    for number, layer in _FROM_TF.items():
        ours[f"{layer}.weight"] = state[f"f{number}"].permute(3, 2, 0, 1)
        ours[f"{layer}.bias"] = state[f"b{number}"]
    return ours


def from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network whose sizes are read off the tensors, luma or RGB; without ``form``, tanh is taken.

    Raises:
        WeightsError: these are not ESPCN weights.
    """
    state, studio = bare(state)
    tensorflow = {f"{kind}{number}" for kind in "fb" for number in _FROM_TF}
    if state.keys() == tensorflow and all(state[f"f{number}"].dim() == 4 for number in _FROM_TF):
        state, studio = _from_tensorflow(state), False  # OpenCV's luma
    first, second, last = (state.get(f"{k}.weight") for k in _FROM_TF.values())
    if first is None or second is None or last is None or not first.dim() == second.dim() == last.dim() == 4:
        found = ", ".join(list(state)[:6])
        raise WeightsError(
            f"weights {path} are not ESPCN's: expected convolutions first_part.0, first_part.2 and last_part.0; "
            f"found {found}; choose another --model"
        )
    colours = first.shape[1]
    scale = round((last.shape[0] / colours) ** 0.5)
    form = int(state.get("form", torch.tensor(0)))
    if colours not in (1, 3) or last.shape[0] != colours * scale**2 or not 0 <= form < len(_FORMS):
        raise WeightsError(
            f"weights {path} go from {colours} channels to {last.shape[0]}, form {form}, expected 1 or 3 to "
            "scale * scale times as many, form 0 to 2; choose another --model"
        )
    module = Espcn(first.shape[0], scale, colours, _FORMS[form])
    load_into(module, state, path)
    return for_colours(module, colours, scale, studio).eval()


def build(scale: int = 4, width: int = 64, colours: int = 3, activation: str = "tanh") -> nn.Module:
    """ESPCN; kernels from torch's own start, the last ones small (standard deviation 0.001), as yjn870's code."""
    module = Espcn(width, scale, colours, activation)
    last = module.last_part[0]
    if isinstance(last, nn.Conv2d) and last.bias is not None:
        nn.init.normal_(last.weight, std=0.001)
        nn.init.zeros_(last.bias)
    return for_colours(module, colours, scale).train()


MODELS.add("espcn")(
    Family(
        title="ESPCN, sub-pixel convolution (CVPR 2016, arXiv:1609.05158); activation=relu for integer hardware",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=(
            "first_part.0.weight|inner.first_part.0.weight",
            "first_part.2.weight|inner.first_part.2.weight",
            "last_part.0.weight|inner.last_part.0.weight",
        ),
    )
)
