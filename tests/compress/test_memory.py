"""Calibration and scoring of 4K photographs, in a process of their own, stay below 2 GB."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from compress.data import builtin

LIMIT_BYTES = 2_000_000_000
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from compress import zoo
from compress.measure import through
from compress.registry import TASKS
from compress.task import Data
from export import timing
from export.receptive_field import Reach
from export.torch_session import TorchSession

torch.set_num_threads(2)
network = zoo.fresh(sys.argv[1], **json.loads(sys.argv[2]))
task = TASKS[network.task](network, Data(Path(sys.argv[3]), Path(sys.argv[4])))
inputs = task.calibration_inputs(64, 64, 0)
steps = []
run = through(TorchSession(network.module), network, Reach(21, 1))
scores = task.judge(run, steps.append)
task.floor(steps.append)
print(json.dumps({"peak": timing.resident_peak(), "steps": steps, "inputs": len(inputs), "mean": scores.mean}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folders = tuple(tmp_path_factory.mktemp(name) for name in ("scored", "calibration"))
    for folder, sources in zip(folders, (builtin.evaluation_images(), builtin.calibration_images()), strict=True):
        for path in sources[:2]:
            with Image.open(path) as image:
                image.convert("RGB").resize((3840, 2160)).save(folder / f"{path.stem}.png", compress_level=1)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize(("model", "sizes"), [("span", {"channels": 8}), ("dncnn", {"depth": 3, "width": 8})])
def test_4k_photographs_take_less_than_2_gb(
    large: tuple[Path, Path], repository: Path, model: str, sizes: dict[str, int]
) -> None:
    command = [sys.executable, "-c", SCRIPT, model, json.dumps(sizes), *map(str, large)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["inputs"] == 64 and found["steps"] == [1, 2, 1, 2], "progress is told for each image"
    assert found["peak"] < LIMIT_BYTES
