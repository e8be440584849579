"""Budgets, resuming, failures and what is written on the way."""

import itertools
import json
import math
import time

import optuna
import pytest

from search import attributes
from search import study as module
from search.errors import AllTrialsFailedError, BudgetError, SearchError, StorageError, StudyChangedError
from search.history import Prior, Table
from search.space import Candidate, Knob, Space
from search.storage import open_storage, quiet
from search.study import Budget, Conduct, Plan, load, run

SPACE = Space((Knob("a", (1, 2, 3, 4), ordinal=True), Knob("b", ("x", "y"))))
PLAN = Plan(SPACE, sampler="grid")


def score(candidate):
    return {"score": candidate["a"] + 0.5 * (candidate["b"] == "y")}


def numbers(outcome):
    return [t.number for t in outcome.trials]


class TestRun:
    def test_measures_the_space_and_says_what_is_best(self, tmp_path):
        outcome = run(PLAN, score, Budget(), tmp_path)
        assert (outcome.best.candidate, outcome.best.values) == (Candidate({"a": 4, "b": "y"}), {"score": 4.5})
        assert numbers(outcome) == list(range(8))

    def test_stops_after_so_many_trials_and_goes_on_from_there(self, tmp_path):
        run(PLAN, score, Budget(trials=3), tmp_path)
        seen = []
        outcome = run(PLAN, lambda c: seen.append(c) or score(c), Budget(trials=5), tmp_path)
        assert (len(seen), len(outcome.trials)) == (2, 5)
        assert run(PLAN, score, Budget(trials=5), tmp_path) == outcome

    @pytest.mark.parametrize("sampler", ["auto", "tpe", "random", "simq"])
    def test_a_resumed_study_tries_what_an_uninterrupted_one_would(self, tmp_path, sampler):
        plan = Plan(SPACE, sampler=sampler, seed=5)
        whole = run(plan, score, Budget(), tmp_path / "whole")
        for trials in (2, 5, 8):
            parts = run(plan, score, Budget(trials=trials), tmp_path / "parts")
        assert [t.candidate for t in parts.trials] == [t.candidate for t in whole.trials]

    def test_tells_after_each_trial_what_is_best_so_far(self, tmp_path):
        told = []
        run(PLAN, score, Budget(trials=4), tmp_path, on_trial=lambda t, o: told.append((t.number, o.best.number)))
        assert told == [(0, 0), (1, 1), (2, 2), (3, 3)]

    def test_writes_the_best_so_far_after_each_trial(self, tmp_path):
        seen = []

        def look(trial, outcome):
            seen.append(json.loads((tmp_path / "best.json").read_text()))

        run(PLAN, score, Budget(trials=2), tmp_path, on_trial=look)
        assert [s["trials"] for s in seen] == [1, 2]
        assert seen[-1]["best"] == {"number": 1, "candidate": {"a": 1, "b": "y"}, "values": {"score": 1.5}}
        assert [p.name for p in tmp_path.iterdir() if ".best.json." in p.name] == []

    def test_keeps_other_numbers_too(self, tmp_path):
        outcome = run(PLAN, lambda c: {**score(c), "ms": 3}, Budget(trials=1), tmp_path)
        assert load("search", tmp_path / "search.journal").trials == outcome.trials
        assert outcome.best.values["ms"] == 3.0

    def test_several_objectives_have_a_front(self, tmp_path):
        plan = Plan(SPACE, {"score": "maximize", "bits": "minimize"}, sampler="nsga2")
        outcome = run(plan, lambda c: {**score(c), "bits": c["a"]}, Budget(), tmp_path)
        assert [t.values["bits"] for t in outcome.front] == [4, 3, 2, 1]
        assert all(t.candidate["b"] == "y" for t in outcome.front)

    def test_sqlite_does_as_well(self, tmp_path):
        where = f"sqlite:///{tmp_path}/study.db"
        assert len(run(PLAN, score, Budget(), tmp_path, where).trials) == 8
        assert load("search", where).best.values == {"score": 4.5}

    def test_two_studies_live_in_one_storage(self, tmp_path):
        run(PLAN, score, Budget(trials=1), tmp_path)
        other = Plan(Space((Knob("z", (1, 2)),)), name="other")
        run(other, lambda c: {"score": 0.0}, Budget(), tmp_path)
        assert len(load("search", tmp_path / "search.journal").trials) == 1

    def test_how_the_predictor_was_judged_is_stored(self, tmp_path):
        tables = tuple(Table(str(i), {c: score(c)["score"] for c in SPACE.candidates}, 5.0) for i in range(3))
        run(Plan(SPACE, prior=Prior(tables, 5.0)), score, Budget(trials=1), tmp_path)
        with quiet():
            study, _ = attributes.read("search", open_storage(tmp_path / "search.journal"), "here")
        stored = attributes.recall(study, "judgement")
        assert [j["model"] for j in stored] == ["0", "1", "2"]
        assert stored[0]["trials"]["0.0"] == 1
        assert stored[0]["spearman"] == pytest.approx(1)


