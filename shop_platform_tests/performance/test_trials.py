"""Trying a query with some indexes hidden: on the same pages, only reading, and with nothing left changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shop_platform.errors import MeasurementError
from shop_platform.performance import laboratory as lab
from shop_platform.performance.indexes import index_files
from shop_platform.performance.rounds import Rule
from shop_platform.performance.trials import Trials, Variant, sharp
from shop_platform.performance.writes import write_costs
from shop_platform.resources.postgres import PostgresResource

FILES = {file.name: file for file in index_files()}
ONE_USER = "SELECT event_type, timestamp FROM events WHERE user_id = %(user)s ORDER BY timestamp, event_type"
SHORT = Rule(warm_ups=0, least=10, most=10, seconds=0)


@pytest.fixture
def trials(random_shop: PostgresResource) -> Iterator[Trials]:
    """The three indexes on a copy of 20,000 events."""
    lab.copy_live(random_shop)
    lab.build_indexes(random_shop, {name: file.statement for name, file in FILES.items()})
    with random_shop.connect(autocommit=True) as connection:
        yield Trials(connection, frozenset(FILES), 60)


def one_user(*indexes: str) -> Variant:
    return Variant(ONE_USER, frozenset(indexes), parameters={"user": "u7"})


def copied(trials: Trials) -> list[tuple[object, ...]]:
    return trials.connection.execute(
        "SELECT relname, relfilenode, indisvalid FROM pg_class LEFT JOIN pg_index ON indexrelid = pg_class.oid"
        " WHERE relnamespace = 'lab_copy'::regnamespace ORDER BY 1"
    ).fetchall()


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_planner_sees_the_indexes_of_the_variant_and_no_other(trials: Trials, name: str) -> None:
    trials.connection.execute("SET enable_seqscan = off")
    seen = set(trials.explain("q", one_user(name)).indexes)
    assert seen == ({name} if name == "idx_events_user_time" else set())
    assert "idx_events_user_time" in trials.explain("q", one_user(*FILES)).indexes


def test_hiding_leaves_every_index_as_it_was(trials: Trials) -> None:
    before = copied(trials)
    variants = {"none": one_user(), "all": one_user(*FILES), "one": one_user("idx_events_user_time")}
    times, rows = trials.interleave("q", variants, SHORT)
    assert copied(trials) == before
    assert {name: len(seconds) for name, seconds in times.items()} == {"none": 10, "all": 10, "one": 10}
    assert rows


def test_a_query_can_only_read(trials: Trials) -> None:
    for text in (
        "WITH gone AS (DELETE FROM events RETURNING 1) SELECT count(*) FROM gone",
        "SELECT set_config('transaction_read_only', 'off', true) FROM events LIMIT 1",
    ):
        with pytest.raises(MeasurementError, match=r"permission denied for table events|read-write"):
            trials.interleave("q", {"a": Variant(text)}, SHORT)
    row = trials.connection.execute("SELECT count(*) FROM lab_copy.events").fetchone()
    assert row == (20_000,)


def test_a_query_that_takes_too_long_is_stopped_and_named(trials: Trials) -> None:
    slow = Trials(trials.connection, trials.built, seconds=1)
    with pytest.raises(MeasurementError, match=r"endless took longer than 1 s.*SHOP_QUERY_TIME_LIMIT"):
        slow.interleave("endless", {"a": Variant("SELECT count(*) FROM events AS a, events AS b, events AS c")}, SHORT)
    row = trials.connection.execute("SHOW statement_timeout").fetchone()
    assert row == ("1h",), "as SHOP_STATEMENT_TIMEOUT says, as before"


@pytest.mark.parametrize("text", ["SELECT nothing FROM events", "SELEC 1", "SELECT %(user)s FROM nowhere"])
def test_a_query_that_can_not_be_executed_is_named_with_the_reason(trials: Trials, text: str) -> None:
    with pytest.raises(MeasurementError, match="The query mine can't be executed: "):
        trials.interleave("mine", {"a": Variant(text, parameters={"user": "u1"})}, SHORT)


def test_answers_that_differ_are_refused_and_another_order_of_equal_rows_is_not(trials: Trials) -> None:
    ascending = Variant("SELECT user_id FROM events WHERE event_id < 50 ORDER BY 1")
    descending = Variant("SELECT user_id FROM events WHERE event_id < 50 ORDER BY 1 DESC")
    fewer = Variant("SELECT user_id FROM events WHERE event_id < 49 ORDER BY 1")
    assert len(trials.interleave("q", {"a": ascending, "b": descending}, SHORT)[1]) == 49
    with pytest.raises(MeasurementError, match="q gives different answers"):
        trials.interleave("q", {"a": ascending, "b": fewer}, SHORT)


def test_a_server_that_can_not_evict_is_said_so(trials: Trials) -> None:
    assert trials.cold("q", {"a": one_user()}) is None


def test_where_the_server_can_evict_each_cold_execution_follows_an_eviction(trials: Trials) -> None:
    """The embedded server lacks pg_buffercache: a function of its name tells how often it is asked."""
    asked: list[str] = []
    trials.connection.add_notice_handler(lambda notice: asked.append(notice.message_primary or ""))
    trials.connection.execute(
        "CREATE FUNCTION pg_buffercache_evict_relation(regclass) RETURNS bigint LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE NOTICE 'evicted %', $1; RETURN 1; END $$"
    )
    cold = trials.cold("q", {"a": one_user(), "b": one_user("idx_events_user_time")})
    assert cold is not None
    assert {name: len(seconds) for name, seconds in cold.items()} == {"a": 5, "b": 5}
    assert asked.count("evicted events") == 10
    assert asked.count("evicted idx_events_user_time") == 5


def test_what_writing_costs_is_measured_by_inserts_that_leave_no_row(trials: Trials) -> None:
    costs = write_costs(trials.connection, {name: file.table for name, file in FILES.items()}, SHORT)
    assert {name: (cost["rows"], len(cost["with_ms"]), len(cost["without_ms"])) for name, cost in costs.items()} == {
        "idx_events_product_type": (2_000, 10, 10),
        "idx_events_user_time": (2_000, 10, 10),
        "idx_products_category": (20, 10, 10),
    }
    assert all(time > 0 for cost in costs.values() for time in (*cost["with_ms"], *cost["without_ms"]))
    assert trials.connection.execute("SELECT count(*) FROM lab_copy.events").fetchone() == (20_000,)


@pytest.mark.parametrize(
    ("other", "enough"),
    [
        ([10.0] * 30, True),
        ([5.0, 6.0] * 15, True),  # wide, but far from the first
        ([9.0, 11.5] * 15, False),
    ],
)
def test_an_interval_is_sharp_when_it_is_narrow_or_far_from_one(other: list[float], enough: bool) -> None:
    assert sharp({"a": [10.0] * 30, "b": [10.0] * 30, "c": other}) == enough
    assert sharp({"a": [10.0] * 30})
