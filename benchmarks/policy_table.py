"""What the policies without training cost six networks, in TFLite through LiteRT: the table that a search starts from.

Each of the 96 policies of `compress.policies.space()` without training is written and scored on tuning images; the
stock policy, the best one and recipe `int8-tuned` are then scored on report images, which decide nothing.

Classifiers are calibrated on CIFAR-10 training images, judged on test images 0..999 (they were trained on the only
training images at hand, where drops flatter), reported on 1000..1999.  Super-resolution is calibrated on T91, judged
on 8 images of BSDS200, reported on Set5.

Every measurement is added to a log, and one that is there is not made again.  At the end compress/data/policies.json
(what `compress.policies.prior` reads) and results/policy_table.json hold all networks that are complete.

Usage: OMP_NUM_THREADS=1 python benchmarks/policy_table.py [--log FILE] [NETWORK...]; about an hour of one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import record

from compress import pipeline, policies, recipe, source
from compress.cli import _options
from compress.data import folder, labelled
from compress.network import Network
from compress.options import Options
from compress.policies import Judge, policy_of
from compress.task import Task
from compress.tasks.classification import Classification
from compress.tasks.super_resolution import SuperResolution
from export.errors import ExportError
from export.files import atomic_write
from export.receptive_field import Reach
from search.space import Candidate

OURS = record.RESULTS / "weights"
NETWORKS = {
    "ResNet-20": "cls/cifar10_resnet/resnet20-12fca82f.th",
    "SqueezeNet": OURS / "squeezenet_cifar10.safetensors",
    "ShuffleNetV2": OURS / "shufflenet_v2_cifar10.safetensors",
    "SPAN, 28 channels": "sr/ntire2025/team46_span.pth",
    "EFDN": "sr/ntire2025/team00_EFDN.pth",
    "MobileNetV2": OURS / "mobilenet_v2_cifar10.safetensors",
}
"""Names to weights, those of others below shared/data/weights."""
HISTORY = record.REPO / "compress" / "data" / "policies.json"
KNOBS = [knob.name for knob in policies.space().knobs]
POLICIES = [c for c in policies.space().candidates if c["training"] == 0]
JUDGED = 1000  # images of a classifier's table, and as many of its report
JUDGED_SR = 8


def tuning_and_report(network: Network, data: Path) -> tuple[Task, Task]:
    """The task that policies are chosen on, and the one that says what came of it; calibrated alike."""
    if network.classes is None:
        calibrated = tuple(sorted((data / "sr/train/T91").iterdir()))
        photos = sorted((data / "sr/train/BSDS200_jpg_first100").iterdir())
        judged = photos[:: len(photos) // JUDGED_SR][:JUDGED_SR]
        pairs = tuple(folder.Pair(p.stem, p, None, network.scale) for p in judged)
        tuned = SuperResolution(network.scale, network.channels, pairs, calibrated)
        return tuned, replace(tuned, evaluation=tuple(folder.pairs(data / "sr/Set5", network.scale)))
    root = data / "cls/cifar10"
    training, test = labelled.find(root, "calibration"), labelled.find(root, "evaluation")
    assert training is not None and test is not None and network.input_size is not None
    first, second = (labelled.subset(test, np.arange(JUDGED) + start) for start in (0, JUDGED))
    shape = (network.channels, network.input_size, network.crop_share)
    decided = Classification(*shape, training, first, test.classes)
    return decided, replace(decided, evaluation=second)


@dataclass(frozen=True)
class Log:
    """All measurements, one a line."""

    path: Path
    commit: str

    def read(self) -> list[dict[str, Any]]:
        """What is there; a line that was cut short is left out."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def once(self, key: Mapping[str, Any], work: Callable[[], Mapping[str, Any]]) -> None:
        """Add what ``work`` finds out, unless the log has it."""
        if any(all(line.get(k) == v for k, v in key.items()) for line in self.read()):
            return
        start = time.monotonic()
        try:
            found = work()
        except ExportError as error:
            found = {"failed": str(error)}
        line = json.dumps({**key, **found, "seconds": round(time.monotonic() - start, 1), "commit": self.commit})
        broken = self.path.is_file() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * broken + line + "\n")
        print(line, flush=True)


