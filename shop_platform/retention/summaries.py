"""The summaries that retention is counted from: built from the events, then kept by what changed since."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import psycopg
from psycopg.types.json import Jsonb

from shop_platform import sqlfiles
from shop_platform.errors import DataError
from shop_platform.resources.postgres import Connection
from shop_platform.retention.cells import Counts
from shop_platform.retention.definition import Definition

#: Where this many users, or this share of them, have changed, building anew is as quick as recounting them.
_REBUILD_USERS, _REBUILD_SHARE = 1_000, 0.25

#: A break-down by more values than this is a list of people, not of groups.
MOST_GROUPS = 50


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        rebuilt: why everything was built anew; None where only what changed was recounted.
        users_recounted: users who were counted from their events in this refresh.
        equal: whether the matrix from the summaries is the one counted from the events. For a rebuild in every cell;
            otherwise for the periods of a sample of users.
        compared: how many cells or users were compared.
    """

    rebuilt: str | None
    users_recounted: int
    equal: bool
    compared: int


#: Fills `recorded_hours` and `retention_users`, which are empty, from all events; returns the number of users.
Fill = Callable[[Connection, Definition], int]


def fill_from_events(connection: Connection, definition: Definition) -> int:
    """By PostgreSQL."""
    connection.execute(_text("retention/recorded_hours"))
    return connection.execute(_text("retention/build_users"), definition.parameters()).rowcount


def refresh_retention(
    connection: Connection, definition: Definition, *, rebuild: bool = False, everybody: bool = False
) -> Refreshed:
    """Take into the summaries what has changed in users, events and products, in the caller's transaction.

    Triggers note whose events came, went or changed in `ops.retention_log`. The refresh counts these users again, from
    their own events, and moves the sums by the difference: what it costs depends on them, not on the shop, as long as
    an index leads to a user's events. It runs the same SQL on these users as a rebuild on all.

    Builds anew where there is nothing to start from, by another definition or in another time zone than before, where
    rows changed without being noted one by one (a load, TRUNCATE), and where much of the shop has changed.

    Args:
        connection: in a REPEATABLE READ transaction that holds `counting.lock_matrix`.
        definition: how retention is counted.
        rebuild: build anew whatever has changed.
        everybody: compare all users with their events after a refresh, not those of some days.

    Raises:
        DataError: the break-down is by no column of users, or makes too many groups.
    """
    _begin(connection, definition)
    reason = "asked for" if rebuild else _reason_to_rebuild(connection, definition)
    done = (
        _rebuild(connection, definition, reason, fill_from_events)
        if reason
        else _apply_or_rebuild(connection, definition, "everybody" if everybody else "sample")
    )
    _require_few_groups(connection, definition)
    return done


def rebuild_retention(
    connection: Connection, definition: Definition, fill: Fill, *, rebuild: bool = False
) -> Refreshed:
    """The same by an engine that counts all users at once; does nothing where nothing has changed.

    Args:
        connection: as for `refresh_retention`.
        definition: how retention is counted.
        fill: what counts the users.
        rebuild: count also where nothing has changed.

    Raises:
        DataError: as `refresh_retention`.
    """
    _begin(connection, definition)
    reason = "asked for" if rebuild else _reason_to_rebuild(connection, definition)
    if reason is None and _one(connection, "SELECT count(*) FROM ops.retention_log") == 0:
        return Refreshed(rebuilt=None, users_recounted=0, equal=True, compared=0)
    done = _rebuild(connection, definition, reason or "events have changed", fill)
    _require_few_groups(connection, definition)
    return done


def _begin(connection: Connection, definition: Definition) -> None:
    _require_breakdown(connection, definition)
    connection.execute("SET LOCAL search_path TO public, analytics")


