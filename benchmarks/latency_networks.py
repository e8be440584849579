"""The networks of aihub_perf.csv that can be built here, at the size that was measured.

Classifiers come from torchvision and timm, detectors and segmenters from torchvision and transformers, without
weights.  The super-resolution networks are written from their papers and from the sizes that quic/aimet-model-zoo and
quic/ai-hub-models state: QuickSRNet (arXiv:2303.04336), XLSR (arXiv:2105.10288), SESR (arXiv:2103.09404) as deployed
there, with its linear blocks not collapsed, Real-ESRGAN and ESRGAN (arXiv:2107.10833, arXiv:1809.00219).

Input sizes are those of ``get_input_spec`` in quic/ai-hub-models, which is what was profiled.  The card that
aihub_perf.csv quotes differs for five: U-Net (card 224x224, profiled 640x1280), FCN (224, 520), EfficientNet-B4
(380, 224), EfficientNetV2-S (384, 224) and MobileViT (224, 256).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch  # noqa: TID253  # every network here is built in it
from torch import Tensor, nn  # noqa: TID253

from compress import torchvision_shim

SIZE = (1, 3, 224, 224)


@dataclass(frozen=True)
class Built:
    """How to make one network, and what is published of its size."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = SIZE
    millions: float | None = None
    """Parameters that the measurements' file states; the network built here must have as many."""