class TestFailures:
    def test_a_trial_that_raises_is_written_down_and_not_tried_again(self, tmp_path):
        def evaluate(candidate):
            if candidate["b"] == "x":
                raise RuntimeError("no kernel for x")
            return score(candidate)

        outcome = run(PLAN, evaluate, Budget(), tmp_path)
        assert {t.reason for t in outcome.trials if t.candidate["b"] == "x"} == {"RuntimeError: no kernel for x"}
        assert (len(outcome.trials), len(outcome.measured)) == (8, 4)

    @pytest.mark.parametrize(
        ("returned", "reason"),
        [
            ({"score": math.nan}, "objective 'score' is nan"),
            ({"score": -math.inf}, "objective 'score' is -inf"),
            ({"accuracy": 1.0}, r"without the objective 'score'"),
            (0.5, "returned float, expected a mapping"),
            ({"score": "high"}, "TypeError"),
        ],
    )
    def test_what_is_no_measurement_is_a_failure(self, tmp_path, returned, reason):
        first = iter([returned])
        outcome = run(PLAN, lambda c: next(first, score(c)), Budget(trials=2), tmp_path)
        assert reason in outcome.trials[0].reason
        assert not outcome.trials[1].failed

    def test_when_all_fail_that_is_the_error(self, tmp_path):
        calls = itertools.count()

        def evaluate(candidate):
            next(calls)
            raise ValueError("out of memory")

        space = Space((Knob("a", tuple(range(50))),))
        with pytest.raises(AllTrialsFailedError, match="all of 10 trials failed, with ValueError: out of memory"):
            run(Plan(space), evaluate, Budget(), tmp_path)
        assert next(calls) == 10

    def test_an_interruption_loses_nothing(self, tmp_path):
        plan, calls = PLAN, itertools.count()

        def evaluate(candidate):
            if next(calls) == 2:
                raise KeyboardInterrupt
            return score(candidate)

        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                run(plan, evaluate, Budget(), tmp_path)
            calls = itertools.count(2 if _ < 1 else 1)
        outcome = run(plan, score, Budget(), tmp_path)
        assert {t.candidate for t in outcome.measured} == set(SPACE.candidates)
        assert len(outcome.trials) == 8


class TestBudget:
    def test_seconds_are_kept_within_a_tenth(self, tmp_path):
        space = Space((Knob("a", tuple(range(100))),))
        start = time.monotonic()
        outcome = run(Plan(space), lambda c: time.sleep(0.08) or {"score": 1.0}, Budget(seconds=1.0), tmp_path)
        assert time.monotonic() - start < 1.1
        assert 5 <= len(outcome.trials) <= 12

    def test_a_trial_that_does_not_fit_is_not_started(self, tmp_path):
        run(PLAN, lambda c: time.sleep(0.2) or score(c), Budget(trials=2), tmp_path)
        start = time.monotonic()
        with pytest.raises(BudgetError, match=r"0\.1 s hold no trial, one takes 0\.2.* s \(the median so far\)"):
            run(PLAN, score, Budget(seconds=0.1), tmp_path)
        assert time.monotonic() - start < 0.15

    def test_a_stated_duration_counts_before_the_first_trial(self, tmp_path):
        with pytest.raises(BudgetError, match=r"as stated\): give at least 11 s"):
            run(PLAN, score, Budget(seconds=1, expected_seconds=10), tmp_path)

    def test_a_first_trial_that_takes_longer_than_all_is_kept_and_said(self, tmp_path):
        with pytest.raises(BudgetError, match=r"the first trial alone took 0\.3"):
            run(PLAN, lambda c: time.sleep(0.3) or score(c), Budget(seconds=0.1), tmp_path)
        assert len(load("search", tmp_path / "search.journal").trials) == 1

    def test_a_trial_that_is_enough_ends_the_study(self, tmp_path):
        outcome = run(PLAN, score, Budget(enough=lambda trial: trial.values["score"] >= 2), tmp_path)
        assert [t.values["score"] for t in outcome.trials] == [1.0, 1.5, 2.0]

    def test_an_earlier_trial_that_is_enough_leaves_nothing_to_do(self, tmp_path):
        stored = run(PLAN, score, Budget(trials=5), tmp_path)
        seen = []
        budget = Budget(trials=8, seconds=60, enough=lambda trial: trial.values["score"] >= 3)
        assert run(PLAN, lambda c: seen.append(c) or score(c), budget, tmp_path) == stored
        assert seen == []

    def test_a_full_study_needs_no_time(self, tmp_path):
        whole = run(PLAN, lambda c: time.sleep(0.02) or score(c), Budget(), tmp_path)
        assert run(PLAN, score, Budget(seconds=0.01), tmp_path) == whole

    @pytest.mark.parametrize("make", [lambda: Budget(trials=0), lambda: Budget(seconds=0), lambda: Budget(seconds=-1)])
    def test_a_budget_that_holds_nothing_is_refused(self, make):
        with pytest.raises(BudgetError, match=r"holds no|give 1 or more"):
            make()

    def test_a_space_without_end_needs_a_budget(self, tmp_path):
        space = Space(tuple(Knob(f"k{i}", (1, 2, 3, 4)) for i in range(20)))
        with pytest.raises(BudgetError, match="give trials or seconds"):
            run(Plan(space), score, Budget(), tmp_path)


