"""Where a study lives: a journal file, a database, or a proxy in front of one."""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from search.errors import StorageError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["guarded", "hidden", "open_storage", "opened", "patiently", "quiet", "serve"]

T = TypeVar("T")

_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}


def hidden(storage: str | Path) -> str:
    """The storage as a message may name it: without a password.

    >>> hidden("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    return re.sub(r"://([^:/@]+):[^@]*@", r"://\1:***@", str(storage))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's log lines below warnings and its notes on what is experimental."""
    from optuna import logging
    from optuna.exceptions import ExperimentalWarning

    level = logging.get_verbosity()
    logging.set_verbosity(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logging.set_verbosity(level)


def open_storage(storage: str | Path) -> BaseStorage:
    """Optuna's storage of a path or an address.

    A path is a journal file, for the processes of one host.  ``sqlite:///``, ``postgresql://`` and ``mysql://`` are
    databases; ``grpc://host:port`` is a proxy that :func:`serve` runs in front of one.

    Raises:
        StorageError: it cannot be opened.
    """
    text = str(storage)
    with guarded(text), quiet():
        if text.startswith("grpc://"):
            return _proxy(text)
        if "://" in text:
            return _database(text)
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        Path(text).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(text))


@contextlib.contextmanager
def opened(storage: str | Path) -> Iterator[BaseStorage]:
    """The storage of :func:`open_storage`, whose connections are closed in the end."""
    from optuna.storages import GrpcStorageProxy, RDBStorage

    found = open_storage(storage)
    try:
        yield found
    finally:
        if isinstance(found, RDBStorage):
            with contextlib.suppress(Exception):  # of a server that is gone
                found.remove_session()
            found.engine.dispose()
        elif isinstance(found, GrpcStorageProxy):
            found.close()


def _proxy(address: str) -> BaseStorage:
    from optuna.storages import GrpcStorageProxy

    found = re.fullmatch(r"grpc://([^:/]+):(\d+)", address)
    if found is None:
        raise StorageError(f"storage {address!r} is not grpc://host:port")
    proxy = GrpcStorageProxy(host=found[1], port=int(found[2]))
    proxy.wait_server_ready(timeout=10)
    return proxy


def _database(url: str) -> BaseStorage:
    """Workers that start together all find the tables missing, and all but one fail to create them; they look again."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    scheme, rest = url.split("://", 1)
    open_it = partial(RDBStorage, f"{_DRIVERS.get(scheme, scheme)}://{rest}", engine_kwargs={"pool_pre_ping": True})
    try:
        for pause in (0.2, 0.5, 1.0, 2.0):
            try:
                return open_it()
            except SQLAlchemyError as error:
                if not re.search("already exists|unique constraint|duplicate key", str(error), re.IGNORECASE):
                    raise
                time.sleep(pause)
        return open_it()
    except ImportError as error:
        raise StorageError(
            f"storage {hidden(url)} needs a driver that is not installed ({error}): "
            f"pip install 'edgepress[search]' brings PostgreSQL's; for MySQL add pymysql"
        ) from error


@contextlib.contextmanager
def guarded(storage: str | Path) -> Iterator[None]:
    """Whatever the storage raises when it cannot be reached, as a :class:`StorageError`."""
    try:
        yield
    except _gone() as error:
        first = str(error).strip().split("\n", 1)[0]
        raise StorageError(
            f"the storage {hidden(storage)} cannot be reached: {type(error).__name__}: {first}; "
            f"once it is back, the same call goes on where this one stopped"
        ) from error


def _gone() -> tuple[type[BaseException], ...]:
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    found: list[type[BaseException]] = [OSError, StorageInternalError, sqlalchemy.exc.SQLAlchemyError]
    with contextlib.suppress(ImportError):
        import grpc  # type: ignore[import-untyped]

        found.append(grpc.RpcError)
    return tuple(found)


def patiently(act: Callable[[], T], storage: str | Path, seconds: float) -> T:
    """What ``act`` returns, tried again with growing pauses while the storage cannot be reached.

    Raises:
        StorageError: it stayed away for that long.
    """
    end, pause = time.monotonic() + seconds, 0.1
    while True:
        try:
            with guarded(storage):
                return act()
        except StorageError:
            if time.monotonic() + pause > end:
                raise
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def serve(storage: str, host: str = "localhost", port: int = 13000) -> None:
    """Run the gRPC proxy in front of a database until it is interrupted; workers use ``grpc://host:port``.

    The channel has no password and no encryption: keep it on a private network.

    Raises:
        StorageError: the database cannot be reached, or is a journal file, which Optuna's proxy does not support.
    """
    from optuna.storages import get_storage, run_grpc_proxy_server

    if "://" not in storage:
        raise StorageError(
            f"the proxy needs a database, found the journal file {storage}: give postgresql:// or another"
        )
    with quiet():
        run_grpc_proxy_server(get_storage(open_storage(storage)), host=host, port=port)