@dataclass(frozen=True)
class Bench:
    """A network with its two tasks, ready to be measured."""

    name: str
    given: Network
    tasks: tuple[Task, Task]
    options: Options
    scratch: Path

    @property
    def key(self) -> dict[str, Any]:
        """What every line of the log says: a measurement of other weights is another one."""
        return {"network": self.name, "weights": self.given.weights.sha256[:12]}

    @cached_property
    def reach(self) -> Reach:
        """How images may be cut into tiles."""
        return pipeline.reach_of(self.given)

    def judge(self, steps: str, task: Task) -> Judge:
        """Of the network as a recipe prepares it, on a task as it stands: what is to be held out is apart already."""
        made = Judge(recipe.load(steps).apply(self.given, task), task, self.reach, self.options, self.scratch)
        made.task = task
        return made

    def table(self, log: Log, some: Sequence[Candidate]) -> None:
        """The scores of some policies on the tuning images."""
        task = self.tasks[0]
        judge = self.judge("int8", task)
        head = {"unit": task.unit, "images": task.size, "protocol": task.protocol}
        log.once({**self.key, "float": "tuning"}, lambda: {**head, "score": judge.float_score()})
        for candidate in some:
            policy = policy_of(candidate)
            log.once({**self.key, "policy": dict(candidate)}, lambda p=policy: judge.measure(p, "tflite", self.size))

    def report(self, log: Log) -> None:
        """What the choice is worth on images that had no part in it."""
        task = self.tasks[1]
        plain, tuned = self.judge("int8", task), self.judge("int8-tuned", task)
        best = max(rows(log, self.name), key=lambda row: row["score"])["policy"]
        log.once({**self.key, "float": "report"}, lambda: {"images": task.size, "score": plain.float_score()})
        for name, judge, policy in (
            ("stock", plain, plain.base),
            ("best", plain, policy_of(best)),
            ("int8-tuned", tuned, tuned.base),
        ):
            log.once({**self.key, "report": name}, lambda j=judge, p=policy: j.measure(p, "tflite", self.size))

    @property
    def size(self) -> tuple[int, int]:
        """Declared in the files."""
        return pipeline.input_size_of(self.given, self.reach, (64, 64))


def opened(name: str, data: Path, scratch: Path) -> Bench:
    weights = NETWORKS[name]
    path = weights if isinstance(weights, Path) else data / "weights" / weights
    options = Options(str(path), "mobile", threads=1)
    given = source.resolve(options.request)
    return Bench(name, given, tuning_and_report(given, data), options, scratch)


def rows(log: Log, name: str) -> list[dict[str, Any]]:
    """The policies of a network that could be measured."""
    return [line for line in log.read() if line["network"] == name and "policy" in line and "score" in line]


def summary(log: Log, name: str) -> dict[str, Any] | None:
    """A network's scores and what was reported; None while some are missing."""
    lines = [line for line in log.read() if line["network"] == name]
    plain = {line["float"]: line for line in lines if "float" in line}
    report = {line["report"]: line.get("score") for line in lines if "report" in line}
    known = {Candidate(row["policy"]): row["score"] for row in rows(log, name)}
    tried = sum("policy" in line for line in lines)
    if tried < len(POLICIES) or len(report) < 3:
        return None
    best = max(known, key=known.__getitem__)
    return {
        **{k: plain["tuning"][k] for k in ("unit", "images", "protocol", "weights")},
        "float": round(plain["tuning"]["score"], 4),
        "scores": [round(known[c], 4) if c in known else None for c in POLICIES],
        "best": dict(best),
        "report": {"float": plain["report"]["score"], **report, "images": plain["report"]["images"]},
        "seconds": round(sum(line["seconds"] for line in lines)),
    }


def write(log: Log) -> None:
    """The product's table and the result, of the networks that are complete."""
    found = {name: summary(log, name) for name in NETWORKS}
    complete = {name: numbers for name, numbers in found.items() if numbers is not None}
    table = {"knobs": KNOBS, "policies": [[c[k] for k in KNOBS] for c in POLICIES]}
    result = record.write("policy_table", {**table, "networks": complete}, seed=0)
    about = json.loads(result.read_text(encoding="utf-8"))
    short = ("network", "unit", "images", "protocol", "weights", "float", "scores")
    networks = [{k: v for k, v in {"network": n, **numbers}.items() if k in short} for n, numbers in complete.items()]
    made = {k: about[k] for k in ("command", "commit", "versions")}
    text = json.dumps({"measured": {"format": "tflite", **made}, **table, "networks": networks})
    atomic_write(HISTORY, text + "\n")
    print(HISTORY, f"{len(complete)} networks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {list(NETWORKS)}")
    parser.add_argument("--log", type=Path, default=record.REPO / "runs" / "policy_table.jsonl")
    args = parser.parse_args()
    _options.use_threads(None)
    data, log = record.need_shared(), Log(args.log, record.commit())
    log.path.parent.mkdir(parents=True, exist_ok=True)
    names = args.networks or list(NETWORKS)
    with tempfile.TemporaryDirectory() as scratch:
        for exact in (False, True):  # half of every network's first: what is there compares if the rest is cut off
            for name in names:
                opened(name, data, Path(scratch)).table(log, [c for c in POLICIES if c["exact"] == exact])
        for name in names:
            opened(name, data, Path(scratch)).report(log)
    write(log)


if __name__ == "__main__":
    main()
