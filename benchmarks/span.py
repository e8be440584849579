"""SPAN x4, official and built-in weights: every file of `compress run --target mobile` on Set5, Set14 and B100.

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
from compress.run_folder import RunFolder

WEIGHTS = {
    "official, 48 channels": "weights/sr/span/spanx4_ch48_deploy_fp16rounded.pth",
    "official, 28 channels": "weights/sr/ntire2025/team46_span.pth",
    "built in, 32 channels": None,
}
SETS = ("Set5", "Set14", "B100")


def main() -> None:
    data = record.need_shared()
    _options.use_threads(None)
    numbers: dict[str, dict[str, object]] = {}
    for title, weights in WEIGHTS.items():
        numbers[title] = {}
        for name in SETS:
            options = Options("span", "mobile", weights=data / weights if weights else None, data=data / "sr" / name)
            with tempfile.TemporaryDirectory() as scratch, RunFolder(Path(scratch) / "run", False) as folder:
                folder.keep_options(options)
                found = pipeline.run(options, folder, Reporter())
            files = {
                f.artifact.name: {
                    "psnr": round(f.scores.psnr, 3),
                    "ssim": round(f.scores.ssim or 0.0, 4),
                    "bytes": f.artifact.file_bytes,
                    "median_ms": round(f.latency.median_ms, 1),
                    "p10_p90_ms": [round(f.latency.p10_ms, 1), round(f.latency.p90_ms, 1)],
                    "peak_memory_bytes": f.peak_memory_bytes,
                }
                for f in found.files
            }
            numbers[title][name] = {
                "bicubic": round(found.bicubic.psnr, 3),
                "float32": round(found.float32.psnr, 3),
                "float32_ssim": round(found.float32.ssim or 0.0, 4),
                "protocol": found.float32.protocol,
                "parameters": found.parameters,
                "input": [found.profile.input.height, found.profile.input.width],
                "threads": found.files[0].latency.threads,
                "files": files,
            }
    record.write("span", numbers, seed=0)


if __name__ == "__main__":
    main()
