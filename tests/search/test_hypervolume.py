"""The dominated volume against counted cells."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from search.pareto import hypervolume

POINTS = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.integers(0, 6).map(float), min_size=n, max_size=n), max_size=7),
        st.just([5.0] * n),
    )
)


@given(POINTS)
def test_equals_counted_cells(reference, case):
    assert hypervolume(*case) == pytest.approx(reference("slow_hypervolume").hypervolume(*case))


@given(POINTS, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_more_is_no_less(case, random):
    points, corner = case
    shuffled = random.sample(points, len(points))
    assert hypervolume(shuffled, corner) == pytest.approx(hypervolume(points, corner))
    assert hypervolume(points[:-1], corner) <= hypervolume(points, corner) + 1e-9


@pytest.mark.parametrize(
    ("points", "corner", "volume"),
    [
        ([(1, 2), (2, 1)], (3, 3), 3),
        ([(1,), (2,)], (4,), 3),
        ([(0, 0, 0)], (1, 2, 3), 6),
        ([(1, 0, 0), (0, 1, 0), (0, 0, 1)], (2, 2, 2), 7),
        ([(3, 0)], (3, 3), 0),
        ([(math.nan, 0), (1, 1)], (2, 2), 1),
        ([], (1, 1), 0),
    ],
)
def test_by_hand(points, corner, volume):
    assert hypervolume(points, corner) == pytest.approx(volume)


@pytest.mark.parametrize(
    ("points", "corner"), [([(1, 2)], (3,)), ([(1,)], (math.inf,)), ([(-math.inf,)], (0,)), ([(1,)], ())]
)
def test_bad_input_is_refused(points, corner):
    with pytest.raises(ValueError, match=r"reference|infinity"):
        hypervolume(points, corner)


def test_agrees_with_optuna():
    from optuna._hypervolume import compute_hypervolume

    np = pytest.importorskip("numpy")
    points = np.random.default_rng(0).random((40, 3))
    assert hypervolume(points.tolist(), (1, 1, 1)) == pytest.approx(compute_hypervolume(points, np.ones(3)))
