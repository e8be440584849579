"""SPAN x4, official and built-in weights: the files of `compress run --target mobile` on Set5, Set14 and B100.

Writes results/span.json.  The test sets are looked at here, for the report, and nowhere else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import record

from compress import pipeline
from compress.cli import _options
from compress.options import Options
from compress.progress import Reporter
from compress.registry import MODELS
from compress.result import Result
from compress.run_folder import RunFolder
from compress.task import Scores, super_resolution
from export import formats, tiling
from export.artifact import Session
from export.torch_session import TorchSession

WEIGHTS = {
    "official, 48 channels": "weights/sr/span/spanx4_ch48_deploy_fp16rounded.pth",
    "official, 28 channels": "weights/sr/ntire2025/team46_span.pth",
    "built in, 32 channels": None,
}
TIMED, OTHERS = "Set5", ("Set14", "B100")


def run(weights: Path | None, data: Path, root: Path) -> Result:
    """A whole run on the set that is also timed."""
    options = Options("span", "mobile", weights=weights, data=data)
    with RunFolder(root, False) as folder:
        return pipeline.run(options, folder, Reporter())


def scores_of(session: Session, result: Result, data: Path) -> Scores:
    """A session on another set."""
    task = super_resolution(result.scale, data, None)
    with Reporter().bar(f"  {data.name}", len(task.evaluation)) as update:
        return task.judge(lambda image: tiling.enlarge(session, image, result.scale, result.halo), update)


def numbers_of(weights: Path | None, images: Path) -> dict[str, object]:
    """Everything about one set of weights."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "run"
        found = run(weights, images / TIMED, root)
        network = MODELS["span"](weights, None)
        psnr = {"torch-float32": {TIMED: found.float32.psnr}}
        for name in OTHERS:
            plain = TorchSession(network.module)
            psnr["torch-float32"][name] = scores_of(plain, found, images / name).psnr
        files = {}
        for file in found.files:
            session = formats.open_file(file.artifact.path(root), file.latency.threads)
            sets = {name: scores_of(session, found, images / name).psnr for name in OTHERS}
            psnr[file.artifact.name] = {TIMED: file.scores.psnr, **sets}
            files[file.artifact.name] = {
                "bytes": file.artifact.file_bytes,
                "median_ms": round(file.latency.median_ms, 1),
                "p10_p90_ms": [round(file.latency.p10_ms, 1), round(file.latency.p90_ms, 1)],
                "peak_memory_bytes": file.peak_memory_bytes,
            }
        return {
            "parameters": found.parameters,
            "protocol": found.float32.protocol,
            "input": [found.profile.input.height, found.profile.input.width],
            "threads": found.files[0].latency.threads,
            "busy_before_timing": round(found.host.busy_before, 3),
            "seconds_of_the_run": round(found.seconds, 1),
            "psnr": {name: {k: round(v, 3) for k, v in sets.items()} for name, sets in psnr.items()},
            "files": files,
        }


def main() -> None:
    data = record.need_shared()
    _options.use_threads(None)
    numbers = {title: numbers_of(data / w if w else None, data / "sr") for title, w in WEIGHTS.items()}
    record.write("span", numbers, seed=0)


if __name__ == "__main__":
    main()
