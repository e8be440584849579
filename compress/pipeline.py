"""The whole story of ``compress run``, on one page."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path

import targets.profile
from compress import __version__, policies, recipe, report, source
from compress.errors import UsageError
from compress.finite import refuse_broken
from compress.measure import Given, Measurer
from compress.methods.reparameterize import Reparameterize
from compress.network import Network
from compress.options import Options
from compress.policies import Choice, Judge, choose
from compress.progress import Reporter
from compress.registry import TASKS
from compress.result import FileResult, Result, StepResult, to_json
from compress.run_folder import RunFolder
from compress.task import Task
from compress.weights import sha256
from compress.workshop import Workshop
from export import formats, tiling, timing
from export.artifact import Artifact, Card, ExportSpec, cut_to
from export.errors import UntunableError
from export.files import atomic_write
from export.receptive_field import Reach, reach
from export.timing import Host
from export.torch_session import TorchSession
from targets.check import Facts, Verdict, check
from targets.profile import TargetProfile

__all__ = ["input_size_of", "reach_of", "run", "specs_of", "write_one"]

_SIZE = (180, 320)
"""Declared in files of networks of any size, where neither the user nor a target says more."""


def run(options: Options, folder: RunFolder, reporter: Reporter) -> Result:
    """Load, score, compress, write, check and time a network, and report; everything lands in the folder.

    Raises:
        EdgepressError: whatever the user can mend; the folder can then be resumed.
    """
    start = time.monotonic()
    job = _Job.of(options)
    profile, network, task = job.profile, job.network, job.task
    folder.remember(job.inputs)
    reporter.line(f"{network.name} for {profile.title}")
    reporter.line(f"{task.size} images, protocol {task.protocol}")

    reach = folder.once("reach", Reach, partial(reach_of, network))
    size = input_size_of(network, reach, options.input_size or (profile.input.height, profile.input.width))
    refuse_broken(network, task, reach.step)
    threads = options.threads or min(profile.deploy.threads, timing.cores())
    measurer = Measurer(task, network, reach, threads, folder, reporter)
    given = measurer.given(Reparameterize()(network, task))

    wanted = job.wanted
    compressed, steps = _applied(job, measurer)
    _ensure_writable(compressed, wanted)
    if steps:
        reach = folder.once("reach-after", Reach, partial(reach_of, compressed))
        measurer = replace(measurer, network=compressed, reach=reach)
    judge = Judge(compressed, task, reach, options, folder.root / "policies")
    choice = _chosen(judge, wanted[0], size, options, folder, reporter)
    compressed = compressed if choice is None else replace(compressed, policy=choice.policy)
    specs = specs_of(compressed, task, reach, size, options)
    artifacts = _write_files(specs, wanted, folder, reporter)
    files, host = _measured(measurer, artifacts, compressed, size)

    result = replace(_result(job, reach, given, compressed, choice, files, host), steps=steps)
    blame = partial(policies.blame, result.deployed.artifact, specs, folder)
    result = replace(result, verdict=_verdict(result, size, blame), seconds=time.monotonic() - start)
    report.write(result, task, network, folder.root, reporter)
    atomic_write(folder.root / "run.json", to_json(result))
    return result


@dataclass(frozen=True)
class _Job:
    """What is done to which network, and how it is judged."""

    options: Options
    profile: TargetProfile
    steps: recipe.Recipe
    network: Network
    task: Task
    wanted: tuple[str, ...]
    """Formats, that of the target first."""

    @classmethod
    def of(cls, options: Options) -> _Job:
        """What the user asked for, with what it names loaded."""
        profile = targets.profile.load(options.target)
        steps = recipe.load(options.recipe or profile.deploy.recipe)
        network = source.resolve(options.request)
        wanted = options.formats or (profile.deploy.format, *profile.reference.formats)
        if not any(getattr(step, "replaces", False) for step in steps.steps):
            _ensure_writable(network, wanted)
        task = TASKS[options.task or network.task](network, options.judged_on)
        return cls(options, profile, steps, network, task, wanted)

    @cached_property
    def inputs(self) -> dict[str, object]:
        """What decides the numbers: hashes of all files, and the settings."""
        weights = self.network.weights
        return {
            "settings": {k: str(v) if v is not None else None for k, v in asdict(self.options).items()},
            "edgepress": __version__,
            "profile": self.profile.model_dump(mode="json"),
            "recipe": self.steps.to_toml(),
            "weights": {"path": str(weights.path or "random"), "sha256": weights.sha256},
            "images": {str(path): sha256(path) for path in self.task.files()},
        }


def _ensure_writable(network: Network, wanted: Sequence[str]) -> None:
    """Make sure that all formats take the network.

    Raises:
        UsageError: one is for look-up tables alone.
    """
    refused = [name for name in wanted if name not in formats.names(tables=network.tables is not None)]
    if refused:
        raise UsageError(
            f"{network.name} cannot be written as {', '.join(refused)}, expected a network of look-up tables; give "
            "another --target or --format, or a recipe such as examples/sr_to_lut.toml"
        )


def _applied(job: _Job, measurer: Measurer) -> tuple[Network, tuple[StepResult, ...]]:
    """The network after all steps of the recipe, and the scores after each that changes what it computes."""
    workshop = Workshop(measurer.folder.root / "methods", measurer.reporter, job.options.seed, job.network)
    network, found = job.network, []
    for name, step, made in job.steps.applied(network, job.task, workshop):
        network = made
        if getattr(step, "lossy", False):
            after = replace(measurer, network=network, reach=reach_of(network))
            scores = after.scores(name, partial(TorchSession, network.module))
            found.append(StepResult(name, scores, getattr(network.module, "table_bytes", None)))
    return network, tuple(found)


def _measured(
    measurer: Measurer, artifacts: Sequence[Artifact], network: Network, size: tuple[int, int]
) -> tuple[tuple[FileResult, ...], Host]:
    """All that is measured of the files, and the machine that they were timed on."""
    parities = [measurer.parity(a, network) for a in artifacts]
    scores = [measurer.file_scores(a) for a in artifacts]
    timings = measurer.timings(artifacts, size)
    rows = zip(artifacts, parities, scores, timings.latencies, timings.peak_memory_bytes, strict=True)
    return tuple(FileResult(*row) for row in rows), timings.host


def _result(
    job: _Job,
    reach: Reach,
    given: Given,
    compressed: Network,
    choice: Choice | None,
    files: tuple[FileResult, ...],
    host: Host,
) -> Result:
    """What was found out, but for the verdict and the time it took."""
    return Result(
        options=job.options,
        profile=job.profile,
        recipe_toml=job.steps.to_toml(),
        network=job.network.name,
        task=job.task.name,
        metric=job.task.metric,
        scale=job.network.scale,
        halo=reach.halo,
        parameters=compressed.size,
        choice=choice,
        merge=given.merge,
        seam=given.seam,
        floor_name=job.task.floor_name,
        floor=given.floor,
        float32=given.float32,
        files=files,
        verdict=Verdict(job.profile.name, ()),
        host=host,
        inputs=job.inputs,
        versions=_versions([file.artifact.format for file in files]),
        peak_memory_bytes=timing.resident_peak(),
        seconds=0.0,
    )


def reach_of(network: Network) -> Reach:
    """How images may be cut into tiles for a network; a classifier's are not.

    Raises:
        UsageError: it should take any size, and does not.
    """
    if network.classes is not None:
        return Reach(None, 1)
    known = getattr(network.module, "halo", None)
    if isinstance(known, int):
        return Reach(known, network.unit)
    try:
        return reach(network.module, network.channels, network.scale, network.unit)
    except Exception as error:  # a foreign network raises anything
        if network.input_size is not None:
            return Reach(None, 1)  # no other size than its own can be tried
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
        raise UsageError(
            f"{network.name} does not run on images of every size that is a multiple of {network.unit} ({reason}); if "
            "its sides must be multiples of a number, give the module an attribute `unit`, if it takes one size only, "
            "input_size = (height, width)"
        ) from error


def input_size_of(network: Network, reach: Reach, wanted: tuple[int, int] | None = None) -> tuple[int, int]:
    """The (height, width) that files declare: the network's own, or the one wanted, as multiples of the unit."""
    return network.input_size or tiling.round_up(wanted or _SIZE, reach.step)