class TestResuming:
    @pytest.mark.parametrize(
        ("plan", "message"),
        [
            (
                Plan(Space((Knob("a", (1, 2)), SPACE.knobs[1])), sampler="grid"),
                r"knob 'a': found \[1, 2, 3, 4\], wanted",
            ),
            (Plan(Space(SPACE.knobs[::-1]), sampler="grid"), "order of the knobs"),
            (Plan(Space(SPACE.knobs, lambda c: c["a"] > 1), sampler="grid"), "another space"),
            (Plan(SPACE, {"score": "minimize"}, sampler="grid"), "another objectives"),
            (Plan(SPACE, sampler="random"), "another sampler: found grid, wanted random"),
            (Plan(SPACE, sampler="grid", seed=1), "another seed"),
            (Plan(SPACE, sampler="grid", metadata={"model": "b"}), "another metadata"),
            (Plan(SPACE, sampler="grid", prior=Prior(reference=1.0)), "another prior"),
        ],
    )
    def test_another_plan_under_the_same_name_is_refused(self, tmp_path, plan, message):
        run(PLAN, score, Budget(trials=1), tmp_path)
        with pytest.raises(StudyChangedError, match=message):
            run(plan, score, Budget(), tmp_path)

    def test_a_plan_comes_back_as_it_was(self, tmp_path):
        table = Table("m", {c: float(i) for i, c in enumerate(SPACE.candidates)}, 9.0, {"layers": 4})
        prior = Prior((table,), 3.0, {"layers": 8}, 2.0)
        plan = Plan(SPACE, {"score": "maximize"}, "mine", "rank_prior", 7, prior, {"model": "sha"})
        run(plan, score, Budget(trials=1), tmp_path)
        assert load("mine", tmp_path / "search.journal").plan == plan

    def test_long_histories_fit_small_columns(self, tmp_path):
        space = Space((Knob("a", tuple(range(5000))),))
        table = Table("m", {c: 1 / 3 + i for i, c in enumerate(space.candidates)})
        plan = Plan(space, prior=Prior((table,)), sampler="rank_prior")
        with quiet():
            study = attributes.create(plan, open_storage(tmp_path / "j"), "here")
        assert max(len(str(v)) for v in study.user_attrs.values()) < 65_000
        assert load("search", tmp_path / "j").plan == plan

    def test_metadata_has_to_be_json(self, tmp_path):
        with pytest.raises(SearchError, match="have to be JSON"):
            run(Plan(SPACE, metadata={"model": object()}), score, Budget(), tmp_path)

    def test_a_study_of_another_program_is_left_alone(self, tmp_path):
        with quiet():
            optuna.create_study(storage=open_storage(tmp_path / "j"), study_name="theirs")
        with pytest.raises(SearchError, match="made by another program"):
            load("theirs", tmp_path / "j")


class TestStorage:
    def test_one_that_goes_away_keeps_what_was_measured_and_the_next_call_sends_it(self, tmp_path, monkeypatch):
        real, calls = module._tell, itertools.count()

        def tell(worker, trial_id, trial):
            if next(calls) >= 2:
                raise OSError("disk is gone")
            real(worker, trial_id, trial)

        monkeypatch.setattr(module, "_tell", tell)
        with pytest.raises(StorageError, match="disk is gone; once it is back, the same call goes on") as error:
            run(PLAN, score, Budget(), tmp_path, conduct=Conduct(patience_seconds=0.3))
        assert [t.candidate["b"] for t in error.value.measured] == ["x", "y", "x"]
        assert json.loads((tmp_path / "best.json").read_text())["trials"] == 2
        monkeypatch.setattr(module, "_tell", real)
        seen = []
        outcome = run(PLAN, lambda c: seen.append(c) or score(c), Budget(trials=4), tmp_path)
        assert error.value.measured[-1].candidate not in seen
        assert len(outcome.measured) == 4
        assert not (tmp_path / "unsent.json").exists()

    def test_a_short_absence_is_waited_for(self, tmp_path, monkeypatch):
        real, calls = module._tell, itertools.count()

        def tell(worker, trial_id, trial):
            if next(calls) == 1:
                raise OSError("a hiccup")
            real(worker, trial_id, trial)

        monkeypatch.setattr(module, "_tell", tell)
        assert len(run(PLAN, score, Budget(), tmp_path).measured) == 8

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "best.json").mkdir()
        with pytest.raises(SearchError, match=r"best\.json cannot be written"):
            run(PLAN, score, Budget(trials=1), tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plan(SPACE, {}), "needs an objective"),
        (lambda: Plan(SPACE, {"a": "up"}), "neither 'maximize' nor 'minimize'"),
        (lambda: Conduct(beat_seconds=5, stale_seconds=5), "raise stale_seconds"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(SearchError, match=message):
        make()


def test_an_unknown_sampler_leaves_no_study(tmp_path):
    with pytest.raises(SearchError, match="unknown sampler"):
        run(Plan(SPACE, sampler="annealing"), score, Budget(), tmp_path)
    assert not (tmp_path / "search.journal").exists()
