"""Predictors against their slow twins and by hand."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from search.evolution import Evolution, crowding, fronts
from search.history import Prior, Table
from search.predictors import REGRESSORS, Averaged, Problem, best_regressor, boosted, mean_rank, rank_residual
from search.space import Candidate, Knob, Space

SPACE = Space((Knob("a", (1, 2, 3), ordinal=True), Knob("b", ("x", "y")), Knob("c", (0, 1))))
SCORES = st.lists(st.one_of(st.none(), st.integers(50, 70).map(float)), min_size=12, max_size=12)
FULL = st.lists(st.integers(50, 70).map(float), min_size=12, max_size=12)


def table(scores):
    return {c: s for c, s in zip(SPACE.candidates, scores, strict=True) if s is not None}


@given(st.lists(SCORES, min_size=1, max_size=4), st.sampled_from([0.5, 1.0, 2.0]))
def test_mean_rank_equals_its_twin(reference, scores, power):
    tables = [table(s) for s in scores]
    problem = Problem(SPACE, SPACE.candidates, Prior(tuple(Table(str(i), t) for i, t in enumerate(tables))), {})
    expected = reference("slow_search_ranks").mean_rank(SPACE.candidates, tables, power)
    assert mean_rank(problem, power) == pytest.approx(expected)


@given(st.lists(FULL, min_size=1, max_size=3), st.lists(st.integers(0, 11), unique=True, max_size=6), FULL)
def test_rank_residual_equals_conditioning_one_by_one(reference, scores, places, own):
    tables = [table(s) for s in scores]
    measured = {SPACE.candidates[i]: own[i] for i in places}
    prior = Prior(tuple(Table(str(i), t, 66.0 + i) for i, t in enumerate(tables)), 65.0)
    predicted = rank_residual(
        Problem(SPACE, SPACE.candidates, prior, measured), Averaged((0.5,), (0.4,), (0.6,), (0.8,))
    )
    slow = reference("slow_search_ranks").rank_residual(
        list(SPACE.candidates), tables, [66.0 + i for i in range(len(tables))], measured, 65.0, 0.5, 4.0, 0.6, 0.8
    )
    slow = np.array(slow) - np.mean(slow)
    slow = slow / slow.std() if slow.std() > 1e-9 else 0 * slow
    if np.std(predicted) > 1e-6:
        assert predicted == pytest.approx(slow, abs=1e-6)


def test_mean_rank_by_hand():
    a, b, c = SPACE.candidates[:3]
    prior = Prior((Table("m", {a: 3.0, b: 3.0, c: 1.0}), Table("n", {a: 1.0, c: 2.0})))
    assert mean_rank(Problem(SPACE, (a, b, c), prior, {})).tolist() == [-1.75, -1.5, -2.0]
    assert mean_rank(Problem(SPACE, SPACE.candidates[3:5], prior, {})).tolist() == [-3.0, -3.0]


def test_what_was_measured_moves_the_residual_of_its_neighbours():
    scores = {c: 60.0 - i for i, c in enumerate(SPACE.candidates)}
    prior = Prior((Table("m", scores, 61.0),), 61.0)
    before = rank_residual(Problem(SPACE, SPACE.candidates, prior, {}))
    after = rank_residual(Problem(SPACE, SPACE.candidates, prior, {SPACE.candidates[0]: 51.0}))
    moved = after - before
    assert np.argmin(moved) == 0
    assert moved[1] < moved[11]


def test_rank_residual_without_tables_or_reference_still_orders():
    a, b = SPACE.candidates[0], SPACE.candidates[-1]
    found = rank_residual(Problem(SPACE, SPACE.candidates, Prior(), {a: 1.0, b: 2.0}))
    assert found[-1] > found[0]
    assert rank_residual(Problem(SPACE, SPACE.candidates, Prior(), {})).tolist() == [0.0] * 12
    assert np.isfinite(rank_residual(Problem(SPACE, SPACE.candidates, Prior(), {a: 1.0}))).all()


def test_boosted_trees_learn_from_tables_and_clip_drops():
    scores = {c: 70.0 - 30 * (c["b"] == "y") - c["a"] for c in SPACE.candidates}
    prior = Prior((Table("m", scores, 71.0, {"layers": 3}),), 80.0, {"layers": 5})
    found = boosted(Problem(SPACE, SPACE.candidates, prior, {}))
    assert min(found) >= -10.5
    assert all(found[i] < -8 for i, c in enumerate(SPACE.candidates) if c["b"] == "y")
    raw = boosted(Problem(SPACE, SPACE.candidates, Prior(prior.tables, None, {"layers": 5}), {}))
    assert min(raw) > 30
    assert boosted(Problem(SPACE, SPACE.candidates, Prior(), {})).tolist() == [0.0] * 12


@pytest.mark.parametrize("name", sorted(REGRESSORS))
def test_regressors_recover_a_sum(name):
    random = np.random.default_rng(0)
    features = random.integers(0, 2, (60, 6)).astype(float)
    values = features @ np.array([3.0, -2.0, 1.0, 0.0, 0.5, 2.0]) + 100
    predicted = REGRESSORS[name](features[:50], values[:50])(features[50:])
    assert np.corrcoef(predicted, values[50:])[0, 1] > 0.8


def test_ridge_by_hand():
    """One feature -1, 1 with values -1, 1, unit variance already: weight 2 / (2 + alpha)."""
    predict = REGRESSORS["ridge-1"](np.array([[-1.0], [1.0]]), np.array([-1.0, 1.0]))
    assert predict(np.array([[1.0]])).tolist() == pytest.approx([2 / 3])


def test_the_best_regressor_is_found_by_validation():
    features = np.random.default_rng(0).random((40, 3))
    wanted = features @ [1.0, 2.0, 3.0]
    name, predict = best_regressor(features, wanted)
    assert name in REGRESSORS
    assert np.abs(predict(features) - wanted).max() < 0.1 * np.ptp(wanted)
    name, predict = best_regressor(features[:3], np.ones(3))
    assert (name, predict(features[:1]).tolist()) == ("ridge-1", [1.0])


COSTS = st.lists(st.lists(st.integers(0, 4).map(float), min_size=2, max_size=2), min_size=1, max_size=12)


@given(COSTS)
def test_fronts_and_crowding_equal_their_twins(reference, costs):
    slow = reference("slow_search_evolution")
    assert fronts(np.array(costs)).tolist() == slow.fronts(costs)
    distinct = [list(c) for c in {tuple(c) for c in costs}]
    assert crowding(np.array(distinct)).tolist() == pytest.approx(slow.crowding(distinct))


def test_evolution_finds_the_front_of_a_sum():
    counts = np.full(8, 3)
    weight = np.arange(1, 9)

    def costs(places):
        return np.stack([(places * weight).sum(1), ((2 - places) * weight[::-1]).sum(1)], axis=1).astype(float)

    evolution = Evolution(counts, costs, lambda p: p.sum(1) < 16, population=60, generations=60)
    start = np.random.default_rng(1).integers(0, 2, (60, 8))
    last = evolution.run(start, np.random.default_rng(0))
    assert len(np.unique(last, axis=0)) == len(last)
    assert (last.sum(1) < 16).all()
    assert last.sum(1).min() == 0  # one end of the front
    assert last.sum(1).max() >= 14


def test_candidates_outside_a_table_are_ordered_last():
    known, unknown = Candidate({"a": 1, "b": "x", "c": 0}), Candidate({"a": 3, "b": "y", "c": 1})
    found = mean_rank(Problem(SPACE, (unknown, known), Prior((Table("m", {known: 0.0}),)), {}))
    assert found[0] < found[1]
