"""Workers in processes of their own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from search.study import load

PROGRAM = Path(__file__).with_name("worker_process.py")


class Workers:
    """Starts, kills and waits for workers of one study, and checks what is left."""

    def __init__(self, repository, folder):
        self.folder = folder
        self._environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
        self._started = []

    def start(self, storage, trials=12, pace=0.05, sampler="random", *more):
        arguments = [str(storage), str(self.folder), str(trials), str(pace), sampler, *more]
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def lines(self, name):
        path = self.folder / f"{name}.txt"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def end(self, *processes):
        for process in processes:
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors

    def check(self, storage, trials=12):
        """Every candidate once, and no evaluation that ended is missing."""
        outcome = load("workers", storage)
        assert len(outcome.measured) == len(outcome.trials) == trials
        assert len({t.candidate for t in outcome.trials}) == trials
        ended = Counter(tuple(line.split()[1:]) for line in self.lines("ended"))
        assert set(ended) == {(str(t.candidate["a"]), t.candidate["b"]) for t in outcome.trials}
        assert max(ended.values()) == 1
        return outcome

    def stop(self):
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def workers(repository, tmp_path):
    """Worker processes; those that still run are killed in the end."""
    found = Workers(repository, tmp_path)
    yield found
    found.stop()
