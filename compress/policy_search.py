"""One study over quantization policies, for ``compress search``: begun, gone on with, joined from elsewhere."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from compress import policies, recipe, source, studies
from compress.errors import UsageError, nearest
from compress.network import Network
from compress.pipeline import input_size_of, reach_of
from compress.policies import Judge, policy_of
from compress.progress import Reporter
from compress.registry import TASKS
from compress.studies import in_time, told
from compress.study_question import Place, Question, ensure_same, facts
from compress.task import Task
from export.files import atomic_write
from export.policy import QuantPolicy

if TYPE_CHECKING:
    from search.trial import Budget, Outcome, Plan, Trial

__all__ = ["OBJECTIVES", "Bench", "Searched", "begin", "join", "to_json"]

OBJECTIVES = {"score": "maximize", "bytes": "minimize", "latency": "minimize"}
"""What may be searched for."""


class Bench:
    """The network and the images that a question speaks of, ready to measure on."""

    def __init__(self, question: Question, scratch: Path) -> None:
        self.question = question
        options = question.options
        given = source.resolve(options.request)
        given.ensure_quantizable()
        self.whole: Task = TASKS[options.task or given.task](given, options.judged_on)
        self.reach = reach_of(given)
        self.size = input_size_of(given, self.reach, options.input_size)
        self.steps = recipe.parse(question.recipe, "of the study")
        network = self.steps.apply(given, self.whole)
        self.network: Network = network if network.policy else replace(network, policy=QuantPolicy())
        self.judge = Judge(self.network, self.whole, self.reach, options, scratch)

    @property
    def task(self) -> Task:
        """Judged on the calibration images held out."""
        return self.judge.task

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What decides the numbers, stored with the study."""
        return facts(self.question, self.network, self.task)

    def evaluate(self, candidate: Mapping[str, Any]) -> dict[str, float]:
        """The objectives of a candidate; bytes always, because they cost nothing."""
        return self.measure(policy_of(candidate, self.judge.base))

    def measure(self, policy: QuantPolicy) -> dict[str, float]:
        """The objectives of a policy."""
        question = self.question
        return self.judge.measure(policy, question.format, self.size, "latency" in question.objectives)


@dataclass(frozen=True)
class Searched:
    """What a search found out."""

    bench: Bench
    place: Place
    outcome: Outcome
    float_score: float
    stock: Mapping[str, float]
    """The objectives of the file that the runtime's own quantizer makes."""
    files: Mapping[str, Path]
    """``float32``, ``stock`` and ``best``."""
    earlier: int
    """Trials that were there before this call."""
    seconds: float

    @property
    def drop(self) -> float:
        """What the best policy costs on the images held out."""
        return self.float_score - self.outcome.best.values["score"]


def begin(question: Question, place: Place, budget: Budget, reporter: Reporter) -> Searched:
    """Search, or go on with the study of that name; its files and the recipe of the best policy land in the folder.

    Raises:
        UsageError: a name that does not exist, a budget in which no trial fits, or a study of another question.
        MachineError: the storage cannot be reached.
    """
    from search.trial import Plan

    start = time.monotonic()
    _check(question)
    with told(), in_time(budget.seconds), _scratch(place) as scratch:
        bench = Bench(question, Path(scratch))
        stored = _stored(place)
        if stored is not None:
            ensure_same(stored.plan.metadata, bench.facts, place)
        bench.judge.deadline = start + (budget.seconds or math.inf)
        score = stored.plan.metadata["float_score"] if stored else bench.judge.float_score()
        plan = Plan(
            policies.space(),
            objectives={name: OBJECTIVES[name] for name in question.objectives},  # type: ignore[misc]
            name=place.name,
            sampler=question.sampler,
            seed=question.options.seed,
            prior=policies.prior(score, bench.task.unit),
            metadata={**bench.facts, "float_score": score},
        )
        outcome = _work(plan, bench, place, budget, reporter)
        return _finished(bench, place, outcome, len(stored.trials) if stored else 0, start)


