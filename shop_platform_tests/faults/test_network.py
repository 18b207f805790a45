"""Slow and broken networks between the platform and its servers: the run completes, or ends with a named error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import numpy as np
import pyarrow as pa
import pytest

from shop_platform.commerce.loading import load_or_refuse
from shop_platform.errors import ServiceError
from shop_platform.resources.elasticsearch import ElasticsearchResource, create_index, once, write_bulk
from shop_platform.resources.postgres import PostgresResource
from shop_platform.settings import load_settings
from shop_platform.sources.base import Extract

from ..commerce.lists import ListSource, product, shop_of, user
from ..segmentation.conftest import SEARCHES, LogSource, documents, load, search
from ..services.ports import closed_port
from .proxy import Proxy
from .shops import shop_of_events, tables

EVENTS = 20_000

#: Bytes after which a load of so many events is in the middle of its rows.
MIDDLE = 600_000


@pytest.fixture
def loaded(postgres: PostgresResource) -> dict[str, tuple[int, str]]:
    """What the tables hold after a first load, past any proxy."""
    load_or_refuse(postgres, shop_of_events(100, "old"))
    return tables(postgres)


# ------------------------------------------------------------------------------------------------------ PostgreSQL


def test_a_load_whose_connection_is_cut_changes_nothing_and_the_next_one_does(
    postgres: PostgresResource, loaded: dict[str, tuple[int, str]], database_proxy: Proxy
) -> None:
    database_proxy.cut_after(MIDDLE)
    with pytest.raises(ServiceError, match="The connection to PostgreSQL was lost"):
        load_or_refuse(postgres, shop_of_events(EVENTS, "new"))
    assert tables(postgres) == loaded
    assert load_or_refuse(postgres, shop_of_events(EVENTS, "new"))["events"].rows_loaded == EVENTS
    assert tables(postgres)["events"][0] == EVENTS


@pytest.mark.parametrize("new", [False, True], ids=["this connection", "every connection"])
def test_a_network_that_swallows_everything_in_the_middle_of_a_load_is_not_waited_for_without_end(
    postgres: PostgresResource,
    loaded: dict[str, tuple[int, str]],
    database_proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    new: bool,
) -> None:
    monkeypatch.setenv("SHOP_SILENCE", "0.5")
    # In seconds, and not less than two by libpq.
    monkeypatch.setenv("DATABASE_URL", f"{postgres.url()} connect_timeout=2")
    postgres.migrate()
    database_proxy.swallow_after(MIDDLE, new=new)
    with pytest.raises(ServiceError, match="nothing was heard of the server"):
        load_or_refuse(postgres, shop_of_events(EVENTS, "new"))
    database_proxy.cut()
    database_proxy.heal()
    assert tables(postgres) == loaded


def test_an_answer_that_never_comes_is_given_up(
    postgres: PostgresResource, database_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_SILENCE", "0.5")

    def ask() -> None:
        with postgres.connect() as connection:
            connection.execute("SELECT 1")
            database_proxy.swallow(new=False)
            connection.execute("SELECT 1")

    with pytest.raises(ServiceError, match="nothing was heard of the server"):
        ask()


def test_a_long_statement_is_silent_and_yet_not_given_up(
    postgres: PostgresResource, database_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_SILENCE", "0.2")
    before = database_proxy.accepted
    with postgres.connect() as connection:
        assert connection.execute("SELECT 'slept' FROM pg_sleep(2)").fetchone() == ("slept",)
    # It was asked about, more than once.
    assert database_proxy.accepted > before + 2


def test_a_statement_that_takes_too_long_is_ended_by_its_setting(
    postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_STATEMENT_TIMEOUT", "1")
    with (
        pytest.raises(ServiceError, match=r"statement timeout.*SHOP_STATEMENT_TIMEOUT"),
        postgres.connect() as connection,
    ):
        connection.execute("SELECT pg_sleep(60)")


def test_a_server_that_has_let_us_in_is_asked_again_after_resets(
    postgres: PostgresResource, database_proxy: Proxy
) -> None:
    postgres.migrate()
    database_proxy.resets = 3
    with postgres.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert database_proxy.resets == 0


def test_a_server_that_was_never_reached_is_an_error_at_once(database_proxy: Proxy) -> None:
    database_proxy.resets = 1_000
    with pytest.raises(ServiceError, match="cannot be reached"), PostgresResource().connect():
        pass
    # Asked twice: by the connection, and whether it says that it starts. While libpq asks the latter, no other thread
    # of this process runs, and the proxy counts it afterwards.
    late = monotonic() + 10
    while database_proxy.accepted < 2 and monotonic() < late:
        sleep(0.01)
    assert database_proxy.accepted == 2


def test_a_slow_network_gives_the_same_rows(postgres: PostgresResource, database_proxy: Proxy) -> None:
    database_proxy.delay = 0.005
    load_or_refuse(postgres, shop_of_events(500, "new"))
    slow = tables(postgres)
    database_proxy.heal()
    load_or_refuse(postgres, shop_of_events(500, "new"))
    assert tables(postgres) == slow


def numbered(rows: int, at_a_time: int, given: Callable[[int], object]) -> Iterator[pa.RecordBatch]:
    """Events of one user, made when they are asked for; tells how many were given before each batch."""
    for first in range(0, rows, at_a_time):
        given(first)
        numbers = np.arange(first, first + at_a_time)
        times = pa.array(numbers + 1_743_510_600_000_000, pa.timestamp("us", "UTC"))
        texts = {name: pa.array([value] * at_a_time) for name, value in TEXTS.items()}
        yield pa.RecordBatch.from_pydict({"event_id": pa.array(numbers + 1), "timestamp": times, **texts})


TEXTS = {"user_id": "u0", "product_id": "p0", "event_type": "viewed"}


class Lazy(ListSource):
    """Many events, of which no more are made than are asked for."""

    given: Callable[[int], object]

    def events(self) -> Extract:
        return Extract(numbered(MANY_EVENTS, 5_000, self.given), MANY_EVENTS)


MANY_EVENTS = 500_000


class Ahead:
    """How many bytes a source was read ahead of what the network had carried."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._seen: list[tuple[int, int]] = []

    def given(self, rows: int) -> None:
        """Note that so many rows were given."""
        self._seen.append((rows, self._proxy.sent))

    def most(self, rows: int) -> tuple[float, int]:
        """The most bytes, and all bytes; once all of so many rows have arrived."""
        began, total = self._seen[0][1], self._proxy.sent - self._seen[0][1]
        return max(given * total / rows - (sent - began) for given, sent in self._seen), total


