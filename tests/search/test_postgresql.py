"""Two workers on a real PostgreSQL server, one of which is killed."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from search.errors import StorageError
from search.space import Knob, Space
from search.storage import open_storage
from search.study import Budget, Conduct, Plan, load, run


def _binaries():
    """The folder of initdb and pg_ctl."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which("pg_ctl")
    folders += [Path(found).resolve().parent] if found else []
    return next((f for f in folders if (f / "pg_ctl").exists() and (f / "initdb").exists()), None)


class Server:
    """A server of its own in a folder of its own; PostgreSQL refuses root, so root hands it to nobody."""

    def __init__(self, binaries, folder):
        self._binaries, self._folder = binaries, folder
        self._as = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam("nobody")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            self._as = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            self.port = probe.getsockname()[1]
        self._call("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "edge", "--no-sync")

    @property
    def url(self):
        return f"postgresql://edge@localhost:{self.port}/postgres"

    def _call(self, program, *arguments):
        command = [*self._as, str(self._binaries / program), *arguments]
        log = self._folder / "call.log"
        with log.open("wb") as file:  # a pipe would be held open by the server
            done = subprocess.run(command, stdout=file, stderr=file, cwd=self._folder, timeout=60, check=False)
        assert done.returncode == 0, log.read_text()

    def start(self):
        options = f"-p {self.port} -c unix_socket_directories={self._folder} -c fsync=off -c listen_addresses=localhost"
        self._call(
            "pg_ctl", "-D", f"{self._folder}/data", "-w", "-l", f"{self._folder}/server.log", "-o", options, "start"
        )

    def stop(self):
        self._call("pg_ctl", "-D", f"{self._folder}/data", "-m", "immediate", "-w", "stop")


@pytest.fixture
def server():
    binaries = _binaries()
    if binaries is None:
        pytest.skip(
            "no PostgreSQL server here: initdb and pg_ctl are in no /usr/lib/postgresql/*/bin and not on the path"
        )
    folder = Path(tempfile.mkdtemp(prefix="edgepress-pg-", dir="/tmp"))
    found = Server(binaries, folder)
    found.start()
    yield found
    if (folder / "data/postmaster.pid").exists():
        found.stop()
    shutil.rmtree(folder)


def test_a_worker_killed_in_a_trial_loses_nothing_and_nothing_counts_twice(workers, server):
    victim = workers.start(server.url, 12, 0.8)
    workers.until(lambda: len(workers.lines("started")) == 1, 60)
    survivor = workers.start(server.url, 12, 0.1)
    other = workers.start(server.url, 12, 0.1)
    workers.until(lambda: len({line.split()[0] for line in workers.lines("ended")}) >= 2, 60)
    workers.until(lambda: _in_a_trial(workers, victim.pid), 60)
    os.kill(victim.pid, signal.SIGKILL)
    workers.end(survivor, other)
    outcome = workers.check(server.url)
    assert dict(outcome.best.candidate) == {"a": 5, "b": "y"}


def test_workers_that_start_together_on_an_empty_database_all_work(workers, server):
    workers.end(*[workers.start(server.url, 12, 0.05, "grid") for _ in range(4)])
    workers.check(server.url)


def _in_a_trial(workers, pid):
    mine = [sum(line.startswith(f"{pid} ") for line in workers.lines(name)) for name in ("started", "ended")]
    return mine[0] > mine[1]


def test_a_server_that_stops_in_between_loses_nothing(server, tmp_path):
    space = Space((Knob("a", tuple(range(6))),))
    plan, conduct = Plan(space, sampler="grid"), Conduct(patience_seconds=1.0)

    def evaluate(candidate):
        if candidate["a"] == 3 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            server.stop()
        return {"score": float(candidate["a"])}

    with pytest.raises(StorageError, match="cannot be reached") as error:
        run(plan, evaluate, Budget(), tmp_path, server.url, conduct=conduct)
    assert [t.candidate["a"] for t in error.value.measured] == [0, 1, 2, 3]
    with pytest.raises(StorageError, match="cannot be reached"):
        open_storage(server.url)
    server.start()
    again = []
    outcome = run(plan, lambda c: again.append(c["a"]) or {"score": float(c["a"])}, Budget(), tmp_path, server.url)
    assert again == [4, 5]
    assert load("search", server.url).trials == outcome.trials
    assert sorted(t.candidate["a"] for t in outcome.measured) == [0, 1, 2, 3, 4, 5]
