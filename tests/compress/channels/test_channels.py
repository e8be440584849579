"""Cutting channels: which go together, that the rest computes the same, which go, and what cannot be cut."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress.channels.graph import dependencies
from compress.channels.importance import scores
from compress.channels.ledger import Ledger
from compress.channels.rules_shapes import blocks
from compress.channels.selection import Budget, chosen, cost
from compress.channels.surgery import cut
from compress.channels.trial import checked, pruned
from compress.cost import measure
from compress.errors import UsageError


class Forward(nn.Module):
    """Layers by name, and a function of them and the input."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def conv(inputs, outputs, side=3, **more):
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, **more)


def attend(m, x):
    tokens = m.a(x).flatten(2).transpose(1, 2)
    q, k, v = m.qkv(m.norm(tokens)).reshape(1, tokens.shape[1], 3, 2, -1).permute(2, 0, 3, 1, 4).unbind(0)
    y = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2)
    return m.z(tokens + m.proj(y))


NETS = {
    "plain": lambda: Forward(lambda m, x: m.z(F.relu(m.a(x))), a=conv(3, 8), z=conv(8, 3)),
    "residual": lambda: Forward(lambda m, x: m.z(m.b(y := m.a(x)) + y), a=conv(3, 8), b=conv(8, 8), z=conv(8, 3)),
    "gate": lambda: Forward(
        lambda m, x: m.z((m.b(y := m.a(x)) + y) * (m.b(y).sigmoid() - 0.5)), a=conv(3, 8), b=conv(8, 8), z=conv(8, 3)
    ),
    "concat": lambda: Forward(
        lambda m, x: m.z(torch.cat([m.a(x), m.b(x), x], 1)), a=conv(3, 8), b=conv(3, 6), z=conv(17, 3)
    ),
    "depthwise": lambda: Forward(
        lambda m, x: m.z(m.b(m.a(x))), a=conv(3, 8), b=conv(8, 16, groups=8), z=conv(16, 3)
    ),
    "grouped": lambda: Forward(lambda m, x: m.z(m.b(m.a(x))), a=conv(3, 8), b=conv(8, 12, groups=2), z=conv(12, 3)),
    "shuffle": lambda: Forward(
        lambda m, x: m.z(F.pixel_unshuffle(F.pixel_shuffle(m.a(x), 2), 2)), a=conv(3, 24), z=conv(24, 3)
    ),
    "norm": lambda: Forward(
        lambda m, x: m.z(m.p(m.n(m.a(x)))), a=conv(3, 8, bias=False), n=nn.BatchNorm2d(8), p=nn.PReLU(8), z=conv(8, 3)
    ),
    "halves": lambda: Forward(lambda m, x: m.z((h := m.a(x).chunk(2, 1))[0] * h[1]), a=conv(3, 12), z=conv(6, 3)),
    "squeeze": lambda: Forward(
        lambda m, x: m.z((y := m.a(x)) * m.u(F.relu(m.d(y.mean((2, 3), keepdim=True)))).sigmoid()),
        a=conv(3, 8), d=conv(8, 4, 1), u=conv(4, 8, 1), z=conv(8, 3),
    ),
    "transposed": lambda: Forward(
        lambda m, x: m.z(m.b(m.a(x))), a=conv(3, 8), b=nn.ConvTranspose2d(8, 6, 2, 2), z=conv(6, 3)
    ),
    "twice": lambda: Forward(lambda m, x: m.z(m.b(m.b(m.a(x)))), a=conv(3, 8), b=conv(8, 8), z=conv(8, 3)),
    "interleaved": lambda: Forward(
        lambda m, x: m.z((y := m.a(x)).view(1, 2, -1, *y.shape[2:]).transpose(1, 2).flatten(1, 2)),
        a=conv(3, 12), z=conv(12, 3),
    ),
    "head": lambda: Forward(lambda m, x: m.z(m.b(m.a(x)).mean((2, 3))), a=conv(3, 8), b=conv(8, 6), z=nn.Linear(6, 4)),
}  # fmt: skip
X = torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(1))


def made(name):
    torch.manual_seed(0)
    module = NETS[name]()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module.eval()


