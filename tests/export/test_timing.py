"""What a measurement holds; never how long anything took."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from export import timing
from export.errors import ExportError
from export.timing import Latency, host, measure, peak_memory

REPEATS = 5


@pytest.fixture(scope="session")
def latencies(plain_file: Callable[..., Path], conv_onnx: Callable[..., Path]) -> list[Latency]:
    """Two files of fixed size among those of any, so that a mix-up of the order would show."""
    paths = [conv_onnx((24, 20)), plain_file("tflite", "int8"), conv_onnx((31, 33)), plain_file("openvino")]
    return measure(paths, (40, 50), 3, threads=1, repeats=REPEATS)


def test_one_latency_a_file_in_order_at_its_own_size_or_the_one_asked_for(latencies: list[Latency]) -> None:
    assert [(each.height, each.width) for each in latencies] == [(24, 20), (40, 50), (31, 33), (40, 50)]


def test_each_has_its_samples_and_their_quantiles(latencies: list[Latency]) -> None:
    for each in latencies:
        assert each.threads == 1
        assert len(each.samples_ms) == REPEATS
        assert 0 < min(each.samples_ms) <= each.p10_ms <= each.median_ms <= each.p90_ms <= max(each.samples_ms)
        assert each.median_ms == pytest.approx(float(np.median(each.samples_ms)), rel=1e-12)  # one formula, two names


def test_peak_memory_is_what_a_file_adds(plain_file: Callable[..., Path]) -> None:
    # the input and the output alone, 3 channels of float32 each, are 2 * 3 * 4 bytes a pixel
    assert peak_memory(plain_file("onnx"), (600, 800), 3, threads=1) > 2 * 3 * 4 * 600 * 800


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^timing process failed: .*missing\.onnx: no such file"):
        measure([tmp_path / "missing.onnx"], (16, 16), 3, threads=1, repeats=1)


def fail_with(monkeypatch: pytest.MonkeyPatch, code: int, stderr: str) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(timing, "subprocess", SimpleNamespace(run=run))


def test_a_failed_process_is_quoted_by_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, 1, "Traceback ...\n  File ...\nMemoryError: 3 GiB\n\n")
    with pytest.raises(ExportError, match=r"^timing process failed: MemoryError: 3 GiB$"):
        measure([], (16, 16), 3, threads=1)


def test_a_silent_failure_gives_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, 9, "")
    with pytest.raises(ExportError, match=r"^timing process failed: exit code 9$"):
        measure([], (16, 16), 3, threads=1)


def test_a_killed_process_is_not_blamed_on_what_its_runtime_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, -9, "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
    with pytest.raises(ExportError, match=r"-9|SIGKILL|killed"):
        measure([], (16, 16), 3, threads=1)


def test_the_host_is_described() -> None:
    machine = host()
    assert machine.cpu
    assert machine.architecture
    assert machine.cores >= 1
    assert 0.0 <= machine.busy_before <= 1.0


@pytest.mark.parametrize(("idle", "warns"), [(100, False), (50, True)])
def test_a_host_busy_with_other_work_warns_with_its_share(
    monkeypatch: pytest.MonkeyPatch, idle: int, warns: bool
) -> None:
    readings = iter([[0] * 8, [100 - idle, 0, 0, idle, 0, 0, 0, 0]])
    monkeypatch.setattr("export.timing._jiffies", lambda: next(readings))
    machine = host()
    assert machine.busy_before == pytest.approx(1 - idle / 100)
    assert (f"{100 - idle}% of the processor was busy" in machine.warning) is warns
    assert bool(machine.warning) is warns


_ALLOCATE = """
import numpy as np
from export.timing import resident_peak
before = resident_peak()
block = np.ones(8 * 2**20)
during = resident_peak()
del block
print(before, during, resident_peak())
"""


def test_the_resident_peak_holds_what_was_freed_since(repository: Path) -> None:
    command = [sys.executable, "-c", _ALLOCATE]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    before, during, after = map(int, done.stdout.split())
    slack = 4 * 2**20  # the kernel counts in batches of pages for each thread
    assert before > 2**20
    assert during > before + 64 * 2**20 - slack
    assert after > during - slack
