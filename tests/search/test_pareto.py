"""The Pareto front against its definition."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from search.pareto import front

# Small whole numbers, so that ties are frequent; NaN stands for "not measured".
COSTS = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf, math.nan]), min_size=n, max_size=n))
)


@given(COSTS)
def test_equals_the_definition(reference, costs):
    assert front(costs) == reference("slow_pareto").front(costs)


@given(COSTS.filter(bool))
def test_without_missing_values_something_is_on_the_front(costs):
    costs = [[0.0 if math.isnan(c) else c for c in row] for row in costs]
    assert any(front(costs))


def test_no_candidates_have_an_empty_front():
    assert front([]) == []


def test_a_single_candidate_is_on_the_front():
    assert front([(3.0, 4.0)]) == [True]


def test_equal_candidates_do_not_dominate_each_other():
    assert front([(1, 2), (1, 2), (2, 2)]) == [True, True, False]


def test_one_cost_keeps_every_smallest_value():
    assert front([(2,), (1,), (1,), (3,)]) == [False, True, True, False]


def test_a_cost_that_was_not_measured_neither_dominates_nor_is_dominated_on():
    assert front([(math.nan, 0), (1, 1), (2, 2)]) == [True, True, False]


def test_candidates_with_different_numbers_of_costs_are_refused():
    with pytest.raises(ValueError):
        front([(1, 2), (1,)])
