"""Spaces, candidates, and both in Optuna's words."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from search.errors import SearchError, SpaceError
from search.history import Prior, Table
from search.space import Candidate, Knob, Space

SPACE = Space((Knob("bits", (4, 8, 16), ordinal=True), Knob("clip", ("max", "KL")), Knob("fuse", (True, None))))

KNOBS = st.lists(
    st.builds(
        lambda choices, ordinal: (tuple(choices), ordinal),
        st.lists(st.one_of(st.text(max_size=3), st.integers(-5, 5), st.none()), min_size=1, max_size=4, unique=True),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
).map(lambda parts: Space(tuple(Knob(f"k{i}", c, o) for i, (c, o) in enumerate(parts))))


@given(KNOBS)
def test_enumeration_holds_every_candidate_once(space):
    assert len(set(space.candidates)) == len(space.candidates) == space.size == space.combinations


@given(KNOBS)
def test_optunas_words_and_back(space):
    distributions = space.distributions()
    for candidate in space.candidates:
        params = space.params(candidate)
        assert all(distributions[name]._contains(distributions[name].to_internal_repr(v)) for name, v in params.items())
        assert space.of_params(params) == candidate
        assert space.at(space.indices(candidate)) == candidate


@given(KNOBS)
def test_features_tell_candidates_apart(space):
    features = space.features(space.candidates)
    assert len(np.unique(features, axis=0)) == space.size
    assert features.min() >= 0
    assert features.max() <= 1


@given(KNOBS)
def test_neighbours_are_mutual_and_differ_in_one_knob(space):
    for candidate in space.candidates:
        for other in space.neighbours(candidate):
            assert sum(candidate[k] != other[k] for k in candidate) == 1
            assert candidate in space.neighbours(other)


@given(KNOBS)
def test_json_and_back(space):
    assert Space.from_json(space.to_json()) == space


def test_the_order_of_enumeration_is_that_of_the_knobs():
    assert [tuple(c.values()) for c in SPACE.candidates[:3]] == [(4, "max", True), (4, "max", None), (4, "KL", True)]


def test_features_by_hand():
    (row,) = SPACE.features([Candidate({"bits": 8, "clip": "KL", "fuse": True})]).tolist()
    assert row == [0, 1, 0, 0.5, 0, 1, 1, 0]


def test_an_ordinal_neighbour_is_the_next_choice():
    found = SPACE.neighbours(Candidate({"bits": 4, "clip": "max", "fuse": True}))
    assert {c["bits"] for c in found} == {4, 8}


def test_illegal_combinations_are_not_there():
    space = Space(SPACE.knobs, lambda c: not (c["bits"] == 16 and c["clip"] == "KL"))
    assert space.size == 10
    assert Candidate({"bits": 16, "clip": "KL", "fuse": True}) not in space
    assert "not a valid combination" in space.why_not(Candidate({"bits": 16, "clip": "KL", "fuse": True}))
    drawn = {space.draw(np.random.default_rng(0)) for _ in range(5)}
    assert all(c in space for c in drawn)
    assert space.fingerprint() != Space(SPACE.knobs, lambda c: True).fingerprint()


def test_a_large_space_is_drawn_from():
    space = Space(tuple(Knob(f"k{i}", (2, 4, 8)) for i in range(60)), lambda c: c["k0"] != 2)
    assert space.size == 3**60
    assert space.draw(np.random.default_rng(1))["k0"] != 2
    assert space.fingerprint() == space.fingerprint() != Space(space.knobs, lambda c: c["k0"] != 4).fingerprint()
    with pytest.raises(SpaceError, match="draw from it"):
        _ = space.candidates


def test_draws_are_even():
    random = np.random.default_rng(3)
    counts = [0] * 12
    for _ in range(6000):
        counts[SPACE.candidates.index(SPACE.draw(random))] += 1
    assert max(abs(n - 500) for n in counts) < 5 * math.sqrt(500)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Knob("", (1,)), "a name and one choice"),
        (lambda: Knob("a", ()), "a name and one choice"),
        (lambda: Knob("a", (1, True)), "repeat themselves"),
        (lambda: Knob("a", (1.0, float("nan"))), "cannot be written as JSON"),
        (lambda: Knob("a", ((1, 2),)), "cannot be written as JSON"),
        (lambda: Space(()), "one knob or more"),
        (lambda: Space((Knob("a", (1,)), Knob("a", (2,)))), "names of their own"),
        (lambda: Space((Knob("a", (1, 2)),), lambda c: False).candidates, "loosen the predicate"),
        (lambda: SPACE.check(Candidate({"bits": 4})), "the space has"),
        (lambda: SPACE.check(Candidate({"bits": 5, "clip": "max", "fuse": True})), "bits is one of"),
        (lambda: Space(SPACE.knobs, lambda c: False).draw(np.random.default_rng(0)), "no valid candidate"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(SpaceError, match=message):
        make()


def test_a_prior_survives_json_and_turns_round():
    best, other = SPACE.candidates[:2]
    stranger = Candidate({"bits": 3, "clip": "max", "fuse": True})
    table = Table("a", {best: 70.0, other: 60.0, stranger: 1.0}, 71.0, {"layers": 20})
    prior = Prior((table,), 65.0, {"layers": 10}, 5.0)
    back = Prior.from_json(prior.to_json(SPACE), SPACE)
    assert back.tables[0].scores == {best: 70.0, other: 60.0}
    assert (back.reference, back.descriptors, back.clip) == (65.0, {"layers": 10}, 5.0)
    turned = prior.oriented(-1)
    assert turned.tables[0].scores[best] == -70
    assert (turned.reference, turned.tables[0].reference) == (-65, -71)
    assert prior.without("a").reference == 71.0


def test_descriptors_of_tables_and_model_have_to_agree():
    with pytest.raises(SearchError, match="use the same descriptors"):
        Prior((Table("a", {}, descriptors={"layers": 1}),))
