"""How predictors and samplers are judged."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from search.errors import SearchError
from search.history import Prior, Table
from search.judging import bootstrap, geometric_mean, kendall_at_top, leave_one_out, regret, spearman, trials_to
from search.predictors import mean_rank
from search.space import Knob, Space

SPACE = Space((Knob("a", tuple(range(10))),))
NUMBERS = st.lists(st.integers(0, 6).map(float), min_size=6, max_size=6)


@given(NUMBERS, NUMBERS)
def test_correlations_equal_their_definitions(reference, a, b):
    slow = reference("slow_search_ranks")
    if len(set(a)) < 2 or len(set(b)) < 2:
        assert math.isnan(spearman(a, b))
        return
    assert spearman(a, b) == pytest.approx(slow.spearman(a, b))
    assert kendall_at_top(a, b, share=1.0) == pytest.approx(slow.kendall_b(a, b))


def test_kendall_looks_at_the_truly_best():
    true = [10.0, 9.0, 8.0, 1.0, 0.0, 0.5]
    assert kendall_at_top([3.0, 2.0, 1.0, 9.0, 9.0, 9.0], true, share=0.5) == 1.0
    assert kendall_at_top([1.0, 2.0, 3.0, 0.0, 0.0, 0.0], true, share=0.5) == -1.0
    assert math.isnan(kendall_at_top([1.0] * 6, true))


def test_regret_and_trials_by_hand():
    tried = [68.0, 70.9, 70.0, 71.0]
    assert [round(regret(tried, 71.0, k), 6) for k in (1, 2, 10)] == [3.0, 0.1, 0.0]
    assert [trials_to(tried, 71.0, w) for w in (0.0, 0.1, 0.5, 3.0)] == [4, 2, 2, 1]
    assert trials_to(tried, 75.0, 1.0) is None


def test_geometric_mean_by_hand():
    assert geometric_mean([1, 4, 16]) == pytest.approx(4)


def test_the_interval_of_equal_groups_has_no_width_and_of_different_ones_holds_the_mean():
    assert bootstrap([[2.0, 2.0], [2.0]], lambda v: sum(v) / len(v)) == (2.0, 2.0)
    low, high = bootstrap([[1.0], [2.0], [3.0], [4.0]], lambda v: sum(v) / len(v))
    assert low < 2.5 < high
    assert bootstrap([[1.0], [5.0]], max, seed=4) == bootstrap([[1.0], [5.0]], max, seed=4)


def test_leaving_one_out_by_hand():
    forward = {c: float(c["a"]) for c in SPACE.candidates}
    backward = {c: -float(c["a"]) for c in SPACE.candidates}
    prior = Prior((Table("one", forward), Table("two", forward), Table("three", backward)))
    one, _, three = leave_one_out(mean_rank, SPACE, prior)
    assert (three.model, three.trials["0.0"], three.regret["1"]) == ("three", 10, 9)
    assert three.spearman == pytest.approx(-1)
    assert math.isnan(one.spearman)  # the other two cancel
    assert one.to_json()["spearman"] is None
    turned = Prior(tuple(Table(t.name, {c: -s for c, s in t.scores.items()}) for t in prior.tables))
    assert leave_one_out(mean_rank, SPACE, turned, sign=-1)[2] == three


def test_leaving_one_out_needs_two():
    with pytest.raises(SearchError, match="two tables or more, found 1"):
        leave_one_out(mean_rank, SPACE, Prior((Table("one", {}),)))


def test_tables_of_another_space_are_passed_over():
    other = Space((Knob("b", (1, 2)),))
    tables = tuple(Table(n, dict.fromkeys(other.candidates, 1.0)) for n in "xy")
    assert leave_one_out(mean_rank, SPACE, Prior(tables)) == ()