def join(place: Place, budget: Budget, reporter: Reporter) -> Outcome:
    """Work on a study that was begun elsewhere, with the same network and images.

    Raises:
        UsageError: no such study, other files than it was begun with, or one whose files are timed.
        MachineError: the storage cannot be reached.
    """
    start = time.monotonic()
    with told(), in_time(budget.seconds), _scratch(place) as scratch:
        stored = _stored(place)
        if stored is None or "question" not in stored.plan.metadata:
            raise UsageError(
                f"no study {place.name!r} of `compress search quantization` in {place.shown}; begin it there, or "
                "mend --study and --storage"
            )
        question = pydantic.TypeAdapter(Question).validate_python(stored.plan.metadata["question"])
        if "latency" in question.objectives:
            raise UsageError(f"study {place.name!r} times its files, and times of several workers do not compare")
        bench = Bench(question, Path(scratch))
        ensure_same(stored.plan.metadata, bench.facts, place)
        bench.judge.deadline = start + (budget.seconds or math.inf)
        return _work(stored.plan, bench, place, budget, reporter)


def to_json(found: Searched) -> dict[str, Any]:
    """For ``--json``."""
    question = found.bench.question
    return {
        **found.outcome.to_json(),
        "model": question.options.model,
        "format": question.format,
        "seed": question.options.seed,
        "metric": found.bench.task.metric,
        "held_out_images": found.bench.task.size,
        "float_score": found.float_score,
        "stock": dict(found.stock),
        "files": {name: str(path) for name, path in found.files.items()},
        "recipe": str(found.place.out / "recipe.toml"),
        "earlier_trials": found.earlier,
        "seconds": found.seconds,
    }


def _scratch(place: Place) -> tempfile.TemporaryDirectory[str]:
    """This process's own: several may share the folder."""
    place.out.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".trial-", dir=place.out)


def _check(question: Question) -> None:
    from export import formats
    from search import samplers

    formats.by_name(question.format)
    if question.sampler not in samplers.names():
        raise UsageError(f"unknown sampler {question.sampler!r}; {nearest(question.sampler, samplers.names())}")
    for name in question.objectives:
        if name not in OBJECTIVES:
            raise UsageError(f"unknown objective {name!r}; {nearest(name, OBJECTIVES)}")


def _stored(place: Place) -> Outcome | None:
    """The study, if there is one."""
    from search import study
    from search.errors import SearchError

    if "://" not in place.storage and not Path(place.storage).is_file():
        return None
    try:
        return study.load(place.name, place.storage, policies.space().valid)
    except SearchError as error:
        if type(error) is SearchError:  # no such study
            return None
        raise


def _work(plan: Plan, bench: Bench, place: Place, budget: Budget, reporter: Reporter) -> Outcome:
    """The study after this worker's share of it."""
    unit = bench.task.unit
    reference = float(plan.metadata["float_score"])

    def on_trial(trial: Trial, outcome: Outcome) -> None:
        reporter.line(f"  {trial.number:>4}: {_said(trial, unit)}: {policies.in_words(trial.candidate)}")

    held = f"{bench.task.size} images held out"
    reporter.line(f"{bench.network.name} in {bench.question.format}: {reference:.3f} {unit} in float32 on {held}")
    return studies.run(plan, bench.evaluate, budget, bench.judge.deadline, place.out, place.storage, on_trial)


def _said(trial: Trial, unit: str) -> str:
    return f"failed ({trial.reason})" if trial.failed else f"{trial.values['score']:.3f} {unit}"


def _finished(bench: Bench, place: Place, outcome: Outcome, earlier: int, start: float) -> Searched:
    """The files to look at, and the recipe that makes the best one."""
    judge, format = bench.judge, bench.question.format
    judge.deadline = float("inf")
    best = policy_of(outcome.best.candidate, judge.base)
    wanted: Mapping[str, QuantPolicy | None] = {"float32": None, "stock": judge.base.as_stock, "best": best}
    folders = {name: place.out / "files" / name for name in wanted}
    written = {name: judge.write(p, format, bench.size, folders[name]) for name, p in wanted.items()}
    files = {name: artifact.path(folders[name]) for name, artifact in written.items()}
    stock = bench.measure(judge.base.as_stock)
    atomic_write(place.out / "recipe.toml", _recipe(bench, best))
    score = float(outcome.plan.metadata["float_score"])
    return Searched(bench, place, outcome, score, stock, files, earlier, time.monotonic() - start)


def _recipe(bench: Bench, policy: QuantPolicy) -> str:
    """The steps with the policy in the place of the quantization they had."""
    from compress.methods.quantize import Quantize

    kept = [step for step in bench.steps.steps if not isinstance(step, Quantize)]
    return recipe.Recipe((*kept, Quantize(**asdict(policy)))).to_toml()
