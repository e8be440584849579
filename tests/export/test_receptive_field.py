"""Radii computed by hand: a kernel of side k and dilation d adds d * (k - 1) / 2."""

import pytest
import torch
from torch import Tensor, nn

from compress.models.span import Span
from export.receptive_field import Reach, radius, reach


def conv(side: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(3, 3, side, padding=dilation * (side // 2), dilation=dilation)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([conv(1)], 0),
        ([conv(3)], 1),
        ([conv(5)], 2),
        ([conv(3), nn.ReLU(), conv(3)], 2),
        ([conv(3), conv(1), conv(3), conv(5)], 4),
        ([conv(3, dilation=2)], 2),
        ([conv(3, dilation=4), conv(3)], 5),
        ([nn.Conv2d(3, 3, (1, 7), padding=(0, 3))], 3),
        ([nn.Conv2d(3, 3, (9, 1), padding=(4, 0))], 4),
        ([nn.MaxPool2d(3, 1, 1)], 1),
        ([nn.Identity()], 0),
    ],
)
def test_radius_is_that_computed_by_hand(layers: list[nn.Module], expected: int) -> None:
    assert radius(nn.Sequential(*layers), 3, 1) == expected


def test_a_kernel_that_looks_one_way_counts_its_longer_arm() -> None:
    assert radius(nn.Sequential(nn.ZeroPad2d((4, 0, 0, 0)), nn.Conv2d(3, 3, (1, 5))), 3, 1) == 4


def test_weights_do_not_matter() -> None:
    layer = conv(3)
    nn.init.zeros_(layer.weight)
    assert radius(layer, 3, 1) == 1


def test_a_skip_does_not_shorten_and_the_longest_branch_counts() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.short, self.long = conv(3), conv(7)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.short(x) * torch.sigmoid(self.long(x))

    assert radius(Branches(), 3, 1) == 3


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pixel_shuffle_keeps_the_radius_in_input_pixels(scale: int) -> None:
    assert radius(nn.Sequential(nn.Conv2d(3, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)), 3, scale) == 1
    assert radius(nn.Sequential(nn.Conv2d(3, 3 * scale**2, 1), nn.PixelShuffle(scale)), 3, scale) == 0


@pytest.mark.parametrize(("channels", "scale"), [(4, 2), (8, 3), (16, 4)])
def test_span_has_21_whatever_its_width(channels: int, scale: int) -> None:
    # 1 of conv_1, 3 in each of 6 blocks, 1 of conv_2, 1 of the upsampler
    assert radius(Span(channels, scale).eval(), 3, scale) == 21


def test_one_channel_networks_are_probed_too() -> None:
    assert radius(nn.Conv2d(1, 1, 3, padding=1), 1, 1) == 1


def test_global_pooling_has_none(averaging: nn.Module) -> None:
    assert radius(averaging, 3, 2) is None


def test_a_radius_beyond_the_probe_is_none() -> None:
    assert radius(conv(31), 3, 1, side=33) == 15  # the largest that a side of 33 can tell
    assert radius(conv(33), 3, 1, side=33) is None


def test_an_output_that_does_not_depend_on_the_input_has_none() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    assert radius(Constant(), 3, 1) is None


class Striding(nn.Module):
    """Down by 2, up by nearest: exact on even positions only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(nn.functional.interpolate(self.down(x), scale_factor=2.0, mode="nearest"))[
            ..., : x.shape[2], : x.shape[3]
        ]


class Resizing(nn.Module):
    """Shrinks to a quarter and resizes back to the image's size: where a pixel lands depends on that size."""

    def forward(self, x: Tensor) -> Tensor:
        small = nn.functional.max_pool2d(x, 7, 3)
        return x * torch.sigmoid(nn.functional.interpolate(small, x.shape[2:], mode="bilinear"))


def test_reach_of_a_plain_network_is_its_radius_on_every_pixel() -> None:
    assert reach(nn.Sequential(conv(3), nn.ReLU(), conv(5)), 3, 1) == Reach(3, 1)
    assert reach(Span(4, 2).eval(), 3, 2) == Reach(21, 1)


def test_reach_of_a_strided_network_needs_tiles_on_its_grid() -> None:
    found = reach(Striding(), 3, 1)
    assert found.step == 2 and found.halo is not None and found.halo >= 3


def test_a_network_that_resizes_to_its_input_has_no_radius() -> None:
    assert reach(Resizing(), 3, 1).halo is None


def test_a_unit_is_kept_by_the_probe_and_its_radius_holds_for_every_position() -> None:
    module = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 48, 3, padding=1), nn.PixelShuffle(4))
    found = reach(module, 3, 1, unit=4)
    assert found.step == 4 and found.halo is not None and 7 <= found.halo <= 11  # 4 + 3 at the cell's far corner


def test_reach_of_global_pooling_is_the_whole_image(averaging: nn.Module) -> None:
    assert reach(averaging, 3, 2) == Reach(None, 1)
