"""What holds for every sampler of the registry."""

import itertools

import optuna
import pytest

from search import samplers
from search.errors import SearchError
from search.history import Prior, Table
from search.proposing import Greedy
from search.samplers import Setting
from search.space import Candidate, Knob, Space
from search.storage import quiet

SPACE = Space(
    (Knob("bits", (2, 4, 8), ordinal=True), Knob("clip", ("max", "KL", "mse")), Knob("channel", (True, False))),
    lambda c: not (c["bits"] == 2 and c["clip"] == "max"),
)
SINGLE = sorted(set(samplers.names()))
SEVERAL = ["auto", "grid", "nsga2", "random", "simq", "tpe"]


def score(candidate, shift=0.0):
    """A made-up accuracy."""
    clip = {"max": 0.0, "KL": 2.0, "mse": 1.5 + shift}[candidate["clip"]]
    return candidate["bits"] + clip + 0.5 * candidate["channel"] - 0.3 * shift * candidate["bits"]


TABLES = tuple(Table(f"m{i}", {c: score(c, i / 2) for c in SPACE.candidates}, 12.0) for i in range(3))
PRIOR = Prior(TABLES, 12.0)


@pytest.fixture(autouse=True)
def _quiet():
    with quiet():
        yield


def search(name, trials, seed=0, prior=PRIOR, space=SPACE, signs=(1,), study=None):
    directions = ["maximize" if s == 1 else "minimize" for s in signs]
    study = study or optuna.create_study(directions=directions)
    study.sampler = samplers.make(name, Setting(space, signs, prior, seed))
    for _ in range(trials):
        trial = study.ask(space.distributions())
        candidate = space.of_params(trial.params)
        study.tell(trial, [s * score(candidate, 0.7) + k for k, s in enumerate(signs)])
    return [space.of_params(t.params) for t in study.trials], study


def test_the_registry_is_the_folder(repository):
    files = {p.stem for p in (repository / "search/samplers").glob("*.py")} - {"__init__"}
    assert set(samplers.names()) == files
    assert all(samplers.summary(name).endswith((".", ")")) for name in files)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(SearchError, match="did you mean 'quantune'"):
        samplers.make("quantun", Setting(SPACE))


@pytest.mark.parametrize("name", SINGLE)
class TestOneObjective:
    def test_measures_every_legal_candidate_once_and_so_reaches_the_optimum(self, name):
        tried, study = search(name, SPACE.size)
        assert set(tried) == set(SPACE.candidates)
        assert study.best_value == max(score(c, 0.7) for c in SPACE.candidates)

    def test_a_seed_gives_the_same_trials(self, name):
        assert search(name, 8, seed=3)[0] == search(name, 8, seed=3)[0]

    def test_going_on_is_the_same_as_not_having_stopped(self, name):
        whole, _ = search(name, 12)
        _, study = search(name, 7)
        assert search(name, 5, study=study)[0] == whole

    def test_when_everything_is_measured_it_repeats_rather_than_fails(self, name):
        assert len(search(name, SPACE.size + 1)[0]) == SPACE.size + 1

    def test_running_and_queued_candidates_are_left_alone(self, name):
        study = optuna.create_study(direction="maximize")
        study.sampler = samplers.make(name, Setting(SPACE, (1,), PRIOR))
        asked = [SPACE.of_params(study.ask(SPACE.distributions()).params) for _ in range(SPACE.size)]
        assert set(asked) == set(SPACE.candidates)

    def test_smaller_can_be_better(self, name):
        turned = Prior(tuple(Table(t.name, {c: -s for c, s in t.scores.items()}, -12.0) for t in TABLES), -12.0)
        up, _ = search(name, 6)
        down, _ = search(name, 6, prior=turned, signs=(-1,))
        if name not in ("tpe", "nsga2"):  # theirs depends on Optuna's own handling of directions
            assert up == down

    def test_a_large_space_is_searched_without_listing_it(self, name):
        space = Space(tuple(Knob(f"k{i}", (2, 4, 8), ordinal=True) for i in range(30)))
        best = Candidate({k.name: 8 for k in space.knobs})
        prior = Prior((Table("m", {best: 1.0, Candidate({k.name: 4 for k in space.knobs}): 0.0}, 1.0),), 1.0)
        study = optuna.create_study(direction="maximize", sampler=samplers.make(name, Setting(space, (1,), prior)))
        tried = []
        for _ in range(3):
            trial = study.ask(space.distributions())
            tried.append(space.of_params(trial.params))
            study.tell(trial, sum(tried[-1].values()))
        assert len(set(tried)) == 3