@pytest.mark.parametrize("delay", [0, 0.01], ids=["fast", "slow"])
def test_events_are_read_no_faster_than_the_network_takes_them(
    postgres: PostgresResource, database_proxy: Proxy, delay: float
) -> None:
    # The first run of a schema carries more than rows.
    postgres.migrate()
    database_proxy.keep_little()
    database_proxy.delay = delay
    source, ahead = Lazy([user("u0")], [product("p0")], version="new"), Ahead(database_proxy)
    source.given = ahead.given
    assert load_or_refuse(postgres, shop_of(source))["events"].rows_loaded == MANY_EVENTS
    most, total = ahead.most(MANY_EVENTS)
    # What the kernel keeps of a connection, 4 MiB at most, and a batch; all of it is several times as much.
    assert total > 3 * LITTLE
    assert most < LITTLE


#: Bytes.
LITTLE = 5 * 2**20


# --------------------------------------------------------------------------------------------------- Elasticsearch

MANY = [search(query=f"query {number}") for number in range(7_000)]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is given up after a second."""
    monkeypatch.setenv("SHOP_SILENCE", "1")


@pytest.mark.parametrize("kind", ["cut", "swallowed"])
@pytest.mark.usefixtures("impatient")
def test_search_logs_arrive_once_each_though_the_network_breaks_in_the_middle(
    elasticsearch: ElasticsearchResource, search_proxy: Proxy, kind: str
) -> None:
    if kind == "cut":
        search_proxy.cut_after(MIDDLE)
    else:
        search_proxy.swallow_after(MIDDLE)
    done = load(elasticsearch, LogSource(MANY))
    assert search_proxy.sent > MIDDLE
    assert (done.documents, done.rows_loaded, done.own) == (len(MANY), len(MANY), len(MANY))


class Breaking(LogSource):
    """Gives some thousand rows, and then breaks off."""

    def searches(self) -> Extract:
        extract = super().searches()

        def batches() -> Iterator[pa.RecordBatch]:
            yield from extract.batches
            raise OSError("the disk is gone")

        return Extract(batches(), extract.rows_read)


@pytest.mark.usefixtures("impatient")
def test_a_load_that_breaks_off_takes_back_what_it_wrote_though_answers_were_lost(
    elasticsearch: ElasticsearchResource, search_proxy: Proxy
) -> None:
    load(elasticsearch, LogSource())
    before = documents(elasticsearch)
    search_proxy.swallow_after(MIDDLE)
    with pytest.raises(OSError, match="the disk is gone"):
        load(elasticsearch, Breaking(MANY, version="2"))
    assert documents(elasticsearch) == before


@pytest.mark.exhaustive
def test_elasticsearch_that_answers_nothing_is_a_named_error(
    elasticsearch: ElasticsearchResource, search_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_SILENCE", "0.2")
    search_proxy.swallow(new=True)
    with pytest.raises(ServiceError, match="Elasticsearch does not answer"), elasticsearch.client() as client:
        client.cluster.health()
    # Once, and again as often as is allowed.
    assert search_proxy.accepted == 7


def test_a_slow_node_is_sent_no_more_than_it_takes(elasticsearch: ElasticsearchResource, search_proxy: Proxy) -> None:
    alias = f"{elasticsearch.index_prefix}numbers"
    given = written = most = 0

    def actions() -> Iterator[dict[str, object]]:
        nonlocal given, most
        for number in range(30_000):
            given += 1
            most = max(most, given - written)
            yield {"_op_type": "create", "_id": str(number), "n": number}

    with elasticsearch.client() as client:
        create_index(client, f"{alias}-1", alias, {"properties": {"n": {"type": "integer"}}})
        search_proxy.delay = 0.05
        for _ in write_bulk(client, alias, actions()):
            written += 1
    assert written == 30_000
    # Two requests under way, and one that waits.
    assert most <= 3 * 2_000


class LazyLogs(LogSource):
    """Many search logs, of which no more are made than are asked for."""

    given: Callable[[int], object]

    def searches(self) -> Extract:
        def batches() -> Iterator[pa.RecordBatch]:
            for first in range(0, MANY_LOGS, 1_000):
                self.given(first)
                rows = [search(query=f"query {number}") for number in range(first, first + 1_000)]
                yield pa.RecordBatch.from_pylist(rows, schema=SEARCHES)

        return Extract(batches(), MANY_LOGS)


MANY_LOGS = 30_000


def test_search_logs_are_read_no_faster_than_a_slow_network_takes_them(
    elasticsearch: ElasticsearchResource, search_proxy: Proxy
) -> None:
    search_proxy.keep_little()
    search_proxy.delay = 0.02
    source, ahead = LazyLogs(), Ahead(search_proxy)
    source.given = ahead.given
    assert load(elasticsearch, source).rows_loaded == MANY_LOGS
    most, total = ahead.most(MANY_LOGS)
    # Two requests under way, one that waits, and a batch of the source.
    assert most * MANY_LOGS / total < 3 * 2_000 + 1_000 + 1_000


def test_requests_that_a_full_node_turns_away_come_again_later(elasticsearch: ElasticsearchResource) -> None:
    alias = f"{elasticsearch.index_prefix}numbers"
    actions = [{"_op_type": "create", "_id": str(number), "n": number} for number in range(4_500)]
    with elasticsearch.client() as client:
        create_index(client, f"{alias}-1", alias, {"properties": {"n": {"type": "integer"}}})
        full = {"index.blocks.read_only_allow_delete": True}
        client.indices.put_settings(index=alias, settings=full)
        room = threading.Timer(0.5, lambda: client.indices.put_settings(index=alias, settings=dict.fromkeys(full)))
        room.start()
        written = list(write_bulk(client, alias, actions, backoff=0.1))
        room.join()
        client.indices.refresh(index=alias)
        assert client.count(index=alias)["count"] == len(actions)
    assert {each.status for each in written} == {201}
    assert [each.id for each in written] == [str(number) for number in range(4_500)]


def test_what_must_not_be_made_twice_goes_to_another_node_where_one_cannot_be_reached(
    elasticsearch: ElasticsearchResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = load_settings().elasticsearch_url
    assert real is not None
    names = [f"{elasticsearch.index_prefix}once_{number}" for number in range(10)]
    with closed_port() as port:
        monkeypatch.setenv("ELASTICSEARCH_URL", f"http://127.0.0.1:{port},{real.get_secret_value()}")
        # Each client draws which node it takes first.
        for name in names:
            with elasticsearch.client() as client:
                once(client, lambda client, name=name: client.indices.create(index=name))
    with elasticsearch.client() as client:
        assert sorted(client.indices.get(index=f"{elasticsearch.index_prefix}once_*")) == names


def test_what_must_not_be_made_twice_is_not_where_its_answer_is_lost(
    elasticsearch: ElasticsearchResource, search_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two nodes, for all that the client knows.
    nodes = f"http://127.0.0.1:{search_proxy.port},http://localhost:{search_proxy.port}"
    monkeypatch.setenv("ELASTICSEARCH_URL", nodes)
    search_proxy.cut_after(1)
    with pytest.raises(ServiceError, match="does not answer"), elasticsearch.client() as client:
        once(client, lambda client: client.indices.create(index=f"{elasticsearch.index_prefix}once"))
    assert search_proxy.accepted == 1
