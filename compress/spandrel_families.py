"""Small networks of spandrel's architectures with random values, to try what a checkpoint of each can become.

Sizes are the smallest published ones, or those with fewer blocks and channels, and always such as spandrel reads
back off the tensors.  What it cannot read (window sizes, heads) stays at the value that it takes for granted.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from compress import torchvision_shim

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FAMILIES", "OMITTED", "Member", "state_of"]

_SPREAD = 0.02  # of the values that take the place of zeros


@dataclass(frozen=True)
class Member:
    """One architecture at one size."""

    name: str
    """spandrel's identifier of the architecture."""
    module: str
    """Import path of the class."""
    kind: str
    """The class's name there."""
    arguments: Mapping[str, Any]


def _member(name: str, kind: str | None = None, /, **arguments: Any) -> Member:
    return Member(name, f"spandrel.architectures.{name}", kind or name, MappingProxyType(arguments))


FAMILIES: tuple[Member, ...] = (
    _member(
        "ATD",  # ATD-light, two of its four groups of six layers
        embed_dim=48,
        depths=(2, 2),
        num_heads=(4, 4),
        window_size=16,
        category_size=128,
        reducted_dim=8,
        convffn_kernel_size=7,
        mlp_ratio=1.0,
        upscale=4,
        upsampler="pixelshuffledirect",
    ),
    _member("CRAFT", depths=[2, 2], num_heads=[6, 6]),
    _member("Compact", num_conv=16),  # realesr-animevideov3
    _member(
        "DAT",  # DAT-light with 4 of its 18 blocks
        embed_dim=60,
        split_size=[8, 32],
        depth=[4],
        num_heads=[6],
        expansion_factor=2.0,
        upscale=4,
        resi_connection="3conv",
        upsampler="pixelshuffledirect",
    ),
    _member("DCTLSA"),
    _member("DITN"),
    _member(
        "DRCT", embed_dim=60, depths=(6,), num_heads=(6,), gc=12, window_size=8, upscale=4, upsampler="pixelshuffle"
    ),
    _member("DRUNet", in_nc=4, out_nc=3, nc=[16, 32, 64, 128], nb=2),
    _member("DnCNN", in_nc=3, out_nc=3, nb=20, act_mode="R"),  # dncnn_color_blind
    _member("ESRGAN", num_blocks=1),
    _member("FBCNN", nc=[16, 32, 64, 512], nb=2),  # the last width is fixed in the class
    _member(
        "FDAT",  # the tiny one with half its blocks
        embed_dim=96,
        num_groups=2,
        depth_per_group=1,
        num_heads=3,
        ffn_expansion_ratio=1.5,
        upsampler_type="pixelshuffledirect",
    ),
    _member("FFTformer", dim=16, num_blocks=[1, 1, 1], num_refinement_blocks=1),
    _member(
        "GRL",  # GRL-tiny with 4 of its 16 blocks
        embed_dim=64,
        upscale=4,
        upsampler="pixelshuffledirect",
        depths=[2, 2],
        num_heads_window=[2, 2],
        num_heads_stripe=[2, 2],
        window_size=32,
        stripe_size=[64, 64],
        stripe_shift=True,
        mlp_ratio=2.0,
        anchor_window_down_factor=4,
    ),
    _member(
        "HAT",  # HAT-S, narrower and with 4 of its 36 blocks
        embed_dim=60,
        depths=(2, 2),
        num_heads=(6, 6),
        window_size=16,
        compress_ratio=20,
        squeeze_factor=20,
        mlp_ratio=2.0,
        upscale=4,
    ),
    _member("HVICIDNet"),
    _member("IPT", patch_dim=3, n_feats=16, num_layers=2, scale=[2]),
    _member("KBNet", "KBNet_s", width=16, middle_blk_num=1, enc_blk_nums=[1, 1, 1], dec_blk_nums=[1, 1, 1]),
    _member(
        "MMRealSR",
        num_in_ch=3,
        num_out_ch=3,
        num_feat=32,
        num_block=2,
        num_grow_ch=16,
        num_feats=[16, 32, 64, 128],
        num_blocks=[1, 1, 1, 1],
    ),
    _member("MixDehazeNet"),
    _member("MoESR", n_blocks=2, n_block=1),
    _member("MoSR", dim=48, n_block=6),
    _member("NAFNet", width=16, middle_blk_num=1, enc_blk_nums=[1, 1, 1, 1], dec_blk_nums=[1, 1, 1, 1]),
    _member("OmniSR", res_num=2),
    _member("PLKSR", n_blocks=6, kernel_size=13),  # half of PLKSR-tiny
    _member("RCAN", n_resgroups=2, n_resblocks=4),
    _member(
        "RGT",
        embed_dim=60,
        depth=[2, 2],
        num_heads=[6, 6],
        mlp_ratio=2.0,
        upscale=4,
        split_size=[8, 32],
    ),
    _member("RealCUGAN", "UpCunet2x"),
    _member("RetinexFormer", stage=1, num_blocks=[1, 2, 2]),
    _member("SAFMN", dim=36),
    _member("SAFMNBCIE", dim=48, n_blocks=2, num_layers=2),
    _member("SCUNet", config=[2, 1, 1, 1, 1, 1, 1]),
    _member("SPAN", num_in_ch=3, num_out_ch=3),
    _member("SeemoRe", embedding_dim=36, num_experts=3, lr_space="exp"),  # SeemoRe-T
    _member("SwiftSRGAN"),
    _member(
        "Swin2SR",
        embed_dim=60,
        depths=[2, 2],
        num_heads=[6, 6],
        window_size=8,
        mlp_ratio=2.0,
        upscale=4,
        upsampler="pixelshuffledirect",
    ),
    _member(
        "SwinIR",  # the lightweight one with 4 of its 24 blocks
        embed_dim=60,
        depths=[2, 2],
        num_heads=[6, 6],
        window_size=8,
        mlp_ratio=2.0,
        upscale=4,
        upsampler="pixelshuffledirect",
    ),
    _member("Uformer", embed_dim=16, depths=[2, 1, 1, 1, 1, 1, 1, 1, 2]),  # Uformer-T with half its blocks
)
"""An image in, an image of as many channels out, at 3 M parameters or fewer where the class allows it."""

OMITTED: Mapping[str, str] = MappingProxyType(
    {
        "AuraSR": "a generator that draws noise for the image and the style at each run: no two results agree",
        "GFPGAN": "faces only: aligned, 512x512, through a StyleGAN2 decoder that draws noise at each run",
        "LaMa": "inpainting: takes a mask besides the image",
        "RestoreFormer": "faces only: aligned, 512x512, through a codebook",
    }
)
"""Architectures of spandrel that FAMILIES leaves out, and why."""


def state_of(member: Member, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of the network with random values, as a checkpoint holds them.

    Parameters that training starts at zero (biases, the gates of residual branches) get small values instead,
    so that each branch matters to the result.

    Raises:
        MissingRuntimeError: spandrel, or torchvision, is not installed.
    """
    import torch

    torchvision_shim.need("spandrel")
    kind = getattr(importlib.import_module(member.module), member.kind)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about spandrel's use of it
        torch.manual_seed(seed)
        module = kind(**member.arguments)
        for value in module.parameters():
            if value.requires_grad and not value.any():
                value.normal_(0.0, _SPREAD)
    return {name: value.detach().clone().contiguous() for name, value in module.state_dict().items()}