def _require_few_groups(connection: Connection, definition: Definition) -> None:
    groups = _one(connection, "SELECT count(DISTINCT breakdown) FROM analytics.retention_days")
    if groups > MOST_GROUPS:
        raise DataError(
            f"SHOP_RETENTION_BREAKDOWN={definition.breakdown} makes {groups:,} groups of users, and no more than "
            f"{MOST_GROUPS} can be told apart: choose a column with fewer values."
        )


def count_directly(connection: Connection, definition: Definition) -> list[Counts]:
    """The matrix by `sql/queries/cohort_retention.sql`, from the events alone; by break-down, cohort and period."""
    connection.execute("SET LOCAL search_path TO public, analytics")
    return _cells(connection, _text("queries/cohort_retention"), definition)


def count_from_summaries(connection: Connection, definition: Definition) -> list[Counts]:
    """The same from the summaries, as they are."""
    return _cells(connection, _text("queries/cohort_retention_from_summary"), definition)


def count_by_segment(connection: Connection, definition: Definition) -> list[Counts]:
    """The matrix broken down by segment, from the summaries' users, however these are broken down themselves."""
    query = _text("queries/cohort_retention", user_periods=_text("retention/segmented_users"))
    connection.execute("SET LOCAL search_path TO public, analytics")
    return _cells(connection, query, replace(definition, breakdown="segment"))


def ask_for_rebuild(connection: Connection) -> None:
    """Let the next refresh build everything anew, and the sensors see that there is something to do."""
    connection.execute("INSERT INTO ops.retention_log DEFAULT VALUES")
    connection.execute("INSERT INTO ops.event_changes (operation) VALUES ('REBUILD')")


def _reason_to_rebuild(connection: Connection, definition: Definition) -> str | None:
    row = connection.execute(
        "SELECT (SELECT definition FROM ops.retention_basis),"
        " EXISTS (SELECT FROM ops.retention_log WHERE user_id IS NULL AND product_id IS NULL),"
        " (SELECT count(DISTINCT user_id) FROM ops.retention_log),"
        " (SELECT reltuples FROM pg_class WHERE oid = 'public.users'::regclass)"
    ).fetchone()
    if row is None:
        raise AssertionError("a query without FROM returns one row")
    built_by, unnoted, touched, users = row
    if built_by is None:
        return "there were no summaries"
    if unnoted:
        return "rows changed that were not noted one by one"
    if built_by != definition.summarised():
        changed = sorted(name for name, value in definition.summarised().items() if built_by.get(name) != value)
        return f"the definition has changed: {', '.join(changed)}"
    # An estimate, -1 in a table never analysed: what it decides changes the time, not the result.
    return "much of the shop has changed" if touched > max(_REBUILD_USERS, _REBUILD_SHARE * users) else None


def _rebuild(connection: Connection, definition: Definition, reason: str, fill: Fill) -> Refreshed:
    parameters = definition.parameters()
    connection.execute(
        "DELETE FROM ops.retention_log; DELETE FROM ops.retention_basis;"
        "DELETE FROM analytics.retention_users; DELETE FROM analytics.retention_days;"
        "DELETE FROM analytics.recorded_hours"
    )
    users = fill(connection, definition)
    connection.execute(_text("retention/build_days"), parameters)
    connection.execute("INSERT INTO ops.retention_basis (definition) VALUES (%s)", [Jsonb(definition.summarised())])
    # The users' rows are new from the events: what is compared is what was made of them.
    counted = _cells(
        connection, _text("queries/cohort_retention", user_periods="TABLE analytics.retention_users"), definition
    )
    equal = counted == count_from_summaries(connection, definition)
    return Refreshed(rebuilt=reason, users_recounted=users, equal=equal, compared=len(counted))


def _apply_or_rebuild(connection: Connection, definition: Definition, whom: str) -> Refreshed:
    try:
        with connection.transaction():
            return _apply(connection, definition, whom)
    except psycopg.errors.CheckViolation:
        # More was taken away than there was: the summaries were changed by hand, or triggers were switched off.
        return _rebuild(connection, definition, "the summaries did not fit the changes noted since", fill_from_events)


