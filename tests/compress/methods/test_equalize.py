"""Channels of one tensor brought to one range: the function stays, and only what scales is scaled."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compress import zoo
from compress.methods._fx import traced
from compress.methods._streams import streams_of
from compress.methods.equalize import Equalize, _equalized
from compress.network import Network
from compress.registry import TASKS
from compress.task import Data, Task

SPREAD = torch.tensor([1.0, 1.0, 0.02, 0.05, 0.1, 0.03, 0.2, 0.02])


def uneven(inputs: int, outputs: int = 8, groups: int = 1) -> nn.Conv2d:
    """A convolution whose channels have very different ranges."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)
    with torch.no_grad():
        layer.weight.mul_(SPREAD.view(-1, 1, 1, 1))
        assert layer.bias is not None
        layer.bias.mul_(SPREAD)
    return layer


class Chain(nn.Module):
    """Everything that scales between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep, self.last = uneven(3), uneven(8, groups=8), nn.Conv2d(8, 3, 1)
        self.act, self.pool, self.slope = nn.ReLU(), nn.MaxPool2d(3, 1, 1), nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.act(self.first(x)))
        y: Tensor = self.last(self.slope(self.deep(y) * 3.0))
        return y


class Norm(nn.Module):
    """Batch normalisation makes the tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1)
        self.norm.weight.data.copy_(SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.norm(self.first(x))))
        return y


class Gated(nn.Module):
    """A residual stream into which only a product can bring the branch, because a sigmoid reads that too."""

    def __init__(self, gate: bool = True) -> None:
        super().__init__()
        self.first, self.branch, self.last = uneven(3), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        features = self.branch(x)
        total = features + x
        y: Tensor = self.last(total * torch.sigmoid(features) if self.gate else total)
        return y


class Joined(nn.Module):
    """A concatenation, of which one part is read elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = uneven(3), uneven(3)
        self.last, self.side = nn.Conv2d(16, 3, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        y: Tensor = self.last(torch.cat([a, b], 1)) + self.side(a)
        return y


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def changed(module: nn.Module, images: Tensor, products: bool = True) -> tuple[nn.Module, dict[str, Tensor]]:
    """The equalized network, after its function was found the same, and the outputs of its convolutions."""
    graph = traced(module.eval())
    assert graph is not None
    assert _equalized(graph, images, products)
    outputs: dict[str, Tensor] = {}
    for name, layer in graph.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
            layer.register_forward_hook(lambda layer, args, output, name=name: outputs.update({name: output}))
    with torch.no_grad():
        exact, found = module(images), graph(images)
    assert float((exact - found).abs().max()) < 1e-5 * float(exact.abs().max())
    return graph, outputs


def spread(x: Tensor) -> float:
    """The widest channel over the narrowest."""
    reach = x.abs().amax((0, 2, 3))
    return float(reach.max() / reach.min())


@pytest.mark.parametrize(("make", "tensor"), [(Chain, "deep"), (Norm, "norm"), (Gated, "first"), (Joined, "second")])
def test_the_function_stays_and_the_channels_become_alike(make: type[nn.Module], tensor: str, images: Tensor) -> None:
    torch.manual_seed(0)
    module = make().eval()
    before: dict[str, Tensor] = {}
    hook = module.get_submodule(tensor).register_forward_hook(lambda layer, args, y: before.update(y=y.detach()))
    module(images)
    hook.remove()
    _, outputs = changed(module, images)
    assert spread(outputs[tensor]) < 0.35 * spread(before["y"])


def test_factors_of_added_products_are_powers_of_two(images: Tensor) -> None:
    torch.manual_seed(0)
    graph, _ = changed(Gated(), images)
    (name,) = [name for name, _ in graph.named_buffers() if name.startswith("scale_")]
    steps = torch.log2(graph.get_buffer(name))
    assert torch.equal(steps, steps.round())
    assert float(steps.abs().max()) > 0


def test_without_products_a_gated_stream_stays(images: Tensor) -> None:
    torch.manual_seed(0)
    graph = traced(Gated().eval())
    assert graph is not None
    assert not _equalized(graph, images, products=False)


def test_a_sum_of_two_convolutions_needs_no_product(images: Tensor) -> None:
    torch.manual_seed(0)
    graph, _ = changed(Gated(gate=False), images)
    assert not list(graph.named_buffers())


def test_a_layer_called_twice_is_left_alone(images: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = uneven(3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.middle(self.middle(self.first(x))))
            return y

    graph = traced(Twice().eval())
    assert graph is not None
    assert not _equalized(graph, images, products=True)


def test_what_a_sigmoid_reads_is_not_scaled() -> None:
    graph = traced(Gated())
    assert graph is not None
    nodes = {node.name: node for node in graph.graph.nodes}
    widths = {nodes[name]: 8 for name in ("first", "branch", "add", "sigmoid", "mul")}
    fixed = {node.name for stream in streams_of(graph, widths, {})[0] if stream.fixed for node in stream.nodes}
    assert fixed == {"first", "branch", "add", "sigmoid", "mul"}  # the sum ties them all
    fixed = {
        node.name
        for stream in streams_of(graph, widths, {nodes["add"]: "enter"})[0]
        if stream.fixed
        for node in stream.nodes
    }
    assert fixed == {"branch", "sigmoid"}


@pytest.fixture(scope="module")
def task() -> Task:
    network = zoo.load("span")
    return TASKS[network.task](network, Data())


def test_the_network_given_is_left_as_it_was(task: Task) -> None:
    given = zoo.load("span")
    before = {k: v.clone() for k, v in given.module.state_dict().items()}
    found = Equalize(crops=2, crop_size=32)(given, task)
    assert found is not given
    assert all(torch.equal(v, before[k]) for k, v in given.module.state_dict().items())
    assert isinstance(found, Network)


def test_a_network_that_cannot_be_traced_is_returned(task: Task) -> None:
    class Choosy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    given = replace(zoo.load("span"), module=Choosy())
    assert Equalize(crops=2, crop_size=32)(given, task) is given
