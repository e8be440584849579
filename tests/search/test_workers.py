"""Several processes on one study, and one that is killed."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna.storages import GrpcStorageProxy, get_storage

from search import attributes, samplers
from search.errors import SearchError, StorageError
from search.ledger import Ledger
from search.owner import own_name
from search.samplers import Setting
from search.space import Knob, Space
from search.storage import open_storage, quiet, serve
from search.study import Budget, Conduct, Plan, join, load, run


def test_two_processes_share_a_journal_and_measure_nothing_twice(workers, tmp_path):
    storage = tmp_path / "study.journal"
    first = workers.start(storage, 12, 0.1)
    workers.until(lambda: workers.lines("started"))
    second = workers.start(storage, 12, 0.1, "random", "join")
    workers.end(first, second)
    workers.check(storage)
    assert len({line.split()[0] for line in workers.lines("started")}) == 2


def test_a_killed_worker_loses_nothing_and_nothing_counts_twice(workers, tmp_path):
    storage = tmp_path / "study.journal"
    victim = workers.start(storage, 12, 0.3)
    workers.until(lambda: len(workers.lines("started")) == 2)
    survivor = workers.start(storage, 12, 0.05)
    workers.until(lambda: len(workers.lines("started")) > len(workers.lines("ended")) + 1)
    os.kill(victim.pid, signal.SIGKILL)
    workers.end(survivor)
    workers.check(storage)


def test_a_resumed_run_goes_on_where_the_killed_one_stopped(workers, tmp_path):
    storage = tmp_path / "study.journal"
    victim = workers.start(storage, 12, 0.1, "grid")
    workers.until(lambda: (len(workers.lines("started")), len(workers.lines("ended"))) == (4, 3))
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    before = len(load("workers", storage).trials)
    workers.end(workers.start(storage, 12, 0.0, "grid"))
    assert before >= 2
    assert len(workers.check(storage).trials) == 12


def test_a_worker_of_another_host_is_noticed_by_its_silence(tmp_path):
    """Its owner's name says nothing here, so the heartbeat that stands still has to."""
    space = Space((Knob("a", (1, 2, 3)),))
    plan = Plan(space, sampler="grid")
    with quiet():
        study = attributes.create(plan, open_storage(tmp_path / "search.journal"), "here")
        study.sampler = samplers.make("grid", Setting(space))
        lost = study.ask(space.distributions())
        lost.set_user_attr("owner", "elsewhere/1/2 17 99")
    start = time.monotonic()
    conduct = Conduct(beat_seconds=0.1, stale_seconds=0.5)
    outcome = run(plan, lambda c: {"score": float(c["a"])}, Budget(), tmp_path, conduct=conduct)
    assert time.monotonic() - start > 0.5
    assert [t.candidate["a"] for t in outcome.measured] == [2, 3, 1]


def test_a_candidate_that_kills_its_workers_is_given_up_after_one_more_try(tmp_path):
    space = Space((Knob("a", (1, 2, 3)),))
    plan = Plan(space, sampler="grid")
    host, _, _ = own_name().rsplit(" ", 2)
    with quiet():
        study = attributes.create(plan, open_storage(tmp_path / "search.journal"), "here")
        study.sampler = samplers.make("grid", Setting(space))
        for _ in range(2):
            study.ask(space.distributions()).set_user_attr("owner", f"{host} 999999999 1")
            Ledger(study, space, Conduct()).look()
    outcome = run(plan, lambda c: {"score": float(c["a"])}, Budget(), tmp_path)
    assert {t.candidate["a"]: t.reason for t in outcome.trials} == {1: "its worker died 2 times", 2: None, 3: None}


def test_joining_needs_a_study(tmp_path):
    with pytest.raises(SearchError, match=r"no study 'absent' in .*, which holds"):
        join("absent", lambda c: {}, Budget(), tmp_path, tmp_path / "x.journal")


def test_joining_needs_the_predicate(tmp_path):
    space = Space((Knob("a", (1, 2, 3)),), lambda c: c["a"] != 2)
    run(Plan(space), lambda c: {"score": 1.0}, Budget(trials=1), tmp_path)
    with pytest.raises(SearchError, match="give the predicate"):
        join("search", lambda c: {"score": 1.0}, Budget(), tmp_path, tmp_path / "search.journal")
    outcome = join(
        "search", lambda c: {"score": 1.0}, Budget(), tmp_path, tmp_path / "search.journal", lambda c: c["a"] != 2
    )
    assert len(outcome.trials) == 2


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("grpc://nowhere", "is not grpc://host:port"),
        ("grpc://localhost:1", "cannot be reached"),
        ("postgresql://me:secret@localhost:1/db", r"postgresql://me:\*\*\*@localhost:1/db cannot be reached"),
        ("nonsense://x", "cannot be reached|needs a driver"),
    ],
)
def test_a_storage_that_is_not_there_is_named_without_its_password(storage, message, impatient):
    with pytest.raises(StorageError, match=message):
        open_storage(storage)


@pytest.fixture
def impatient(monkeypatch):
    """The proxy's server is waited for 0.3 s instead of 10."""
    wait = GrpcStorageProxy.wait_server_ready
    monkeypatch.setattr(GrpcStorageProxy, "wait_server_ready", lambda self, timeout: wait(self, 0.3))


def test_a_grpc_proxy_stands_in_front_of_a_database(tmp_path, impatient):
    """The server as threads of this process; the study by way of grpc://."""
    from optuna.storages._grpc.server import make_server

    with quiet():
        opened = get_storage(open_storage(f"sqlite:///{tmp_path}/db.sqlite"))
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    server = make_server(opened, "localhost", port, ThreadPoolExecutor(4))
    server.start()
    try:
        space, address = Space((Knob("a", (1, 2, 3)),)), f"grpc://localhost:{port}"
        outcome = run(Plan(space), lambda c: {"score": float(c["a"])}, Budget(), tmp_path, address)
        assert outcome.best.candidate["a"] == 3
        assert len(load("search", address).trials) == 3
    finally:
        server.stop(None).wait()
    with pytest.raises(StorageError, match="cannot be reached"):
        load("search", address)


def test_the_proxy_refuses_a_journal_file(tmp_path):
    with pytest.raises(StorageError, match="needs a database, found the journal file"):
        serve(str(tmp_path / "study.journal"))