def _apply(connection: Connection, definition: Definition, whom: str) -> Refreshed:
    connection.execute(
        "CREATE TEMPORARY TABLE noted (LIKE ops.retention_log) ON COMMIT DROP;"
        "WITH gone AS (DELETE FROM ops.retention_log RETURNING *) INSERT INTO noted SELECT * FROM gone;"
    )
    connection.execute(_text("retention/take_hours"))
    recounted = _count_anew(connection, definition, _text("retention/touched"))
    parameters = definition.parameters()
    connection.execute(_text("retention/take_days"), parameters)
    connection.execute(
        "DELETE FROM analytics.retention_users WHERE user_id IN (SELECT user_id FROM touched);"
        "INSERT INTO analytics.retention_users SELECT * FROM fresh;"
    )
    differing, compared = _compare(connection, definition, whom)
    return Refreshed(rebuilt=None, users_recounted=recounted, equal=not differing, compared=compared)


def _count_anew(connection: Connection, definition: Definition, who: str) -> int:
    """Count some users from their events, into the temporary table `fresh`; returns how many.

    Runs the query for all users on temporary tables that hold these users alone.

    Args:
        connection: in a transaction.
        definition: how.
        who: statement that puts their ids into the temporary table `touched`.
    """
    parameters = definition.parameters()
    connection.execute("DROP TABLE IF EXISTS pg_temp.touched, pg_temp.fresh")
    connection.execute(who, parameters)
    connection.execute(
        "ANALYZE touched;"
        "CREATE TEMPORARY TABLE users ON COMMIT DROP AS"
        " SELECT users.* FROM public.users JOIN touched USING (user_id);"
        "CREATE TEMPORARY TABLE events ON COMMIT DROP AS"
        " SELECT events.* FROM public.events JOIN touched USING (user_id);"
        "ANALYZE users, events"
    )
    connection.execute(_text("retention/count_fresh"), parameters)
    # Whatever reads these names next means the live tables.
    connection.execute("DROP TABLE pg_temp.users, pg_temp.events")
    return _one(connection, "SELECT count(*) FROM touched")


def _compare(connection: Connection, definition: Definition, whom: str) -> tuple[int, int]:
    """Of everybody or a sample: how many stand otherwise in the summaries, and how many were looked at."""
    compared = _count_anew(connection, definition, _text(f"retention/{whom}"))
    differing = _one(
        connection,
        "SELECT count(*) FROM (SELECT * FROM analytics.retention_users JOIN touched USING (user_id)"
        " EXCEPT SELECT * FROM fresh) AS others",
    )
    return differing, compared


def _require_breakdown(connection: Connection, definition: Definition) -> None:
    if definition.breakdown in ("", "category", "segment"):
        return
    columns = [
        row[0]
        for row in connection.execute(
            "SELECT attname FROM pg_attribute"
            " WHERE attrelid = 'public.users'::regclass AND attnum > 0 AND NOT attisdropped"
        )
    ]
    if definition.breakdown not in columns:
        raise DataError(
            f"SHOP_RETENTION_BREAKDOWN is {definition.breakdown}: use category, segment or a column of users, "
            f"which are {', '.join(columns)}."
        )


def _cells(connection: Connection, query: str, definition: Definition) -> list[Counts]:
    return [Counts(*row) for row in connection.execute(query, definition.parameters())]


def _text(name: str, **others: str) -> str:
    """An SQL file of ours; a line that reads `/* name */` stands for the file of that name in `sql/retention/`.

    Args:
        name: of the file, below `sql/`.
        others: what stands in place of a name instead.
    """
    text = sqlfiles.read_sql(name).text

    def part(found: re.Match[str]) -> str:
        return others.get(found[1]) or _text(f"retention/{found[1]}")

    return re.sub(r"^/\* (\w+) \*/$", part, text, flags=re.MULTILINE)


def _one(connection: Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0
