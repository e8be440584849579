"""Work in threads that stay."""

import os
import threading

import pytest

from export.workers import Workers


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_part_is_done_once_the_first_one_here(count):
    workers, done = Workers(), []
    for _ in range(3):
        workers.run(lambda part: done.append((part, threading.get_ident())), count)
    assert sorted(part for part, _ in done) == sorted([*range(count)] * 3)
    assert {thread for part, thread in done if part == 0} == {threading.get_ident()}


def test_what_a_part_raises_comes_back_when_all_have_ended():
    ended = []

    def work(part):
        if part == 0:
            raise ValueError("the first")
        ended.append(part)

    with pytest.raises(ValueError, match="the first"):
        Workers().run(work, 3)
    assert sorted(ended) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        Workers().run(lambda part: 1 // (1 - part), 2)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be moved on this system")
def test_the_calling_threads_processors_stay_as_they_are():
    before = os.sched_getaffinity(0)
    workers = Workers()
    for _ in range(3):
        workers.run(lambda part: None, 2)
    assert os.sched_getaffinity(0) == before
