"""The choice of a quantization policy: tried in the target's own runtime, on images that the report never sees."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress import studies
from export import formats, timing
from export.errors import ExportError
from export.policy import QuantPolicy
from export.torch_session import TorchSession

if TYPE_CHECKING:
    from compress.network import Network
    from compress.options import Options
    from compress.progress import Reporter
    from compress.run_folder import RunFolder
    from compress.task import Run, Task
    from export.artifact import Artifact, ExportSpec
    from export.receptive_field import Reach
    from search.history import Prior
    from search.space import Candidate, Space
    from search.trial import Outcome, Trial

__all__ = ["Choice", "Judge", "blame", "choose", "in_words", "policy_of", "prior", "space"]

_HISTORY = Path(__file__).parent / "data" / "policies.json"
_WEIGHTS: Mapping[str, Mapping[str, str]] = {
    "nearest": {},
    "bias": {"correction": "bias"},
    "gptq": {"rounding": "gptq", "correction": "bias"},
    "least-squares": {"rounding": "gptq", "correction": "least-squares"},
}
_TRAINABLE = ("gptq", "least-squares")
_SURE = 0.75  # of what may be lost: images not seen may lose more


@dataclass(frozen=True)
class Choice:
    """The policy that was chosen, and why."""

    policy: QuantPolicy
    why: str
    trials: int
    score: float
    """On the images held out, through the runtime."""
    float_score: float
    seconds: float

    @property
    def drop(self) -> float:
        """What the policy costs there, in the unit of the score."""
        return self.float_score - self.score


def space() -> Space:
    """The 192 policies that are searched."""
    from search.space import Knob, Space

    return Space(
        (
            Knob("clipping", ("min-max", "percentile-99.99", "percentile-99.999", "mse", "density", "kl")),
            Knob("weights", tuple(_WEIGHTS)),
            Knob("exact", (False, True)),
            Knob("crops", (64, 256), ordinal=True),
            Knob("training", (0, 300, 1000), ordinal=True),
        ),
        valid=_sensible,
    )


def _sensible(candidate: Candidate) -> bool:
    """Training starts from weights rounded to keep the layers' outputs, or it wastes its steps."""
    return candidate["training"] == 0 or candidate["weights"] in _TRAINABLE


def policy_of(candidate: Mapping[str, Any], base: QuantPolicy | None = None) -> QuantPolicy:
    """The policy that a candidate of :func:`space` stands for; what it does not say stays as in ``base``."""
    values: dict[str, Any] = dict(_WEIGHTS[candidate["weights"]])
    values |= {"clipping": candidate["clipping"], "exact": candidate["exact"]}
    values |= {"calibration_crops": candidate["crops"], "training_steps": candidate["training"]}
    return replace(base or QuantPolicy(), **values)


def prior(reference: float, unit: str | None = None) -> Prior:
    """What was measured on other networks (``benchmarks/policy_table.py``), in the unit of the score.

    Args:
        reference: the float network's score.
        unit: of the scores; networks of another unit are left out, which measures better (docs/search.md). None: all.
    """
    from search.history import Prior, Table
    from search.space import Candidate

    stored = json.loads(_HISTORY.read_text(encoding="utf-8"))
    measured = [Candidate(dict(zip(stored["knobs"], row, strict=True))) for row in stored["policies"]]
    tables = [
        Table(
            network["network"],
            {c: score for c, score in zip(measured, network["scores"], strict=True) if score is not None},
            reference=network["float"],
        )
        for network in stored["networks"]
        if unit in (None, network["unit"])
    ]
    return Prior(tuple(tables), reference=reference)


