"""SPAN x4, official and built-in weights: the files of `compress run --target mobile` on Set5, Set14 and B100.

Writes results/span.json.  The test sets are looked at here, for the report, and nowhere else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import record

from compress import pipeline, zoo
from compress.cli import _options
from compress.measure import through
from compress.network import Network
from compress.options import Options
from compress.progress import Reporter
from compress.result import Result
from compress.run_folder import RunFolder
from compress.task import Data, Scores
from compress.tasks.super_resolution import super_resolution
from export import formats
from export.artifact import Session
from export.receptive_field import Reach
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


def psnr_of(session: Session, network: Network, reach: Reach, data: Path) -> float:
    """A session on another set."""
    task = super_resolution(network, Data(data))
    with Reporter().bar(f"  {data.name}", task.size) as update:
        scores: Scores = task.judge(through(session, network, reach), update)
    return scores.mean


def numbers_of(weights: Path | None, images: Path) -> dict[str, object]:
    """Everything about one set of weights."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "run"
        found = run(weights, images / TIMED, root)
        network = zoo.load("span", weights)
        reach = pipeline.reach_of(network)
        psnr = {"torch-float32": {TIMED: found.float32.mean}}
        for name in OTHERS:
            plain = TorchSession(network.module)
            psnr["torch-float32"][name] = psnr_of(plain, network, reach, images / name)
        files = {}
        for file in found.files:
            session = formats.open_file(file.artifact.path(root), file.latency.threads)
            sets = {name: psnr_of(session, network, reach, images / name) for name in OTHERS}
            psnr[file.artifact.name] = {TIMED: file.scores.mean, **sets}
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
