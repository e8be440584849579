"""What a module of unknown make takes and gives is found by running it."""

import pytest
import torch
from torch import nn

from compress.errors import UsageError
from compress.network import CLASSIFICATION, RESTORATION, SUPER_RESOLUTION
from compress.sources.probe import SIZES, Contract, contract


class Computing(nn.Module):
    """Whatever a function does."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def taking(channels, sides, function):
    """A module that takes images of so many channels and sides only."""

    def run(x):
        if x.shape[1] not in channels or not sides(x.shape[2], x.shape[3]):
            raise RuntimeError(f"first line\nsize mismatch, got {tuple(x.shape)}")
        return function(x)

    return Computing(run)


def doubled(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x, Contract(RESTORATION, 1, 3, None, None)),
        (doubled, Contract(SUPER_RESOLUTION, 2, 3, None, None)),
        (lambda x: doubled(doubled(x)), Contract(SUPER_RESOLUTION, 4, 3, None, None)),
        (lambda x: x.mean((2, 3)), Contract(CLASSIFICATION, 1, 3, 3, SIZES[0])),
        (lambda x: torch.zeros(1, 10), Contract(CLASSIFICATION, 1, 3, 10, SIZES[0])),
    ],
    ids=["restoration", "x2", "x4", "three-classes", "ten-classes"],
)
def test_the_output_tells_the_task(function, expected):
    assert contract(Computing(function), "net") == expected


def test_a_module_of_one_channel_is_found():
    assert contract(taking((1,), lambda h, w: True, doubled), "net").channels == 1


def test_usual_sizes_are_tried_until_one_runs():
    module = taking((3,), lambda h, w: (h, w) == (224, 224), lambda x: torch.zeros(1, 1000))
    assert contract(module, "net") == Contract(CLASSIFICATION, 1, 3, 1000, (224, 224))


def test_a_size_that_is_known_is_the_only_one_tried():
    module = taking((3,), lambda h, w: (h, w) == (48, 80), lambda x: torch.zeros(1, 5))
    assert contract(module, "net", [(48, 80)]).input_size == (48, 80)
    with pytest.raises(
        UsageError, match=r"net runs on none of the inputs that were tried \(3x48x81: size mismatch, got"
    ):
        contract(module, "net", [(48, 81)])


def test_a_module_that_runs_on_nothing_is_told_what_was_tried():
    module = taking((4,), lambda h, w: True, lambda x: x)
    with pytest.raises(
        UsageError, match=r"3x64x64: size mismatch.*1x64x64: .*an attribute input_size = \(height, width\)"
    ):
        contract(module, "net")


def test_an_error_without_words_is_called_by_its_kind():
    def fails(x):
        raise AssertionError

    with pytest.raises(UsageError, match=r"3x64x64: AssertionError"):
        contract(Computing(fails), "net")


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: {"out": x}, "a dict"),
        (lambda x: x[0], r"a tensor \(3, 64, 64\)"),
        (lambda x: x[..., :-1], r"a tensor \(1, 3, 64, 63\)"),
        (lambda x: doubled(x)[..., :64], r"a tensor \(1, 3, 128, 64\)"),
        (lambda x: x[..., ::2, ::2], r"a tensor \(1, 3, 32, 32\)"),
        (lambda x: x[:, :2], r"a tensor \(1, 2, 64, 64\)"),
        (lambda x: x.mean(), r"a tensor \(\)"),
    ],
)
def test_outputs_that_are_neither_image_nor_vector_are_refused(function, found):
    with pytest.raises(
        UsageError, match=rf"net gives {found} for an image \(1, 3, 64, 64\), expected \(1, classes\) or"
    ):
        contract(Computing(function), "net")


def test_another_task_than_the_output_shows_is_refused():
    assert contract(Computing(doubled), "net", task=SUPER_RESOLUTION).scale == 2
    with pytest.raises(
        UsageError, match=r"--task classification, but net gives \(1, 3, 128, 128\), which is super-res"
    ):
        contract(Computing(doubled), "net", task=CLASSIFICATION)
