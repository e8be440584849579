"""The space of quantization policies, and the choice among them on a tiny network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from compress import pipeline, policies, recipe, source
from compress.errors import DataError, UsageError
from compress.methods.quantize import Quantize
from compress.options import Options
from compress.policies import Judge, choose, in_words, policy_of
from compress.progress import SILENT
from compress.source import Request
from compress.studies import OutOfTime
from compress.task import Data
from compress.tasks.super_resolution import super_resolution
from export.policy import QuantPolicy
from search.space import Candidate

STOCK = {"clipping": "min-max", "weights": "nearest", "exact": False, "crops": 64, "training": 0}
TUNED = {"clipping": "mse", "weights": "gptq", "exact": True, "crops": 64, "training": 0}


@pytest.fixture(scope="module")
def network():
    """A small network of random values, ready to be quantized."""
    return source.resolve(Request("espcn", random=True, scale=2))


@pytest.fixture
def judge(network, photos_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Judge]:
    """``judge(folder)``: on a folder of calibration images, by default four small ones."""

    def make(folder: Path | None = None) -> Judge:
        images = folder or photos_folder("calibration", [(40, 48)] * 4)
        task = super_resolution(network, Data(calibration=images))
        prepared = recipe.load("int8").apply(network, task)
        reach = pipeline.reach_of(network)
        return Judge(prepared, task, reach, Options("espcn", ""), tmp_path / "files")

    return make


def test_every_candidate_stands_for_another_policy():
    candidates = policies.space().candidates
    found = {policy_of(c) for c in candidates}
    assert len(found) == len(candidates) == policies.space().size == 192
    assert {(p.rounding, p.correction) for p in found if p.training_steps} == {
        ("gptq", "bias"),
        ("gptq", "least-squares"),
    }


@pytest.mark.parametrize("name", ["int8-tuned", "int8-trained"])
def test_the_rounding_and_training_of_the_built_in_recipes_are_searched(name):
    (wanted,) = (step for step in recipe.load(name).steps if isinstance(step, Quantize))
    found = {(p.rounding, p.correction, p.exact, p.training_steps) for p in map(policy_of, policies.space().candidates)}
    assert (wanted.rounding, wanted.correction, wanted.exact, wanted.training_steps) in found


def test_the_stock_candidate_is_the_stock_policy():
    assert policy_of(STOCK) == QuantPolicy() and policy_of(STOCK).stock
    assert not policy_of(TUNED).stock


def test_what_a_candidate_does_not_say_stays():
    policy = policy_of(TUNED, QuantPolicy(granularity="tensor", scheme="symmetric", weight_bits=4))
    assert (policy.granularity, policy.scheme, policy.weight_bits) == ("tensor", "symmetric", 4)
    assert (policy.clipping, policy.rounding, policy.correction, policy.exact) == ("mse", "gptq", "bias", True)


def test_a_candidate_in_words():
    assert in_words(STOCK) == "min-max ranges of 64 crops, weights: nearest"
    assert in_words({**TUNED, "training": 300}).endswith("weights: gptq, exact grids, 300 training steps")


def test_the_stored_history_fits_the_space():
    prior = policies.prior(30.0)
    assert prior.reference == 30.0 and len({t.name for t in prior.tables}) == len(prior.tables) >= 4
    for table in prior.tables:
        assert len(table.scores) == 96 and all(c in policies.space() for c in table.scores)
        assert abs(table.reference - max(table.scores.values())) < 2  # some policy costs next to nothing
    by_unit = [{t.name for t in policies.prior(30.0, unit).tables} for unit in ("dB", "%")]
    assert not by_unit[0] & by_unit[1] and by_unit[0] | by_unit[1] == {t.name for t in prior.tables}
    assert min(map(len, by_unit)) >= 2


def test_the_judge_measures_policies_in_the_runtime_on_images_held_out(judge):
    found = judge()
    assert found.task.size == 1  # the fourth of four
    plain, stock = found.float_score(), found.measure(policy_of(STOCK), "tflite", (16, 16))
    tuned = found.measure(policy_of(TUNED), "tflite", (16, 16))
    assert set(stock) == {"score", "bytes"}
    assert abs(stock["score"] - plain) < 1 and abs(tuned["score"] - plain) < 1
    assert found.measure(policy_of(STOCK), "tflite", (16, 16)) == stock
    timed = found.measure(policy_of(STOCK), "tflite", (16, 16), timed=True)
    assert timed["latency"] > 0


@pytest.mark.parametrize("kind", ["one image", "constant images"])
def test_the_judge_takes_poor_images(judge, photos_folder, tmp_path, kind):
    folder = photos_folder("poor", [(40, 48)]) if kind == "one image" else tmp_path / "flat"
    if kind == "constant images":
        folder.mkdir()
        for grey in (0, 90, 128, 255):
            Image.fromarray(np.full((40, 48, 3), grey, np.uint8)).save(folder / f"{grey}.png")
    found = judge(folder)
    assert found.task.size == 1
    assert np.isfinite(found.measure(policy_of(TUNED), "tflite", (16, 16))["score"])


def test_no_images_are_refused(judge, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        judge(tmp_path / "empty")


class Measured:
    """A judge whose scores are made up: what is chosen depends on nothing else."""

    def __init__(self, scores: Callable[[QuantPolicy], float], seconds: float = 0.0) -> None:
        self.base, self.deadline = QuantPolicy(), float("inf")
        self.task = SimpleNamespace(size=3, unit="dB")
        self.asked: list[QuantPolicy] = []
        self._scores, self._seconds = scores, seconds

    def float_score(self) -> float:
        return 30.0

    def measure(self, policy: QuantPolicy, format: str, size: tuple[int, int]) -> dict[str, float]:
        time.sleep(self._seconds)
        if time.monotonic() > self.deadline:
            raise OutOfTime
        self.asked.append(policy)
        return {"score": self._scores(policy), "bytes": 1.0}


def by_weights(policy: QuantPolicy) -> float:
    return {"none": 29.0, "bias": 29.5, "least-squares": 29.9}[policy.correction]


def chosen(judge, folder: Path, **options):
    return choose(judge, "tflite", (16, 16), Options("espcn", "", **options), folder, SILENT)


def test_the_best_of_the_trials_is_chosen(tmp_path):
    judge = Measured(by_weights)
    choice = chosen(judge, tmp_path, trials=12)
    assert choice.trials == len(judge.asked) == len(set(judge.asked)) == 12
    assert choice.score == max(map(by_weights, judge.asked)) and choice.float_score == 30.0
    assert "best of 12 tried in tflite, chosen on 3 held-out images" in choice.why


def test_the_first_trial_on_a_new_network_is_what_ranks_best_on_the_others(tmp_path):
    judge = Measured(by_weights)
    chosen(judge, tmp_path, trials=1)
    tables = policies.prior(30.0, "dB").tables
    ranks = {
        policy_of(c): sum(sum(other > t.scores[c] for other in t.scores.values()) for t in tables)
        for c in tables[0].scores
    }
    assert ranks[judge.asked[0]] in sorted(ranks.values())[:3]


def test_a_promise_that_is_kept_ends_the_search(tmp_path):
    judge = Measured(lambda policy: 30.0)
    assert chosen(judge, tmp_path, max_drop=0.1).drop == 0.0
    assert len(judge.asked) == 1


def test_a_promise_that_an_earlier_trial_keeps_is_measured_no_further(tmp_path):
    first, again = Measured(by_weights), Measured(by_weights)
    best = chosen(first, tmp_path, trials=12)
    assert best.drop == pytest.approx(0.1)
    kept = chosen(again, tmp_path, max_drop=0.2)
    assert not again.asked and kept.policy == best.policy and kept.trials == 12


def test_the_best_so_far_is_on_disk_after_every_trial(tmp_path):
    best: list[float] = []

    def scores(policy: QuantPolicy) -> float:
        path = tmp_path / "best.json"
        if path.is_file():
            best.append(json.loads(path.read_text())["best"]["values"]["score"])
        return by_weights(policy)

    chosen(Measured(scores), tmp_path, trials=5)
    assert len(best) == 4 and best == sorted(best)


def test_an_interrupted_search_goes_on(tmp_path):
    def stopped(policy: QuantPolicy) -> float:
        if len(first.asked) == 3:
            raise KeyboardInterrupt
        return by_weights(policy)

    first, second = Measured(stopped), Measured(by_weights)
    with pytest.raises(KeyboardInterrupt):
        chosen(first, tmp_path, trials=6)
    choice = chosen(second, tmp_path, trials=6)
    assert choice.trials == 6 and second.asked[0] == first.asked[2]  # what was being measured comes first
    assert len({*first.asked, *second.asked}) == 6 and len(second.asked) == 4


@pytest.mark.parametrize("seconds", [0.6, 0.0])
def test_a_budget_too_small_for_one_trial_says_so(tmp_path, seconds):
    judge = Measured(by_weights, seconds=seconds)
    if seconds:
        with pytest.raises(UsageError, match="ended before one policy was measured"):
            chosen(judge, tmp_path, budget="0.3s")
    else:
        with pytest.raises(UsageError, match="expected a time"):
            chosen(judge, tmp_path, budget="0s")


def test_a_policy_that_the_budget_cut_short_is_measured_by_the_next_call(tmp_path):
    with pytest.raises(UsageError):
        chosen(Measured(by_weights, seconds=0.6), tmp_path, budget="0.3s")
    again = Measured(by_weights)
    assert chosen(again, tmp_path, trials=1).trials == 1


def test_two_workers_on_a_journal_measure_no_policy_twice(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from search import study
    from search.trial import Budget, Plan

    plan = Plan(policies.space(), name="two", prior=policies.prior(30.0), sampler="random")
    measured: list[Candidate] = []

    def evaluate(candidate: Candidate) -> dict[str, float]:
        time.sleep(0.02)
        measured.append(candidate)
        return {"score": by_weights(policy_of(candidate))}

    def work(name: str):
        return study.run(plan, evaluate, Budget(16), tmp_path / name, tmp_path / "shared.journal")

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(work, ("a", "b")))
    assert len(measured) == len(set(measured)) == 16
    assert all(len(o.trials) == 16 for o in outcomes)
