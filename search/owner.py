"""Who works on a trial, and whether that worker is still alive."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Watch", "beating", "is_dead", "own_name"]


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""


def _host() -> str:
    """This host as process numbers are counted on it: since its last start, in this container."""
    boot = _read("/proc/sys/kernel/random/boot_id")[:8]
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _started(process: int) -> str:
    """When a process of this host started, in ticks since boot; empty when there is none or it has ended."""
    fields = _read(f"/proc/{process}/stat").rpartition(")")[2].split()
    return "" if len(fields) < 20 or fields[0] == "Z" else fields[19]


def own_name() -> str:
    """This worker: host, process and when that started; process numbers are used again."""
    return f"{_host()} {os.getpid()} {_started(os.getpid())}"


def is_dead(name: str) -> bool:
    """Whether a worker is known to be gone: its process was on this host and is no more.

    ``False`` where that cannot be seen, as of another host's; a :class:`Watch` then waits.
    """
    host, process, started = name.rsplit(" ", 2)
    if host != _host() or not started:
        return False
    return _started(int(process)) != started


class Watch:
    """Notices what has not changed for a while, by this worker's own clock: hosts' clocks differ."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[int, tuple[object, float]] = {}

    def still(self, number: int, sign: object) -> bool:
        """Whether the sign of a trial has been the same for that many seconds."""
        now = time.monotonic()
        before = self._seen.get(number)
        if before is None or before[0] != sign:
            self._seen[number] = (sign, now)
            return False
        return now - before[1] > self._seconds


@contextlib.contextmanager
def beating(beat: Callable[[int], None], seconds: float) -> Iterator[None]:
    """Call ``beat`` with 1, 2, ... every so many seconds from a thread; what it raises is left to the next beat."""
    ended = threading.Event()

    def run() -> None:
        count = 0
        while not ended.wait(seconds):
            count += 1
            with contextlib.suppress(Exception):
                beat(count)

    thread = threading.Thread(target=run, name="search-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
