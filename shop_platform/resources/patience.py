"""How long PostgreSQL is waited for: to be there, to answer, to be heard of at all. Nothing here waits without end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import pq, sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from shop_platform.errors import ServiceError, StorageError

Value = TypeVar("Value")

#: Seconds for which a server that was there a moment ago is waited for: it restarts, or recovers from a crash.
RESTART_PATIENCE = 30.0

#: Seconds of silence that a connection which only asks puts up with, twice.
_ASKED_FOR = 5.0

#: What a URL may set otherwise. Once a network swallows everything, the system gives a connection up after a minute.
_CONNECTING = {
    "application_name": "shop_platform",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

#: The server's side of the same: it lets go of the transaction, and so of the locks, of whoever is gone.
_SESSION = {
    "client_connection_check_interval": "2s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60s",
}


class _StillStartingError(Exception):
    """The server does not take connections for now."""


class PatientConnection(psycopg.Connection[TupleRow]):
    """A connection that notices when its server is not heard of any more.

    A long statement is silent, too. So after some silence the server is asked, by a connection of its own, whether it
    still works on it. Where it does not, twice in a row, or can't be asked, the connection is given up: a reply that
    the network swallowed does not come any more.

    Attributes:
        silence: seconds without a byte before the server is asked; 0 for never.
        address: how it is reached for that; "" where it can't be.
    """

    silence: float = 0.0
    address: str = ""
    _backend: int = 0

    def prepare(self, address: str, silence: float, time_zone: str, statement_timeout: float) -> None:
        """Set the session up, in one round trip, and begin to listen for silence."""
        settings = {"TimeZone": time_zone, "statement_timeout": f"{round(statement_timeout * 1000)}"} | _SESSION
        query = sql.SQL("SELECT pg_backend_pid(), {}").format(
            sql.SQL(", ").join(
                sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in settings.items()
            )
        )
        row = self.execute(query).fetchone()
        if row is None:
            raise AssertionError("a query without FROM returns one row")
        self._backend, self.address, self.silence = row[0], address, silence

    def wait(self, gen: PQGen[Value], interval: float = 0.1, timeout: float | None = None) -> Value:
        """Wait for a statement, and look after the server meanwhile."""
        return super().wait(self._listening(gen) if self.silence else gen, interval, timeout)

    def _listening(self, gen: PQGen[Value]) -> PQGen[Value]:
        heard, missing = monotonic(), 0
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard, missing = monotonic(), 0
                elif monotonic() - heard > self.silence:
                    missing = 0 if self._at_work() else missing + 1
                    if missing > 1:
                        self.pgconn.finish()
                        raise psycopg.OperationalError(f"nothing was heard of the server for {self.silence:g} s")
                    heard = monotonic()
                wanted = gen.send(ready)
        except StopIteration as done:
            value: Value = done.value
            return value

    def _at_work(self) -> bool:
        """Whether the server says that it still works for this connection."""
        if not self.address:
            return False
        try:
            with PatientConnection.connect(self.address, autocommit=True) as other:
                other.silence = min(self.silence, _ASKED_FOR)
                # One that waits for us, while we wait for it, has missed what we sent, or we its answer.
                query = (
                    "SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
                    " AND wait_event_type IS DISTINCT FROM 'Client'"
                )
                return other.execute(query, [self._backend]).fetchone() is not None
        except psycopg.Error:
            return False


def open_connection(url: str, *, known: bool) -> tuple[PatientConnection, str]:
    """Connect, in autocommit; returns also the address with everything that was filled in.

    Args:
        url: as libpq takes it.
        known: whether the server has let us in before. Then it is asked again, after random pauses that grow, for
            `RESTART_PATIENCE`; at the first contact only one that says that it starts or ends.

    Raises:
        psycopg.Error: it can't be had.
    """
    address = make_conninfo(**(_CONNECTING | {name: str(value) for name, value in conninfo_to_dict(url).items()}))

    def attempt() -> PatientConnection:
        try:
            return PatientConnection.connect(address, autocommit=True)
        except psycopg.OperationalError as error:
            if known or pq.PGconn.ping(make_conninfo(address, connect_timeout=2).encode()) == pq.Ping.REJECT:
                raise _StillStartingError from error
            raise

    again = Retrying(
        retry=retry_if_exception_type(_StillStartingError),
        wait=wait_random_exponential(multiplier=0.1, max=3),
        stop=stop_after_delay(RESTART_PATIENCE),
        reraise=True,
    )
    try:
        return again(attempt), address
    except _StillStartingError as error:
        raise psycopg.OperationalError("the server does not take connections") from error.__cause__


@contextmanager
def naming_outages() -> Iterator[None]:
    """Say in a sentence what is wrong with a server that fails in the middle of something.

    Raises:
        ServiceError: the connection was lost, or the server ended the statement.
        StorageError: the server's disk is full, or another resource of it is used up.
    """
    try:
        yield
    except psycopg.OperationalError as error:
        if is_lost(error):
            raise ServiceError(
                f"The connection to PostgreSQL was lost ({_said(error)}). What was not committed is undone, and what "
                "was there stays: run it again once the server is back."
            ) from error
        if isinstance(error, psycopg.errors.QueryCanceled):
            raise ServiceError(
                f"PostgreSQL ended a statement ({_said(error)}). If it needs longer, raise SHOP_STATEMENT_TIMEOUT; "
                "what was there stays."
            ) from error
        if (error.sqlstate or "").startswith("53"):
            raise StorageError(
                f"PostgreSQL has run out of something ({_said(error)}). Make room, then run it again; what was there "
                "stays."
            ) from error
        raise


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, rather than the statement wrong."""
    state = error.sqlstate or ""
    lost = (
        not state or state.startswith(("08", "57P")) or state == psycopg.errors.IdleInTransactionSessionTimeout.sqlstate
    )
    return isinstance(error, psycopg.OperationalError) and lost


def _said(error: psycopg.Error) -> str:
    """The driver's own words; after a connection was made they hold no secret."""
    words: Any = error.diag.message_primary or str(error)
    return " ".join(str(words).split())
