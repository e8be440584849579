"""Concatenations that no longer share one coarse scale."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compress import zoo
from compress.methods.free_concats import FreeConcats, _factors
from compress.network import Network
from compress.registry import TASKS
from compress.task import Data, Task


class Uneven(nn.Module):
    """A wide and a narrow input of one concatenation."""

    scale = 2

    def __init__(self, kernel: int, read_twice: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.narrow = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.join = nn.Conv2d(8, 12, kernel, padding=kernel // 2)
        self.shuffle = nn.PixelShuffle(2)
        self.read_twice = read_twice
        with torch.no_grad():
            self.wide.weight.mul_(30)

    def forward(self, x: Tensor) -> Tensor:
        wide, narrow = self.wide(x), torch.nn.functional.silu(self.narrow(x))
        y: Tensor = self.shuffle(self.join(torch.cat([wide, narrow], 1)))
        return y + nn.functional.interpolate(wide[:, :3], scale_factor=2) if self.read_twice else y


@pytest.fixture(scope="module")
def task() -> Task:
    network = zoo.load("span")
    return TASKS[network.task](replace(network, scale=2), Data())


def network_of(module: nn.Module) -> Network:
    return replace(zoo.load("span"), module=module.eval(), scale=2, name="uneven")


@pytest.mark.parametrize("read_twice", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_function_stays_and_the_ranges_become_alike(kernel: int, read_twice: bool, task: Task) -> None:
    given = network_of(Uneven(kernel, read_twice))
    freed = FreeConcats(crops=4, crop_size=32)(given, task)
    assert freed is not given
    image = torch.from_numpy(task.sample()).permute(2, 0, 1)[None]
    seen = []
    freed.module.get_submodule("traced.join").register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    with torch.no_grad():
        exact, found = given.module(image), freed.module(image)
    assert float((exact - found).abs().max()) < 1e-4 * float(exact.abs().max())
    spans = [float(part.max() - part.min()) for part in (seen[0][:, :4], seen[0][:, 4:])]
    assert max(spans) / min(spans) < 2.5


def test_the_network_given_is_left_as_it_was(task: Task) -> None:
    given = network_of(Uneven(1, False))
    before = {k: v.clone() for k, v in given.module.state_dict().items()}
    FreeConcats(crops=2, crop_size=32)(given, task)
    assert all(torch.equal(v, before[k]) for k, v in given.module.state_dict().items())


def test_a_network_without_concatenations_is_returned(task: Task) -> None:
    given = network_of(nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)))
    assert FreeConcats(crops=2, crop_size=32)(given, task) is given


def test_a_network_that_cannot_be_traced_is_returned(task: Task) -> None:
    class Choosy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, -x], 1) if float(x.sum()) > 0 else x

    given = network_of(Choosy())
    assert FreeConcats(crops=2, crop_size=32)(given, task) is given


def test_factors_by_hand() -> None:
    assert _factors([(-1.0, 3.0), (0.0, 1.0)], True) == [1.0, 4.0]
    assert _factors([(0.0, 3.0), (0.0, 1.0)], False) == [1.0, 3.0]
    assert _factors([(-1.0, 3.0), (-0.5, 0.25)], False) == [1.0, 6.0]