def specs_of(
    network: Network, task: Task, reach: Reach, input_size: tuple[int, int], options: Options
) -> list[ExportSpec]:
    """What is to be written of a network: float32 and, where it carries a policy, int8; of tables the one file."""
    plain = Card(
        model=network.name,
        scale=network.scale,
        channels=network.channels,
        halo=reach.halo,
        dtype="float32" if network.tables is None else "int8",
        task=task.name,
        unit=reach.step,
        classes=network.classes,
        crop_share=network.crop_share,
        layout=options.layout,
    )
    specs = [ExportSpec(network.module, plain, input_size, graph=network.graph)]
    if network.policy is not None:
        side = tiling.round_up((network.policy.calibration_size,) * 2, reach.step)[0]
        inputs = task.calibration_inputs(network.policy.calibration_crops, side, options.seed)
        if network.input_size is not None:
            inputs = [cut_to(image, *network.input_size) for image in inputs]
        quantized = replace(plain, dtype="int8")
        specs.append(ExportSpec(network.module, quantized, input_size, network.policy, inputs, network.graph))
    return specs


def _chosen(
    judge: Judge, format: str, size: tuple[int, int], options: Options, folder: RunFolder, reporter: Reporter
) -> Choice | None:
    """The searched policy, where a search is wanted and there is something to quantize."""
    if judge.network.policy is None or not options.searches:
        return None
    scratch = folder.root / "policies"
    choice = folder.once("policy", Choice, lambda: choose(judge, format, size, options, scratch, reporter))
    reporter.line(f"policy: {choice.why}; {choice.drop:.2f} {judge.task.unit} lost there")
    return choice