@pytest.mark.parametrize("name", SINGLE)
def test_several_objectives_are_searched_or_refused(name):
    if name in SEVERAL:
        tried, _ = search(name, SPACE.size, signs=(1, -1), prior=Prior())
        assert set(tried) == set(SPACE.candidates)
    else:
        with pytest.raises(SearchError, match="is for one objective, the study has 2: use simq or nsga2"):
            samplers.make(name, Setting(SPACE, (1, -1), PRIOR))


@pytest.mark.parametrize("name", [n for n in SINGLE if n != "rank_prior"])
def test_no_tables_are_needed(name):
    assert set(search(name, SPACE.size, prior=Prior())[0]) == set(SPACE.candidates)


def test_the_rank_prior_says_that_it_needs_tables():
    with pytest.raises(SearchError, match="needs tables of other models"):
        samplers.make("rank_prior", Setting(SPACE))


def test_the_grid_is_in_the_order_of_the_knobs():
    assert search("grid", SPACE.size)[0] == list(SPACE.candidates)


def test_the_rank_prior_is_the_order_of_the_other_models():
    order = sorted(SPACE.candidates, key=lambda c: -score(c))
    space, same = SPACE, Prior((Table("m", {c: score(c) for c in SPACE.candidates}),))
    tried, _ = search("rank_prior", 5, prior=same, space=space)
    assert [score(c) for c in tried] == [score(c) for c in order[:5]]


def test_epsilon_draws_at_random():
    from search.predictors import mean_rank

    greedy = [Greedy(Setting(SPACE, (1,), PRIOR, s), mean_rank, epsilon=1.0) for s in range(20)]
    first = set()
    for sampler in greedy:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        first.add(SPACE.of_params(study.ask(SPACE.distributions()).params))
    assert len(first) > 5


def test_seeds_differ():
    firsts = {search("random", 1, seed=s)[0][0] for s in range(20)}
    assert len(firsts) > 8


def test_a_parameter_that_is_no_knob_is_refused():
    study = optuna.create_study(sampler=samplers.make("random", Setting(SPACE)))
    with pytest.raises(SearchError, match="'x' is not a knob"):
        study.ask().suggest_float("x", 0, 1)


def test_simq_finds_more_volume_than_chance_where_losses_add_up():
    from search.pareto import hypervolume

    space = Space(tuple(Knob(f"l{i}", (2, 4, 8), ordinal=True) for i in range(10)))
    weight = [1.0 + (3 * i) % 7 for i in range(10)]

    def volume(name):
        study = optuna.create_study(directions=["minimize", "minimize"])
        study.sampler = samplers.make(name, Setting(space, (-1, -1), Prior(), 1))
        points = []
        for _ in range(120):
            trial = study.ask(space.distributions())
            bits = list(space.of_params(trial.params).values())
            points.append((sum(w * 2.0**-b for w, b in zip(weight, bits, strict=True)), sum(b * b for b in bits)))
            study.tell(trial, points[-1])
        return hypervolume(points, (sum(weight) / 4, 640.0))

    assert volume("simq") > 1.1 * volume("random")


def test_auto_names_what_suits():
    from search.samplers.auto import choice

    assert choice(Setting(SPACE, (1,), PRIOR)) == "rank_residual"
    assert choice(Setting(SPACE, (1, -1), PRIOR)) == "simq"
    assert choice(Setting(SPACE)) in samplers.names()
    elsewhere = Prior((Table("m", {Candidate({"other": 1}): 1.0}),))
    assert choice(Setting(SPACE, (1,), elsewhere)) == choice(Setting(SPACE))


def test_every_combination_of_signs_gives_a_sampler():
    for signs in itertools.product((1, -1), repeat=3):
        assert samplers.make("auto", Setting(SPACE, signs)) is not None
