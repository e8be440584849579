"""Threads that stay: making them takes as long as a small image."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

__all__ = ["Workers"]


class Workers:
    """Runs parts of some work side by side, the first one in the calling thread."""

    def __init__(self) -> None:
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._threads: list[int] = []

    def run(self, work: Callable[[int], None], count: int) -> None:
        """Do parts 0 to count - 1, each in a thread.

        Raises:
            Exception: what a part raised, after all of them have ended.
        """
        if count > 1 and (self._pool is None or self._pool[0] < count):
            self._pool = (count, ThreadPoolExecutor(count - 1, initializer=self._known))
        self._move_away()
        others = [self._pool[1].submit(work, part) for part in range(1, count)] if self._pool else []
        try:
            work(0)
        finally:
            for other in others:
                other.exception()
        for other in others:
            other.result()

    def _known(self) -> None:
        self._threads.append(threading.get_native_id())

    def _move_away(self) -> None:
        """Let the other threads run on any processor but this thread's.

        Linux wakes a thread where it slept, even if that is where its waker runs on: without this, two threads took as
        long as one after every pause.
        """
        if not hasattr(os, "sched_setaffinity") or not self._threads:
            return
        here, allowed = _processor(), os.sched_getaffinity(0)
        if len(allowed - {here}) < len(self._threads):
            return
        for thread in self._threads:
            try:
                os.sched_setaffinity(thread, allowed - {here})
            except OSError:  # it ended, or a sandbox forbids it
                return


@cache
def _system() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _processor() -> int:
    """Where this thread runs; -1: not known."""
    try:
        return int(_system().sched_getcpu())
    except (AttributeError, OSError):
        return -1