class _Chain(nn.Module):
    """Plain 3x3 convolutions, then pixels out of channels, with or without a copy of the input added."""

    def __init__(self, width: int, depth: int, anchor: bool, scale: int = 4, bounded: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place in range(depth):
            layers += [nn.Conv2d(width if place else 3, width, 3, padding=1), nn.Hardtanh(0, 1)]
        self.body = nn.Sequential(*layers)
        self.last = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        self.anchor = nn.Conv2d(3, 3 * scale**2, 1) if anchor else None
        self.end = nn.Sequential(nn.Hardtanh(0, 1) if bounded else nn.Identity(), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.body(x))
        return self.end(y if self.anchor is None else y + self.anchor(x))


class _Xlsr(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Conv2d(3, 16, 3, padding=1)
        blocks = [
            nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(32, 32, 1)) for _ in range(3)
        ]
        self.body = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 1), *blocks)
        self.tail = nn.Sequential(nn.Conv2d(48, 32, 1), nn.ReLU(), nn.Conv2d(32, 48, 3, padding=1), nn.PixelShuffle(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(torch.cat([self.body(x), self.side(x)], 1)).clamp(0, 1)


class _Sesr(nn.Module):
    def __init__(self, blocks: int = 5) -> None:
        super().__init__()

        def linear(into: int, out: int, size: int) -> nn.Module:
            wide = nn.Conv2d(into, 256, size, padding=size // 2, bias=False)
            return nn.Sequential(wide, nn.Conv2d(256, out, 1))

        self.first, self.last = linear(3, 16, 5), linear(16, 48, 5)
        self.blocks = nn.ModuleList(linear(16, 16, 3) for _ in range(blocks))
        self.anchor = nn.Conv2d(3, 48, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = features = self.first(x).relu()
        for block in self.blocks:
            features = (features + block(features)).relu()
        return nn.functional.pixel_shuffle(self.last(features + first) + self.anchor(x), 4)


class _General(nn.Module):
    """Real-ESRGAN's small network: 64 channels, 32 convolutions with PReLU, the input enlarged and added."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place in range(33):
            layers += [nn.Conv2d(64 if place else 3, 64, 3, padding=1), nn.PReLU(64)]
        self.body = nn.Sequential(*layers, nn.Conv2d(64, 48, 3, padding=1), nn.PixelShuffle(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + nn.functional.interpolate(x, scale_factor=4, mode="nearest")


class _Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(64 + 32 * n, 32 if n < 4 else 64, 3, padding=1) for n in range(5))

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for place, layer in enumerate(self.layers):
            y = layer(torch.cat(seen, 1) if place else x)
            seen.append(nn.functional.leaky_relu(y, 0.2) if place < 4 else y)
        return seen[-1] * 0.2 + x


class _Rrdb(nn.Module):
    """23 blocks of three dense blocks, two enlargements by nearest neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(_Dense(), _Dense(), _Dense()) for _ in range(23))
        self.body, self.up1, self.up2, self.high = (nn.Conv2d(64, 64, 3, padding=1) for _ in range(4))
        self.last = nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.first(x)
        for block in self.blocks:
            y = block(y) * 0.2 + y
        y = first + self.body(y)
        for layer in (self.up1, self.up2):
            y = nn.functional.leaky_relu(layer(nn.functional.interpolate(y, scale_factor=2)), 0.2)
        return self.last(nn.functional.leaky_relu(self.high(y), 0.2))


class _Unet(nn.Module):
    """U-Net (arXiv:1505.04597) with padding and batch normalisation, 64 to 1024 channels."""

    def __init__(self) -> None:
        super().__init__()

        def twice(into: int, out: int) -> nn.Module:
            layers: list[nn.Module] = []
            for place in range(2):
                conv = nn.Conv2d(out if place else into, out, 3, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(out), nn.ReLU()]
            return nn.Sequential(*layers)

        widths = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(twice(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(twice(2 * w, w) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(64, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = []
        for place, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if place else x)
            seen.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(seen[:-1]), strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.last(x)


class _Pose(nn.Module):
    """HRNet-W32's finest branch and a 1x1 convolution to 17 key points (arXiv:1902.09212)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _timm("hrnet_w32")
        for unused in ("incre_modules", "downsamp_modules", "final_layer", "classifier"):
            setattr(self.body, unused, nn.Identity())
        self.last = nn.Conv2d(32, 17, 1)

    def forward(self, x: Tensor) -> Tensor:
        body: Any = self.body
        x = body.act2(body.bn2(body.conv2(body.act1(body.bn1(body.conv1(x))))))
        return self.last(body.stages(x)[0])


class _Only(nn.Module):
    """One tensor of what a network of transformers or torchvision gives."""

    def __init__(self, body: nn.Module, key: str) -> None:
        super().__init__()
        self.body, self.key = body, key

    def forward(self, x: Tensor) -> Tensor:
        found = self.body(x)[self.key]
        return found.argmax(1) if self.key == "out" else found


def _vision(name: str, part: str = "", **options: Any) -> nn.Module:
    torchvision_shim.need("timm")
    import torchvision.models as models

    place = getattr(models, part) if part else models
    options.setdefault("weights", None)
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "aux_logits": False}
    return getattr(place, name)(**options)


def _timm(name: str, **options: Any) -> nn.Module:
    torchvision_shim.need("timm")
    import timm

    return timm.create_model(name, **options)


def _segment(name: str) -> nn.Module:
    body = _vision(name, "segmentation", weights_backbone=None, num_classes=21)
    return _Only(body, "out")


def _segformer() -> nn.Module:
    torchvision_shim.need("timm")
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return _Only(SegformerForSemanticSegmentation(SegformerConfig(num_labels=150)), "logits")


def _video_mae() -> nn.Module:
    torchvision_shim.need("timm")
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    return _Only(VideoMAEForVideoClassification(VideoMAEConfig(num_labels=400)), "logits")


def _depth() -> nn.Module:
    torchvision_shim.need("timm")
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    body = Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        image_size=518,
        patch_size=14,
        out_features=["stage3", "stage6", "stage9", "stage12"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=body, reassemble_hidden_size=384, neck_hidden_sizes=[48, 96, 192, 384], fusion_hidden_size=64
    )
    return _Only(DepthAnythingForDepthEstimation(config), "predicted_depth")


_SMALL = (1, 3, 128, 128)
_CLIP = (1, 3, 16, 112, 112)

NETWORKS: dict[str, Built] = {
    "quicksrnetsmall": Built(lambda: _Chain(32, 3, anchor=False), _SMALL, 0.0333),
    "quicksrnetmedium": Built(lambda: _Chain(32, 6, anchor=False), _SMALL, 0.061),
    "quicksrnetlarge": Built(lambda: _Chain(64, 12, anchor=True), _SMALL, 0.436),
    "xlsr": Built(_Xlsr, _SMALL, 0.028),
    "sesr_m5": Built(_Sesr, _SMALL, 0.343),
    "real_esrgan_general_x4v3": Built(_General, _SMALL, 1.21),
    "real_esrgan_x4plus": Built(_Rrdb, _SMALL, 16.7),
    "esrgan": Built(_Rrdb, _SMALL, 16.7),
    "unet_segmentation": Built(_Unet, (1, 3, 640, 1280), 31.0),
    "hrnet_pose": Built(_Pose, (1, 3, 256, 192), 28.5),
    "densenet121": Built(partial(_vision, "densenet121"), SIZE, 7.99),
    "googlenet": Built(partial(_vision, "googlenet"), SIZE, 6.62),
    "inception_v3": Built(partial(_vision, "inception_v3"), SIZE, 23.9),
    "mobilenet_v2": Built(partial(_vision, "mobilenet_v2"), SIZE, 3.49),
    "mobilenet_v3_large": Built(partial(_vision, "mobilenet_v3_large"), SIZE, 5.47),
    "mobilenet_v3_small": Built(partial(_vision, "mobilenet_v3_small"), SIZE, 2.54),
    "mnasnet05": Built(partial(_vision, "mnasnet0_5"), SIZE, 2.21),
    "regnet": Built(partial(_vision, "regnet_x_3_2gf"), SIZE, 15.3),
    "regnet_y_800mf": Built(partial(_vision, "regnet_y_800mf"), SIZE),
    "resnet18": Built(partial(_vision, "resnet18"), SIZE, 11.7),
    "resnet50": Built(partial(_vision, "resnet50"), SIZE, 25.5),
    "resnet101": Built(partial(_vision, "resnet101"), SIZE, 44.5),
    "resnext50": Built(partial(_vision, "resnext50_32x4d"), SIZE, 25.0),
    "resnext101": Built(partial(_vision, "resnext101_32x8d"), SIZE, 88.7),
    "wideresnet50": Built(partial(_vision, "wide_resnet50_2"), SIZE, 68.9),
    "shufflenet_v2": Built(partial(_vision, "shufflenet_v2_x0_5"), SIZE, 1.37),
    "squeezenet1_1": Built(partial(_vision, "squeezenet1_1"), SIZE, 1.24),
    "vit": Built(partial(_vision, "vit_b_16"), SIZE, 86.6),
    "convnext_tiny": Built(partial(_vision, "convnext_tiny"), SIZE, 28.6),
    "convnext_base": Built(partial(_vision, "convnext_base"), SIZE, 88.6),
    "efficientnet_b0": Built(partial(_vision, "efficientnet_b0"), SIZE, 5.27),
    "efficientnet_b4": Built(partial(_vision, "efficientnet_b4"), SIZE, 19.3),
    "efficientnet_v2_s": Built(partial(_vision, "efficientnet_v2_s"), SIZE),
    "fcn_resnet50": Built(partial(_segment, "fcn_resnet50"), (1, 3, 520, 520), 33.0),
    "resnet_3d": Built(partial(_vision, "r3d_18", "video"), _CLIP, 33.4),
    "resnet_2plus1d": Built(partial(_vision, "r2plus1d_18", "video"), _CLIP, 31.5),
    "resnet_mixed": Built(partial(_vision, "mc3_18", "video"), _CLIP, 11.7),
    "dla102x": Built(partial(_timm, "dla102x"), SIZE, 26.3),
    "beit": Built(partial(_timm, "beit_base_patch16_224"), SIZE),
    "efficientformer": Built(partial(_timm, "efficientformer_l1"), SIZE, 12.3),
    "efficientvit_b2_cls": Built(partial(_timm, "efficientvit_b2"), SIZE, 24.3),
    "efficientvit_l2_cls": Built(partial(_timm, "efficientvit_l2"), SIZE, 63.7),
    "levit": Built(partial(_timm, "levit_128s"), SIZE, 7.82),
    "mobile_vit": Built(partial(_timm, "mobilevit_s"), (1, 3, 256, 256), 5.57),
    "nasnet": Built(partial(_timm, "nasnetalarge"), SIZE, 88.7),
    "segformer_base": Built(_segformer, (1, 3, 512, 512), 3.75),
    "depth_anything": Built(_depth, (1, 3, 518, 518), 24.7),
    "video_mae": Built(_video_mae, (1, 16, 3, 224, 224), 87.7),
}
