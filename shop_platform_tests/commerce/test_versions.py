"""A property: whatever versions of a source are loaded, and whatever others do in between, the tables are right."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop_platform.commerce.loading import Load, load_shop_tables, rows_in_table
from shop_platform.quarantine import rows_in_quarantine
from shop_platform.resources.postgres import Connection, PostgresResource

from .lists import NOON, ListSource, Row, event, product, shop_of, user

Rows = dict[int, tuple[object, ...]]

USERS, PRODUCTS = ("u1", "u2", "u3"), ("p1", "p2")

EVENTS = st.builds(
    event,
    st.sampled_from(USERS),
    st.sampled_from(PRODUCTS),
    st.sampled_from(["viewed", "purchased"]),
    st.integers(0, 1),
)


@st.composite
def versions(draw: st.DrawFn) -> ListSource:
    """What a source may hold at some time: any users, products and events of them, and some rows that are wrong."""
    users = [user(each, name=draw(st.sampled_from(["Ada", "Bea"]))) for each in USERS if draw(st.booleans())]
    products = [product(each, draw(st.sampled_from(["1.00", "2.00"]))) for each in PRODUCTS if draw(st.booleans())]
    known = {row["user_id"] for row in users}, {row["product_id"] for row in products}
    good, bad = [], []
    for row in draw(st.lists(EVENTS, max_size=10)):
        (good if row["user_id"] in known[0] and row["product_id"] in known[1] else bad).append(row)
    return ListSource(users, products, good, {"on purpose": draw(st.integers(0, 2))}, {"unknown": bad} if bad else {})


STEPS = st.one_of(
    versions(),
    EVENTS,  # somebody adds it, where its user and product are there
    st.tuples(st.just("user"), st.integers(0, 3)),  # somebody adds a user of their own
    st.tuples(st.just("delete"), st.integers(0, 9)),  # somebody deletes an event
)


# Each example undoes what it did.
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=9), versions())
def test_tables_hold_what_the_source_gives_and_what_others_added_whatever_came_before(
    postgres: PostgresResource, steps: list[Any], last: ListSource
) -> None:
    theirs: set[int] = set()
    their_users: set[str] = set()
    with postgres.connect() as connection, connection.transaction(force_rollback=True):
        for number, step in enumerate([*steps, last]):
            before = rows_of(connection)
            if isinstance(step, ListSource):
                step.version = str(number)
                loads = load_shop_tables(connection, shop_of(step, quarantine_at_most=1))
                after = rows_of(connection)
                ours = {each: row for each, row in after.items() if each not in theirs}
                assert {each: after.get(each) for each in theirs} == {each: before[each] for each in theirs}
                assert Counter(ours.values()) == Counter(tuple(row.values()) for row in step.event_rows)
                stay_where_they_can({each: before[each] for each in before.keys() - theirs}, ours)
                hold_what_they_should(connection, step, loads, {after[each][0] for each in theirs}, their_users)
            elif isinstance(step, dict):
                theirs |= add_if_possible(connection, step)
            elif step[0] == "user":
                name = f"theirs{step[1]}"
                connection.execute("INSERT INTO users VALUES (%s, %s) ON CONFLICT DO NOTHING", [name, NOON])
                their_users.add(name)
            else:
                gone = sorted(before)[step[1] : step[1] + 1]
                connection.execute("DELETE FROM events WHERE event_id = ANY(%s)", [gone])
                theirs -= set(gone)


def stay_where_they_can(before: Rows, after: Rows) -> None:
    """Of equal events of the source, as many as can keep their ids do so."""
    stayed = Counter(row for each, row in after.items() if each in before)
    assert stayed == Counter(before.values()) & Counter(after.values())


def hold_what_they_should(
    connection: Connection, source: ListSource, loads: dict[str, Load], needed: set[object], their_users: set[str]
) -> None:
    assert all(each.adds_up for each in loads.values())
    assert rows_in_quarantine(connection, "events") == sum(loads["events"].quarantined.values())
    users = dict(connection.execute("SELECT user_id, name FROM users").fetchall())
    wanted = {row["user_id"]: row["name"] for row in source.user_rows} | dict.fromkeys(their_users)
    # Users who are gone stay for the sake of others' events, and for nothing else.
    assert users.keys() == wanted.keys() | needed
    assert {name: users[name] for name in wanted} == wanted
    assert loads["users"].kept == len(users) - len(wanted)
    assert rows_in_table(connection, "products") == loads["products"].rows_loaded + loads["products"].kept


def rows_of(connection: Connection) -> Rows:
    rows = connection.execute("SELECT event_id, user_id, product_id, event_type, timestamp FROM events").fetchall()
    return {row[0]: row[1:] for row in rows}


def add_if_possible(connection: Connection, row: Row) -> set[int]:
    found = connection.execute(
        "INSERT INTO events (user_id, product_id, event_type, timestamp) SELECT %(user_id)s, %(product_id)s,"
        " %(event_type)s, %(timestamp)s WHERE EXISTS (SELECT FROM users WHERE user_id = %(user_id)s)"
        " AND EXISTS (SELECT FROM products WHERE product_id = %(product_id)s) RETURNING event_id",
        row,
    ).fetchall()
    return {each[0] for each in found}
