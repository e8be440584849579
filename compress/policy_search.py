"""One study over quantization policies, for ``compress search``: begun, gone on with, joined from elsewhere."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from compress import __version__, policies, recipe, source
from compress.errors import UsageError, nearest
from compress.network import Network
from compress.options import Options
from compress.pipeline import input_size_of, reach_of
from compress.policies import Judge, OutOfTime, policy_of
from compress.progress import Reporter
from compress.registry import TASKS
from compress.studies import told
from compress.task import Task
from compress.weights import sha256
from export.files import atomic_write
from export.policy import QuantPolicy

if TYPE_CHECKING:
    from search.space import Candidate
    from search.trial import Budget, Outcome, Plan, Trial

__all__ = ["OBJECTIVES", "Bench", "Place", "Question", "Searched", "begin", "join", "to_json"]

OBJECTIVES = {"score": "maximize", "bytes": "minimize", "latency": "minimize"}
"""What may be searched for."""


@dataclass(frozen=True)
class Question:
    """What is searched, in words that are stored with the study, so that a worker elsewhere can rebuild it."""

    options: Options
    """Of the network and its images; paths are absolute."""
    format: str
    recipe: str
    """TOML: what is done to the network before, and the policy that the candidates change."""
    objectives: tuple[str, ...]
    sampler: str


@dataclass(frozen=True)
class Place:
    """Where a study lives."""

    name: str
    storage: str
    """A path, or an address of a database."""
    out: Path
    """This worker's own folder."""


class Bench:
    """The network and the images that a question speaks of, ready to measure on."""

    def __init__(self, question: Question, scratch: Path) -> None:
        self.question = question
        options = question.options
        given = source.resolve(options.request)
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
        """What decides the numbers, as JSON, stored with the study; hashes of all files included."""
        return {
            "question": pydantic.TypeAdapter(Question).dump_python(_lasting(self.question), mode="json"),
            "sha256 of the weights": self.network.weights.sha256,
            "sha256 of the images": _together(self.task.files()),
            "edgepress": __version__,
        }

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
    with told(), _scratch(place) as scratch:
        bench = Bench(question, Path(scratch))
        stored = _stored(place)
        if stored is not None:
            _same(stored.plan.metadata, bench.facts, place)
        if budget.seconds is not None:
            bench.judge.deadline = start + budget.seconds
        with _in_time(budget):
            score = stored.plan.metadata["float_score"] if stored else bench.judge.float_score()
        plan = Plan(
            policies.space(),
            objectives={name: OBJECTIVES[name] for name in question.objectives},  # type: ignore[misc]
            name=place.name,
            sampler=question.sampler,
            seed=question.options.seed,
            prior=policies.prior(score),
            metadata={**bench.facts, "float_score": score},
        )
        outcome = _work(plan, bench, place, replace(budget, seconds=_left(budget, start)), reporter)
        return _finished(bench, place, outcome, len(stored.trials) if stored else 0, start)


def join(place: Place, budget: Budget, reporter: Reporter) -> Outcome:
    """Work on a study that was begun elsewhere, with the same network and images.

    Raises:
        UsageError: no such study, other files than it was begun with, or one whose files are timed.
        MachineError: the storage cannot be reached.
    """
    start = time.monotonic()
    with told(), _scratch(place) as scratch:
        stored = _stored(place)
        if stored is None or "question" not in stored.plan.metadata:
            raise UsageError(
                f"no study {place.name!r} of `compress search quantization` in {_shown(place)}; begin it there, or "
                "mend --study and --storage"
            )
        question = pydantic.TypeAdapter(Question).validate_python(stored.plan.metadata["question"])
        if "latency" in question.objectives:
            raise UsageError(f"study {place.name!r} times its files, and times of several workers do not compare")
        bench = Bench(question, Path(scratch))
        _same(stored.plan.metadata, bench.facts, place)
        if budget.seconds is not None:
            bench.judge.deadline = start + budget.seconds
        return _work(stored.plan, bench, place, replace(budget, seconds=_left(budget, start)), reporter)


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


def _together(paths: Sequence[Path]) -> str:
    """One hash of many files."""
    return hashlib.sha256("".join(sha256(path) for path in paths).encode()).hexdigest()


def _check(question: Question) -> None:
    from export import formats
    from search import samplers

    formats.by_name(question.format)
    if question.sampler not in samplers.names():
        raise UsageError(f"unknown sampler {question.sampler!r}; {nearest(question.sampler, samplers.names())}")
    for name in question.objectives:
        if name not in OBJECTIVES:
            raise UsageError(f"unknown objective {name!r}; {nearest(name, OBJECTIVES)}")


def _lasting(question: Question) -> Question:
    """Without what may differ from call to call."""
    options = replace(question.options, budget=None, trials=None)
    timed = "latency" in question.objectives
    return replace(question, options=options if timed else replace(options, threads=None))


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


def _shown(place: Place) -> str:
    from search.storage import hidden

    return hidden(place.storage)


def _same(stored: Mapping[str, Any], found: Mapping[str, Any], place: Place) -> None:
    """Make sure that a study is of the same network, images and settings.

    Raises:
        UsageError: it is not; the message lists what differs.
    """
    before, now = _flat(stored), _flat(found)
    known = [k for k in {**before, **now} if k != "float_score"]
    other = [f"{k}: found {before.get(k)!r}, here {now.get(k)!r}" for k in known if before.get(k) != now.get(k)]
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        raise UsageError(
            f"study {place.name!r} in {_shown(place)} was begun with other inputs ({'; '.join(other[:3])}{more}); give "
            "the same files and flags, or another --study"
        )


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one; the names are those of the flags."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping) and key in ("question", "options"):
            flat |= _flat(value)
        else:
            flat[prefix + key] = value
    return flat


def _left(budget: Budget, start: float) -> float | None:
    return None if budget.seconds is None else max(budget.seconds - (time.monotonic() - start), 0.1)


class _in_time:  # noqa: N801  (reads as the statement that it is)
    """Says what to do where the budget ended before anything was measured."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OutOfTime):
            raise UsageError(f"--budget: {self._budget.seconds:.3g} s ended before one policy was measured; give more")


def _work(plan: Plan, bench: Bench, place: Place, budget: Budget, reporter: Reporter) -> Outcome:
    """The study after this worker's share of it."""
    from search import study

    unit = bench.task.unit
    reference = float(plan.metadata["float_score"])

    def on_trial(trial: Trial, outcome: Outcome) -> None:
        reporter.line(f"  {trial.number:>4}: {_said(trial, unit)}: {policies.in_words(trial.candidate)}")

    def evaluate(candidate: Candidate) -> dict[str, float]:
        return bench.evaluate(candidate)

    held = f"{bench.task.size} images held out"
    reporter.line(f"{bench.network.name} in {bench.question.format}: {reference:.3f} {unit} in float32 on {held}")
    with _in_time(budget):
        try:
            return study.run(plan, evaluate, budget, place.out, place.storage, on_trial)
        except OutOfTime:
            outcome = study.load(plan.name, place.storage, policies.space().valid)
            if not outcome.measured:
                raise
            return outcome


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