@pytest.mark.parametrize("name", NETS)
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_a_cut_network_computes_what_the_whole_one_does_where_what_leaves_is_zero(name, data, reference):
    module = made(name)
    found, _ = checked(module, X)
    assert found.groups
    kept = found.all_kept
    for group in found.groups:
        gone = data.draw(st.sets(st.sampled_from(group.units.tolist()), max_size=group.units.size - 1))
        kept[list(gone)] = False
    whole = copy.deepcopy(module)
    reference("slow_channels").silenced(whole, found, kept)
    with torch.no_grad():
        expected, got = whole(X), cut(module, found, kept)(X)
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_counted_work_is_that_of_the_network_really_cut(name):
    module = made(name)
    found, _ = checked(module, X)
    kept = found.all_kept
    for i, group in enumerate(found.groups):
        kept[group.units[: min(1 + i, group.units.size - 1)]] = False
    assert cost(found, found.all_kept, "macs") == measure(module, X.shape).macs
    small = cut(module, found, kept)
    assert cost(found, kept, "macs") == measure(small, X.shape).macs < measure(module, X.shape).macs
    numbers = sum(t.numel() for t in (*small.parameters(), *small.buffers()))
    assert cost(found, kept, "bytes") == numbers


def test_what_is_cut_from_which_layer():
    assert sizes("residual") == {("a", "b"): 8}
    assert sizes("concat") == {("a",): 8, ("b",): 6}
    assert sizes("depthwise") == {("a", "b"): 8}
    assert sizes("grouped") == {("a",): 4, ("b",): 6}
    assert sizes("shuffle") == {("a",): 6}
    assert sizes("halves") == {("a",): 6}
    assert sizes("twice") == {("a", "b"): 8}
    found, _ = checked(made("shuffle"), X)
    assert found.groups[0].multiplicity == 4 and found.forbidden == {"z": "the network's output"}


def sizes(name):
    found, _ = checked(made(name), X)
    return {group.layers: group.units.size for group in found.groups}


def test_attention_loses_the_same_places_of_every_head():
    module = Forward(
        attend, a=conv(3, 8), norm=nn.LayerNorm(8), qkv=nn.Linear(8, 24), proj=nn.Linear(8, 8), z=nn.Linear(8, 2)
    ).eval()
    found, _ = checked(module, X)
    assert {g.layers: g.units.size for g in found.groups} == {("a", "proj"): 8, ("qkv",): 4}
    small = pruned(module, X, lambda f: scores(module, f, "l2"), Budget(0.5, "channels"))
    assert small(X).shape == module(X).shape and small.qkv.out_features % 6 == 0


def test_depthwise_layers_say_their_new_sizes():
    small = pruned(made("depthwise"), X, lambda f: np.arange(f.count, dtype=float), Budget(0.5, "channels"))
    assert (small.b.groups, small.b.in_channels, small.b.out_channels) == (4, 4, 8)
    assert (small.a.out_channels, small.z.in_channels) == (4, 8)


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
@settings(deadline=None)
def test_roots_are_those_of_merged_sets(reference, drawn):
    count, pairs = drawn
    ledger = Ledger()
    ids = ledger.new(count)
    for a, b in pairs:
        ledger.tie(ids[[a]], ids[[b]])
    assert ledger.roots().tolist() == reference("slow_channels").roots(count, pairs)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