def write_one(spec: ExportSpec, name: str, out: Path) -> Artifact:
    """One file of one format, written into a folder under its usual name."""
    card = spec.card
    stem = f"{card.model}_x{card.scale}" if card.scale > 1 else card.model
    return formats.write(name, spec, out, f"{stem}_{card.dtype}")


def _write_or_stock(spec: ExportSpec, name: str, out: Path, reporter: Reporter) -> Artifact:
    """As :func:`write_one`; a file whose numbers cannot be tuned is left as the runtime's quantizer makes it."""
    try:
        return write_one(spec, name, out)
    except UntunableError as error:
        if spec.policy is None:
            raise
        reporter.line(f"  {name}: {error}; the numbers are those of its own quantizer")
        return write_one(replace(spec, policy=spec.policy.as_stock), name, out)


def _write_files(
    specs: Sequence[ExportSpec], wanted: Sequence[str], folder: RunFolder, reporter: Reporter
) -> list[Artifact]:
    """Every format of every spec; files that a killed run finished are kept."""

    def write(name: str, spec: ExportSpec) -> Artifact:
        artifact = _write_or_stock(spec, name, folder.root / "artifacts", reporter)
        return replace(artifact, folder="artifacts")

    jobs = [(name, spec) for name in wanted for spec in specs]
    artifacts = []
    with reporter.bar("writing files", len(jobs)) as update:
        for done, (name, spec) in enumerate(jobs, start=1):
            step = f"file-{name}-{spec.card.dtype}"
            artifact = folder.once(step, Artifact, partial(write, name, spec), lambda a: a.intact(folder.root))
            artifacts.append(artifact)
            update(done)
    return artifacts


def _versions(wanted: Sequence[str]) -> dict[str, str]:
    names = ["torch", "numpy", "pillow", *(formats.by_name(name).RUNTIME for name in wanted)]
    found = {name: metadata.version(name) for name in dict.fromkeys(names)}
    return {"edgepress": __version__, "python": platform.python_version(), "system": platform.platform(), **found}


def _verdict(result: Result, size: tuple[int, int], blame: Callable[[], str]) -> Verdict:
    """The deployed file against the profile, and against what the user allows."""
    file = result.deployed
    most = result.options.max_drop
    too_much = most is not None and result.float32.mean - file.scores.mean > most
    facts = Facts(
        format=file.artifact.format,
        dtype=file.artifact.dtype,
        file_bytes=file.artifact.file_bytes,
        operators=file.artifact.operators,
        peak_memory_bytes=file.peak_memory_bytes,
        latency_ms=file.latency.median_ms if (file.latency.height, file.latency.width) == size else None,
        input_size=size,
        host=result.host.architecture,
        quality=file.scores.mean,
        float_quality=result.float32.mean,
        floor_quality=result.floor.mean,
        unit=result.floor.unit,
        most_loss=most,
        blame=blame() if too_much else "",
    )
    return check(facts, result.profile)
