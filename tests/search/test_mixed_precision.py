"""The integer program against trying everything."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from search.errors import InfeasibleError, SearchError
from search.mixed_precision import Option, choose

NUMBER = st.integers(0, 9).map(float)
LAYERS = (
    st.integers(1, 5)
    .flatmap(
        lambda n: st.lists(st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=3, max_size=3), min_size=n, max_size=n)
    )
    .map(
        lambda rows: {
            f"layer{i}": [Option(f"int{2**k}", loss, {"bytes": a, "ms": b}) for k, (loss, a, b) in enumerate(row, 1)]
            for i, row in enumerate(rows)
        }
    )
)


@given(LAYERS, st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_equals_trying_everything(reference, layers, size, time, tie):
    budgets = {"bytes": float(size), "ms": float(time)}
    tied = [list(layers)[:2]] if tie and len(layers) > 1 else []
    best = reference("slow_mixed_precision").choose(layers, budgets, tied)
    if best is None:
        with pytest.raises(InfeasibleError) as error:
            choose(layers, budgets, tied)
        for name, least in error.value.reachable.items():
            if least > 0:
                assert reference("slow_mixed_precision").choose(layers, {name: least}, tied) is not None
                assert reference("slow_mixed_precision").choose(layers, {name: least - 0.5}, tied) is None
        return
    found = choose(layers, budgets, tied)
    assert found.loss == pytest.approx(best)
    assert all(found.costs[name] <= limit + 1e-6 for name, limit in budgets.items())
    assert all(len({found.options[layer].name for layer in group}) == 1 for group in tied)


LAYER = [Option("int4", 1.0, {"bytes": 4}), Option("int8", 0.1, {"bytes": 8})]


def test_by_hand():
    found = choose({"a": LAYER, "b": [Option("int4", 5.0, {"bytes": 4}), LAYER[1]]}, {"bytes": 12})
    assert {k: o.name for k, o in found.options.items()} == {"a": "int4", "b": "int8"}
    assert (found.loss, found.costs) == (pytest.approx(1.1), {"bytes": 12})


def test_without_a_budget_the_smallest_loss_of_each():
    assert choose({"a": LAYER, "b": LAYER}, {}).loss == pytest.approx(0.2)


def test_tiny_losses_are_told_apart():
    layer = [Option("a", 2e-12, {}), Option("b", 1e-12, {})]
    assert choose({"x": layer, "y": layer}, {}).loss == pytest.approx(2e-12)


def test_many_layers_take_no_time():
    layers = {
        f"l{i}": [Option(f"int{b}", (i % 7 + 1) * 2.0**-b, {"bops": (i % 5 + 1.0) * b * b}) for b in (2, 4, 8)]
        for i in range(200)
    }
    found = choose(layers, {"bops": 15_000})
    assert found.costs["bops"] <= 15_000
    assert {o.name for o in found.options.values()} == {"int2", "int4", "int8"} or found.loss > 0


def test_an_infeasible_budget_names_the_smallest():
    with pytest.raises(InfeasibleError, match="at most 7 was asked, the smallest is 8") as error:
        choose({"a": LAYER, "b": LAYER}, {"bytes": 7})
    assert error.value.reachable == {"bytes": pytest.approx(8)}


def test_budgets_that_only_clash_together_say_so():
    layer = [Option("small", 0, {"bytes": 1, "ms": 9}), Option("fast", 0, {"bytes": 9, "ms": 1})]
    with pytest.raises(InfeasibleError, match=r"grown by 1\.8 they could be"):
        choose({"a": layer}, {"bytes": 5, "ms": 5})


@pytest.mark.parametrize(
    ("layers", "budgets", "tied", "message"),
    [
        ({}, {}, [], "every layer needs an option"),
        ({"a": []}, {}, [], r"without one: \['a'\]"),
        ({"a": LAYER}, {"ms": 1}, [], "no cost is stated for budget"),
        ({"a": LAYER}, {"bytes": 0}, [], "positive and finite"),
        ({"a": [Option("x", float("nan"))]}, {}, [], "losses are finite"),
        ({"a": [Option("x", 0, {"bytes": -1})]}, {"bytes": 1}, [], "not negative"),
        ({"a": LAYER}, {}, [["a", "b"]], "not among"),
        ({"a": LAYER, "b": LAYER[:1]}, {}, [["a", "b"]], "options of different names"),
    ],
)
def test_bad_questions_are_named(layers, budgets, tied, message):
    with pytest.raises(SearchError, match=message):
        choose(layers, budgets, tied)
