"""What quantization costs a network, which tensors it comes from, and what each remedy gives when it is tried."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from compress.methods.equalize import Equalize
from compress.methods.free_concats import FreeConcats
from compress.methods.reparameterize import Reparameterize
from compress.network import Network
from compress.options import Options
from compress.pipeline import input_size_of, reach_of
from compress.policies import Judge
from compress.progress import Reporter
from compress.registry import TASKS
from compress.task import Task
from export import tiling
from export.errors import UntunableError
from export.policy import QuantPolicy

if TYPE_CHECKING:
    from export.tuning.sensitivity import Part

__all__ = ["EQUAL", "FREE", "PRESCRIBED", "STOCK", "Culprit", "Found", "Losses", "Step", "examine", "to_json"]

STOCK = "stock int8"
FREE = "+ free concatenations"
EQUAL = "+ equal channels"
PRESCRIBED = "none: the runtime prescribes the grid"

_FLOAT = "float32"
_RANGES, _EXACT, _BIASES, _WEIGHTS = "+ mse ranges", "+ exact grids", "+ gptq weights", "+ least squares"
_LADDER: tuple[tuple[str, dict[str, object]], ...] = (
    (_RANGES, {"clipping": "mse"}),
    (_EXACT, {"exact": True}),
    (_BIASES, {"rounding": "gptq", "correction": "bias"}),
    (_WEIGHTS, {"correction": "least-squares"}),
)
_WORST = 5
_LOOKED_AT = 8  # inputs for the shares


@dataclass(frozen=True)
class Step:
    """One file of the ladder: everything of the steps before, and one remedy more."""

    name: str
    score: float | None
    """On the images held out, through the runtime; None: it could not be made."""
    file_bytes: int | None
    reason: str = ""
    """Why it could not be made."""


@dataclass(frozen=True)
class Culprit:
    """A tensor whose rounding costs much."""

    name: str
    share: float
    """Of the squared error against the float network."""
    range: tuple[float, float]
    remedy: str
    """The step of the ladder that is made for it."""
    gain: float | None
    """What that step gave, in the unit of the score; None: it was not tried."""


@dataclass(frozen=True)
class Losses:
    """All that was found out."""

    network: str
    format: str
    metric: str
    unit: str
    images: int
    random: bool
    float_score: float
    steps: tuple[Step, ...]
    """The stock file first."""
    culprits: tuple[Culprit, ...]
    unread: str
    """Why the tensors could not be told; empty where they are."""
    seconds: float

    @property
    def best(self) -> Step:
        """The step with the highest score; the earliest of several."""
        return max((s for s in self.steps if s.score is not None), key=lambda s: s.score or 0.0)


@dataclass(frozen=True)
class Found:
    """The losses, and what is needed to look at pictures of them."""

    losses: Losses
    judge: Judge
    stock: Path
    best: Path


def to_json(losses: Losses) -> bytes:
    """The losses as JSON."""
    return pydantic.TypeAdapter(Losses).dump_json(losses, indent=1)


def examine(network: Network, format: str, options: Options, folder: Path, reporter: Reporter) -> Found:
    """Quantize a network in several ways, and measure each in the runtime on calibration images held out.

    Args:
        network: in any form; branches that merge are merged first.
        format: of the files.
        options: which images, which input size.
        folder: takes the files.
        reporter: what the user sees.

    Raises:
        ExportError: the format does not take the network.
        DataError: no calibration images.
        UsageError: the network is one of look-up tables.
    """
    network.ensure_quantizable()
    start = time.monotonic()
    task = TASKS[options.task or network.task](network, options.judged_on)
    bench = _Bench(Reparameterize()(network, task), task, format, options, folder)
    with reporter.bar("quantizing", len(_LADDER) + 4) as update:
        bench.climb(update)
        culprits, unread = bench.culprits()
    judge, steps = bench.judge, tuple(bench.steps)
    losses = Losses(
        network.name if network.scale == 1 else f"{network.name} x{network.scale}",
        format,
        judge.task.metric,
        judge.task.unit,
        judge.task.size,
        network.weights.random,
        bench.float_score,
        steps,
        tuple(culprits),
        unread,
        time.monotonic() - start,
    )
    return Found(losses, judge, bench.files[STOCK], bench.files[losses.best.name])


class _Bench:
    """The network while it climbs the ladder."""

    def __init__(self, network: Network, task: Task, format: str, options: Options, folder: Path) -> None:
        self.network, self.whole, self.format, self.options, self.folder = network, task, format, options, folder
        self.reach = reach_of(network)
        self.size = input_size_of(network, self.reach, options.input_size)
        self.judge = Judge(network, task, self.reach, options, folder / "measured")
        self.float_score = self.judge.float_score()
        self.steps: list[Step] = []
        self.files: dict[str, Path] = {}
        self.policy = QuantPolicy()

    def climb(self, update: Callable[[int], None]) -> None:
        """The stock file, then one remedy more at a time; what cannot be made is left out of the later ones."""
        self.files[_FLOAT] = self._written(self.judge, None, _FLOAT)
        update(1)
        self._step(STOCK, self.judge, self.policy)
        for done, (name, change) in enumerate(_LADDER, start=3):
            policy = replace(self.policy, **change)  # type: ignore[arg-type]
            if self._step(name, self.judge, policy):
                self.policy = policy
            update(done - 1)
        self._rewritten(FREE, self.network)
        update(len(_LADDER) + 3)
        equalized = Equalize()(self.network, self.judge.task)
        if equalized.module is not self.network.module:
            self._rewritten(EQUAL, equalized)
        update(len(_LADDER) + 4)

    def _rewritten(self, name: str, network: Network) -> None:
        """The last policy on a network with free concatenations, if that is another one."""
        freed = FreeConcats()(network, self.judge.task)
        if freed.module is not self.network.module:
            self._step(name, Judge(freed, self.whole, self.reach, self.options, self.folder / "measured"), self.policy)

    def _step(self, name: str, judge: Judge, policy: QuantPolicy) -> bool:
        """Whether the file could be made."""
        try:
            measured = judge.measure(policy, self.format, self.size)
        except UntunableError as error:
            self.steps.append(Step(name, None, None, str(error)))
            return False
        self.files[name] = self._written(judge, policy, name.strip("+ ").replace(" ", "-"))
        self.steps.append(Step(name, measured["score"], int(measured["bytes"])))
        return True

    def _written(self, judge: Judge, policy: QuantPolicy | None, name: str) -> Path:
        folder = self.folder / name
        return judge.write(policy, self.format, self.size, folder).path(folder)

    def culprits(self) -> tuple[list[Culprit], str]:
        """The worst tensors of the stock file, or why they cannot be told."""
        from export.tuning import sensitivity

        side = tiling.round_up((QuantPolicy().calibration_size,) * 2, self.reach.step)[0]
        inputs = self.judge.task.calibration_inputs(_LOOKED_AT, side, self.options.seed)
        try:
            parts = sensitivity.of_file(self.files[STOCK], self.files[_FLOAT], inputs)
        except UntunableError as error:
            return [], str(error)
        return [self._culprit(part) for part in parts[:_WORST] if part.share > 0], ""

    def _culprit(self, part: Part) -> Culprit:
        scores = [(s.name, s.score) for s in self.steps if s.score is not None]
        gains = {now[0]: now[1] - before[1] for before, now in itertools.pairwise(scores)}
        remedy = PRESCRIBED if part.fixed else _remedy(part, gains)
        return Culprit(part.name, part.share, part.range, remedy, gains.get(remedy))


def _remedy(part: Part, gains: Mapping[str, float]) -> str:
    """The step that is made for a tensor; of two, the one that gave more."""
    if part.name.startswith("weights of"):
        return _WEIGHTS
    if FREE in gains and ("concat" in part.name.lower() or " + " in part.name):  # several on one scale
        return FREE
    if part.end:
        return _EXACT
    return EQUAL if gains.get(EQUAL, 0.0) > max(gains.get(_RANGES, 0.0), 0.0) else _RANGES