@settings(deadline=None)
def test_blocks_hold_equally_many_numbers(shape, data):
    other = data.draw(st.permutations([f for n in shape for f in ([2, n // 2] if n % 2 == 0 else [n])]))
    for mine, theirs in blocks(shape, other):
        assert np.prod([shape[a] for a in mine]) == np.prod([other[a] for a in theirs])
    assert blocks((4, 6), (4, 2, 3)) == [([0], [0]), ([1], [1, 2])]
    assert blocks((1, 2, 2, 5), (4, 1, 5)) == [([1, 2], [0]), ([3], [2])]


@pytest.mark.parametrize("name", ["plain", "residual", "grouped", "head"])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_choice_is_that_of_cutting_one_at_a_time(name, share, reference):
    module = made(name)
    found, _ = checked(module, X)
    values = np.random.default_rng(0).permutation(found.count).astype(float)
    slow = reference("slow_channels").chosen(module, found, values, share, X.shape)
    assert np.array_equal(chosen(found, values, Budget(share, most=0.999)), slow)


@pytest.mark.parametrize("measured", ["taylor", "fisher"])
@pytest.mark.parametrize("name", ["plain", "residual"])
def test_importance_is_that_of_its_twin(name, measured, reference):
    module = made(name)
    found, _ = checked(module, X)
    expected = reference("slow_channels").sampled_scores(copy.deepcopy(module), found, X, 3, measured)
    got = scores(module, found, measured, [X], 3)
    units = np.concatenate([group.units for group in found.groups])
    assert np.allclose(got[units], expected[units], rtol=1e-4)


def test_norms_take_what_makes_and_what_reads_a_channel():
    module = Forward(lambda m, x: m.z(m.a(x)), a=nn.Conv2d(1, 2, 1), z=nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        module.a.weight.copy_(torch.tensor([3.0, 0.0]).view(2, 1, 1, 1))
        module.a.bias.copy_(torch.tensor([0.0, 2.0]))
        module.z.weight.copy_(torch.tensor([4.0, 0.0]).view(1, 2, 1, 1))
    found = dependencies(module.eval(), torch.rand(1, 1, 4, 5))
    units = found.groups[0].units
    assert scores(module, found, "l1")[units] == pytest.approx([7 / 4.5, 2 / 4.5])
    assert scores(module, found, "l2")[units] == pytest.approx([5 / 3.5, 2 / 3.5])


@pytest.mark.parametrize("align", [1, 2, 8])
def test_widths_are_aligned(align):
    module = Forward(
        lambda m, x: F.pixel_shuffle(m.z(F.pixel_shuffle(m.b(m.a(x)), 2)), 2),
        a=conv(3, 40),
        b=conv(40, 64),
        z=conv(16, 12),
    ).eval()
    small = pruned(module, X, lambda f: scores(module, f, "l2"), Budget(0.3, align=align))
    assert small.a.out_channels % align == 0 and small.b.out_channels % max(4, align) == 0
    assert small.a.out_channels * small.b.out_channels < 40 * 64


# what cannot be cut


def test_a_share_that_would_empty_a_layer_names_layers():
    with pytest.raises(
        UsageError, match=r"95% of the macs cannot go without emptying layers: .*of a and .*z \(the network"
    ):
        pruned(made("plain"), X, lambda f: scores(made("plain"), f, "l2"), Budget(0.95, most=0.5))


def test_nothing_that_may_leave_names_the_reasons():
    module = conv(3, 4).eval()
    with pytest.raises(UsageError, match=r"no channel may leave: .*the network's output"):
        pruned(module, X, lambda f: scores(module, f, "l2"), Budget(0.3))


def test_a_pattern_that_fits_nothing_is_told_the_layers():
    with pytest.raises(UsageError, match=r"skip holds 'body\*', which fits no layer; .*: a, b"):
        pruned(made("concat"), X, lambda f: scores(made("concat"), f, "l2"), Budget(0.3, skip=("body*",)))


def test_a_layer_left_alone_keeps_its_channels():
    small = pruned(made("concat"), X, lambda f: scores(made("concat"), f, "l2"), Budget(0.2, skip=("a",)))
    assert small.a.out_channels == 8 and small.b.out_channels < 6


def test_shared_weights_stay_shared():
    module = Forward(lambda m, x: m.z(m.c(m.b(m.a(x)))), a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), z=conv(8, 3)).eval()
    module.c.weight = module.b.weight
    found, _ = checked(module, X)
    assert {g.layers for g in found.groups} == {("a", "b", "c")}
    small = pruned(module, X, lambda f: scores(module, f, "l2"), Budget(0.3))
    assert small.b.weight is small.c.weight and small(X).shape == module(X).shape
    assert small.b.in_channels == small.c.out_channels == small.b.weight.shape[0] < 8


def test_a_parameter_that_nothing_reads_is_named_and_left():
    module = made("plain")
    module.lost = conv(8, 8)
    found, _ = checked(module, X)
    assert found.unused == ("lost.weight", "lost.bias")
    small = pruned(module, X, lambda f: scores(module, f, "l2"), Budget(0.3))
    assert small.lost.weight.shape == (8, 8, 3, 3)


def test_a_way_that_depends_on_values_names_the_layer():
    branch = Forward(lambda m, x: m.c(x) if x.sum() > 0 else x, c=conv(8, 8))
    module = Forward(lambda m, x: m.z(m.b(m.a(x))), a=conv(3, 8), b=branch, z=conv(8, 3)).eval()
    with pytest.raises(UsageError, match=r"torch.export stops in layer b: .*may not depend on values"):
        checked(module, X)


def test_an_operator_without_a_rule_names_itself_and_its_layer():
    module = Forward(lambda m, x: m.z(m.a(x).cumsum(1) + m.b(x)), a=conv(3, 8), b=conv(3, 8), z=conv(8, 3)).eval()
    found, _ = checked(module, X)
    assert not found.groups
    assert found.forbidden["a"] == "cumsum in the network itself, which has no rule"


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.z(torch.cat(torch.split(m.a(x), [2, 6], 1)[::-1], 1)),
        lambda m, x: m.z((y := m.a(x)).view(1, 2, 4, *y.shape[2:]).flatten(1, 2)),
        lambda m, x: m.z(torch.cat([(y := m.a(x))[:, 3:], y[:, :3]], 1)),
    ],
    ids=["split", "view", "slice"],
)
def test_a_size_that_is_a_number_in_the_code_lets_channels_stay(function):
    module = Forward(function, a=conv(3, 8), b=conv(3, 8), z=conv(8, 3)).eval()
    found, _ = checked(module, X)
    assert "whose size is a number in the code" in found.forbidden["a"]
