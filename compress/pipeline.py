"""The whole story of ``compress run``, on one page."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path

import targets.profile
from compress import __version__, recipe, report
from compress.measure import Bicubic, Measurer
from compress.network import Network
from compress.options import Options
from compress.progress import Reporter
from compress.registry import MODELS
from compress.result import FileResult, Result, to_json
from compress.run_folder import RunFolder
from compress.task import TASKS, Task
from compress.weights import sha256
from export import formats, timing
from export.artifact import Artifact, Card, ExportSpec
from export.files import atomic_write
from export.receptive_field import radius
from export.torch_session import TorchSession
from targets.check import Facts, Verdict, check
from targets.profile import TargetProfile

__all__ = ["run", "specs_of", "write_one"]


def run(options: Options, folder: RunFolder, reporter: Reporter) -> Result:
    """Load, score, compress, write, check and time a network, and report; everything lands in the folder.

    Raises:
        EdgepressError: whatever the user can mend; the folder can then be resumed.
    """
    start = time.monotonic()
    profile = targets.profile.load(options.target)
    steps = recipe.load(options.recipe or profile.deploy.recipe)
    network = MODELS[options.model](options.weights, options.scale)
    task = TASKS[options.task](network.scale, options.data, options.calibration)
    inputs = _inputs(options, profile, steps, network, task)
    folder.remember(inputs)
    reporter.line(f"{network.name} x{network.scale} for {profile.title}")
    reporter.line(f"{len(task.evaluation)} images, protocol {task.protocol}")

    halo = radius(network.module, network.channels, network.scale)
    threads = options.threads or min(profile.deploy.threads, timing.cores())
    measurer = Measurer(task, network.scale, halo, threads, folder, reporter)
    bicubic = measurer.scores("bicubic", lambda: Bicubic(network.scale), None)
    float32 = measurer.scores("torch-float32", lambda: TorchSession(network.module), halo)

    compressed = steps.apply(network, task)
    wanted = options.formats or (profile.deploy.format, *profile.reference.formats)
    specs = specs_of(compressed, task, (profile.input.height, profile.input.width), options.seed)
    artifacts = _write_files(specs, wanted, folder, reporter)
    parities = [measurer.parity(a, compressed) for a in artifacts]
    scores = [measurer.file_scores(a) for a in artifacts]
    timings = measurer.timings(artifacts, profile, network.channels)

    rows = zip(artifacts, parities, scores, timings.latencies, timings.peak_memory_bytes, strict=True)
    result = Result(
        options=options,
        profile=profile,
        recipe_toml=steps.to_toml(),
        network=network.name,
        scale=network.scale,
        halo=halo,
        parameters=sum(p.numel() for p in compressed.module.parameters()),
        bicubic=bicubic,
        float32=float32,
        files=tuple(FileResult(*row) for row in rows),
        verdict=Verdict(profile.name, ()),
        host=timings.host,
        inputs=inputs,
        versions=_versions(wanted),
        peak_memory_bytes=timing.resident_peak(),
        seconds=time.monotonic() - start,
    )
    result = replace(result, verdict=_verdict(result))
    report.write(result, task, folder.root, reporter)
    atomic_write(folder.root / "run.json", to_json(result))
    return result


def specs_of(network: Network, task: Task, input_size: tuple[int, int], seed: int) -> list[ExportSpec]:
    """What is to be written of a network: float32 and, where it carries a policy, int8."""
    halo = radius(network.module, network.channels, network.scale)
    plain = Card(network.name, network.scale, network.channels, halo, "float32")
    specs = [ExportSpec(network.module, plain, input_size)]
    if network.policy is not None:
        crops = task.calibration_crops(network.policy.calibration_crops, network.policy.calibration_size, seed)
        specs.append(ExportSpec(network.module, replace(plain, dtype="int8"), input_size, network.policy, crops))
    return specs


def write_one(spec: ExportSpec, name: str, out: Path) -> Artifact:
    """One file of one format, written into a folder under its usual name."""
    card = spec.card
    return formats.write(name, spec, out, f"{card.model}_x{card.scale}_{card.dtype}")


def _write_files(
    specs: Sequence[ExportSpec], wanted: Sequence[str], folder: RunFolder, reporter: Reporter
) -> list[Artifact]:
    """Every format of every spec; files that a killed run finished are kept."""

    def write(name: str, spec: ExportSpec) -> Artifact:
        return replace(write_one(spec, name, folder.root / "artifacts"), folder="artifacts")

    jobs = [(name, spec) for name in wanted for spec in specs]
    artifacts = []
    with reporter.bar("writing files", len(jobs)) as update:
        for done, (name, spec) in enumerate(jobs, start=1):
            step = f"file-{name}-{spec.card.dtype}"
            artifact = folder.once(step, Artifact, partial(write, name, spec), lambda a: a.intact(folder.root))
            artifacts.append(artifact)
            update(done)
    return artifacts


def _inputs(
    options: Options, profile: TargetProfile, steps: recipe.Recipe, network: Network, task: Task
) -> dict[str, object]:
    """What decides the numbers: hashes of all files, and the settings."""
    settings = {k: str(v) if v is not None else None for k, v in asdict(options).items()}
    return {
        "settings": settings,
        "edgepress": __version__,
        "profile": profile.model_dump(mode="json"),
        "recipe": steps.to_toml(),
        "weights": {"path": str(network.weights.path), "sha256": network.weights.sha256},
        "images": {str(path): sha256(path) for path in task.files()},
    }


def _versions(wanted: Sequence[str]) -> dict[str, str]:
    names = ["torch", "numpy", "pillow", *(formats.by_name(name).RUNTIME for name in wanted)]
    found = {name: metadata.version(name) for name in dict.fromkeys(names)}
    return {"edgepress": __version__, "python": platform.python_version(), "system": platform.platform(), **found}


def _verdict(result: Result) -> Verdict:
    """The deployed file against the profile."""
    file = result.deployed
    size = (result.profile.input.height, result.profile.input.width)
    facts = Facts(
        format=file.artifact.format,
        dtype=file.artifact.dtype,
        file_bytes=file.artifact.file_bytes,
        operators=file.artifact.operators,
        peak_memory_bytes=file.peak_memory_bytes,
        latency_ms=file.latency.median_ms if (file.latency.height, file.latency.width) == size else None,
        host=result.host.architecture,
        quality=file.scores.psnr,
        float_quality=result.float32.psnr,
        floor_quality=result.bicubic.psnr,
        unit="dB",
    )
    return check(facts, result.profile)
