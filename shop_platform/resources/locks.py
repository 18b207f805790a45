"""One writer at a time: advisory locks of transactions, waited for with a limit, and told who holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from shop_platform.errors import BusyError
from shop_platform.settings import load_settings

if TYPE_CHECKING:
    from shop_platform.resources.postgres import Connection

_HOLDER = """
    SELECT a.pid, coalesce(nullif(a.application_name, ''), 'somebody'), round(extract(epoch FROM now() - a.xact_start))
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.classid::bigint = %(key)s::bigint >> 32 AND l.objid::bigint = %(key)s::bigint & 4294967295
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def be_the_only_one(connection: Connection, key: int, what: str, patience: float | None = None) -> None:
    """Hold a lock until the caller's transaction ends, however that ends: a process that is killed holds nothing.

    Waits while somebody else has it, for as long as `SHOP_WAIT_FOR_RUN` says.

    Args:
        connection: in a transaction.
        key: of the lock.
        what: only one does at a time, to be told to whoever can't.
        patience: seconds to wait, where it is another time.

    Raises:
        BusyError: somebody else held it all the while.
    """
    seconds = load_settings().wait_for_run if patience is None else patience
    before = connection.execute("SELECT current_setting('lock_timeout')").fetchone()
    try:
        # A savepoint, so that the transaction can still ask who holds it.
        with connection.transaction():
            # 0 would mean for ever.
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [str(max(1, round(seconds * 1000)))])
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [key])
            connection.execute("SELECT set_config('lock_timeout', %s, true)", before)
    except psycopg.errors.LockNotAvailable as error:
        raise BusyError(
            f"Another run is {what}{_holder(connection, key)}, and was waited for {seconds:.0f} s. Try again when it "
            "has ended, or end it."
        ) from error


def _holder(connection: Connection, key: int) -> str:
    row = connection.execute(_HOLDER, {"key": key}).fetchone()
    return "" if row is None else f" ({row[1]}, session {row[0]} of PostgreSQL, for {row[2] or 0} s)"