class Judge:
    """Measures policies on one network: writes the file, scores it through its runtime."""

    def __init__(self, network: Network, task: Task, reach: Reach, options: Options, folder: Path) -> None:
        self.network, self.reach, self._options, self._folder = network, reach, options, folder
        self._task = task
        self.deadline = float("inf")
        self.base = network.policy or QuantPolicy()

    @cached_property
    def task(self) -> Task:
        """The task on calibration images alone."""
        return self._task.held_out(self.network)

    def float_score(self) -> float:
        """Of the network in torch, on the images held out."""
        return self._score(TorchSession(self.network.module))

    def _score(self, session: Any) -> float:
        from compress.measure import through

        return self.task.judge(through(session, self.network, self.reach), lambda done: self._check()).mean

    def _check(self) -> None:
        if time.monotonic() > self.deadline:
            raise studies.OutOfTime("the budget ended before this policy was measured")

    def write(self, policy: QuantPolicy | None, format: str, size: tuple[int, int], folder: Path) -> Artifact:
        """The network's file in a format; without a policy in float.

        Raises:
            ExportError: the runtime cannot express the policy.
        """
        from compress.pipeline import specs_of, write_one

        network = replace(self.network, policy=policy)
        spec = specs_of(network, self.task, self.reach, size, self._options)[-1]
        return write_one(replace(spec, progress=lambda what, done: self._check()), format, folder)

    def open(self, path: Path) -> Run:
        """A file as a function of inputs of any size, through its runtime."""
        from compress.measure import through

        return through(formats.open_file(path, self._options.threads or 1), self.network, self.reach)

    def measure(
        self, policy: QuantPolicy | None, format: str, size: tuple[int, int], timed: bool = False
    ) -> dict[str, float]:
        """Score, file size in bytes and, where asked for, median milliseconds of a policy's file in a format.

        Raises:
            ExportError: the runtime cannot express the policy.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        artifact = self.write(policy, format, size, self._folder)
        path, threads = artifact.path(self._folder), self._options.threads or 1
        found = {"score": self._score(formats.open_file(path, threads)), "bytes": float(artifact.file_bytes)}
        if timed:
            found["latency"] = timing.measure([path], size, self.network.channels, threads)[0].median_ms
        return found


def choose(
    judge: Judge, format: str, size: tuple[int, int], options: Options, folder: Path, reporter: Reporter
) -> Choice:
    """The best policy within the budget, or the first that keeps ``--max-drop``; the best so far is always on disk.

    Raises:
        UsageError: a budget in which not one trial fits.
    """
    from search.trial import Budget, Plan

    start = time.monotonic()
    judge.deadline = start + (options.budget_seconds or math.inf)

    def evaluate(candidate: Candidate) -> dict[str, float]:
        return judge.measure(policy_of(candidate, judge.base), format, size)

    def on_trial(trial: Trial, outcome: Outcome) -> None:
        if not trial.failed:
            score, words = trial.values["score"], in_words(trial.candidate)
            reporter.line(f"  policy {trial.number}: {score:.3f} of {reference:.3f}, {words}")

    def enough(trial: Trial) -> bool:
        return options.max_drop is not None and reference - trial.values["score"] <= _SURE * options.max_drop

    with studies.told(), studies.in_time(options.budget_seconds):
        reference = judge.float_score()
        plan = Plan(space(), name=f"policy-{format}", prior=prior(reference, judge.task.unit), seed=options.seed)
        budget = Budget(options.trials, enough=enough)
        outcome = studies.run(plan, evaluate, budget, judge.deadline, folder, on_trial=on_trial)
    best = outcome.best
    tried = f"best of {len(outcome.measured)} tried in {format}, chosen on {judge.task.size} held-out images"
    why = f"{in_words(best.candidate)}; {tried}"
    policy = policy_of(best.candidate, judge.base)
    return Choice(policy, why, len(outcome.trials), best.values["score"], reference, time.monotonic() - start)


def blame(deployed: Artifact, specs: Sequence[ExportSpec], folder: RunFolder) -> str:
    """The three tensors that cost a quantized file most, in a sentence; nothing without a float file beside it."""
    from export.tuning import sensitivity

    path = deployed.path(folder.root)
    plain = path.with_name(path.name.replace("_int8", "_float32"))
    if path == plain or not plain.is_file() or not specs[-1].calibration:
        return ""
    try:
        parts = sensitivity.of_file(path, plain, specs[-1].calibration[:8])[:3]
    except ExportError as error:
        return f"which layers are to blame cannot be told: {error}"
    return "most of it comes from " + ", ".join(f"{p.name} ({p.share:.0%} of the error)" for p in parts)


def in_words(candidate: Mapping[str, Any]) -> str:
    """A candidate of :func:`space` as a report says it."""
    values = dict(candidate)
    parts = [f"{values['clipping']} ranges of {values['crops']} crops", f"weights: {values['weights']}"]
    parts += ["exact grids"] if values["exact"] else []
    parts += [f"{values['training']} training steps"] if values["training"] else []
    return ", ".join(parts)
