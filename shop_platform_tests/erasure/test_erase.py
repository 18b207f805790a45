"""`shop-platform erase` on a small shop: all of a person goes, nobody else's, and no load brings them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch
from rich.console import Console

from shop_platform import automation
from shop_platform.cli import run
from shop_platform.definitions import build_defs
from shop_platform.demo import materialise
from shop_platform.engines.lake import Lake
from shop_platform.performance.laboratory import COPY, LABORATORY_LOCK, create_schema
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.runs import Outcome
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import Settings
from shop_platform.sources.pseudonyms import Pseudonymised
from shop_platform_tests.engines.test_export import export
from shop_platform_tests.small import SMALL, remove_demo_indexes

USER, MAIL = "u0003", "somebody.to.forget@example.org"


@pytest.fixture(scope="module")
def shop(
    server_settings: Settings, elasticsearch_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A small shop of which everything but measurements was made, in this process's environment."""
    home = tmp_path_factory.mktemp("forgetful_shop")
    environment = {
        **SMALL,
        "DATABASE_URL": postgres_service.url(server_settings, "forgetful_shop"),
        "ELASTICSEARCH_URL": elasticsearch_url,
        "SHOP_HOME": str(home), "DAGSTER_HOME": str(home / "shops" / "shop" / "dagster"),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert not make().failures
        yield environment
    with Elasticsearch(elasticsearch_url) as client:
        remove_demo_indexes(client)


@pytest.fixture
def client(shop: dict[str, str]) -> Iterator[Elasticsearch]:
    with Elasticsearch(shop["ELASTICSEARCH_URL"]) as made:
        yield made


def make() -> Outcome:
    """Everything but the measurements."""
    defs = build_defs()
    keys = [key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys]
    return materialise(Console(quiet=True), defs, [key for key in keys if key not in automation.LABORATORY])


def ask(shop: dict[str, str], query: str, *values: object) -> list[Any]:
    with closing(psycopg.connect(shop["DATABASE_URL"], autocommit=True)) as connection:
        cursor = connection.execute(query, values)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def everybody_else(shop: dict[str, str], client: Elasticsearch) -> list[object]:
    """All rows and documents of other people."""
    found = client.search(index="user_logs", size=2_000, query={"bool": {"must_not": {"term": {"user_id": USER}}}})
    return [
        ask(shop, "SELECT * FROM users WHERE user_id <> %s ORDER BY 1", USER),
        ask(shop, "SELECT * FROM events WHERE user_id <> %s ORDER BY 1", USER),
        sorted((hit["_id"], hit["_source"]["search_query"]) for hit in found["hits"]["hits"]),
    ]


def leave_traces(shop: dict[str, str], client: Elasticsearch) -> None:
    """What others add of a person: an address, events, a search, quarantined rows; and a copy that was left behind."""
    ask(shop, "UPDATE users SET email = %s WHERE user_id = %s", MAIL, USER)
    ask(
        shop,
        "INSERT INTO events (user_id, product_id, event_type, timestamp) SELECT %s, 'p01', 'viewed', now()",
        USER,
    )
    for row in ({"user": USER}, {"line": f"x,{MAIL},y"}, {"user": "u0004"}):
        text = json.dumps(row)
        ask(shop, "INSERT INTO ops.quarantine (table_name, reason, row) VALUES ('events', 'odd', %s)", text)
    with psycopg.connect(shop["DATABASE_URL"]) as connection:
        create_schema(connection, COPY)
        connection.execute("CREATE TABLE lab_copy.users AS TABLE users")
    own = {"user_id": USER, "search_query": "a query that nobody else has made", "timestamp": "2025-12-01T00:00:00Z"}
    client.index(index="user_logs", document=own, refresh=True)


@pytest.mark.fault
def test_the_person_goes_and_nobody_else_and_no_load_brings_them_back(
    shop: dict[str, str], client: Elasticsearch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    leave_traces(shop, client)
    make()
    before = everybody_else(shop, client)
    events = ask(shop, "SELECT count(*) FROM events WHERE user_id = %s", USER)[0][0]
    logs = client.count(index="user_logs", query={"term": {"user_id": USER}})["count"]
    unique = {"match_phrase": {"query": "a query that nobody else has made"}}
    assert client.count(index="search_embeddings", query=unique)["count"] == 1

    # A copy for Spark, from before the engine was changed back.
    export(PostgresResource(), Lake(str(tmp_path / "lake")))
    assert list(tmp_path.rglob("*.parquet"))

    capsys.readouterr()
    assert run(["erase", USER, "--yes", "--json"]) == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert ask(shop, "SELECT (SELECT count(*) FROM ops.exports), (SELECT count(*) FROM ops.export_log)") == [(0, 0)]
    told = json.loads(capsys.readouterr().out)
    assert told["removed"]["events"] == events
    assert told["removed"]["user_logs"] == logs
    assert told["removed"]["ops.quarantine"] == 2
    assert told["found"] == {}
    assert told["files_by"] == ["id", "mail address"]
    assert everybody_else(shop, client) == before
    for table in ("users", "events", "analytics.user_segments", "analytics.user_queries", "analytics.retention_users",
                  "analytics.weekly_activity", "truth.users", "ops.event_log", "ops.retention_log"):  # fmt: skip
        assert ask(shop, f"SELECT count(*) FROM {table} WHERE user_id = %s", USER) == [(0,)], table  # noqa: S608
    assert client.count(index="user_logs", query={"term": {"user_id": USER}})["count"] == 0
    assert client.count(index="search_embeddings", query=unique)["count"] == 0
    # The record of it holds nothing of the person.
    (record,) = ask(shop, "SELECT digest, mail, removed::text FROM ops.erasures")
    assert len(record[0]) == len(record[1]) == 32
    assert USER not in record[2]

    # Loaded again as it was, and as another version of the source, which gives the same people.
    assert not make().failures
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_EVENTS", "4100")
        outcome = make()
    assert not [each.what for each in outcome.failures + outcome.warnings if "match_source" in each.what]
    assert ask(shop, "SELECT count(*) FROM users") == [(119,)]
    assert ask(shop, "SELECT count(*) FROM events WHERE user_id = %s", USER) == [(0,)]
    assert client.count(index="user_logs", query={"term": {"user_id": USER}})["count"] == 0
    left_out = ask(shop, "SELECT left_out FROM ops.loads WHERE table_name = 'users'")
    assert left_out == [({"of somebody who was erased": 1},)]

    # Once more: nothing to remove, and nothing is found.
    assert run(["erase", USER, "--yes"]) == 0
    assert "Nothing is left." in capsys.readouterr().out


def test_what_is_left_elsewhere_is_named(
    shop: dict[str, str], client: Elasticsearch, capsys: pytest.CaptureFixture[str]
) -> None:
    note = Path(shop["SHOP_HOME"]) / "shops" / "shop" / "a note.txt"
    note.write_text("To do: call u0007, soon.")
    ask(shop, "CREATE TABLE letters (whom text, body jsonb, tags text[])")
    ask(shop, """INSERT INTO letters VALUES ('u0007'), ('u00070'), (NULL)""")
    ask(shop, """INSERT INTO letters (body) VALUES ('{"to": ["u0007"]}'), ('{"to": "u00070"}')""")
    ask(shop, "INSERT INTO letters (tags) VALUES ('{u0007,x}'), ('{x}')")
    typed = {"user_id": "u0008", "search_query": "who is u0007", "timestamp": "2025-12-01T00:00:00Z"}
    client.index(index="user_logs", id="typed", document=typed, refresh=True)
    try:
        assert run(["erase", "u0007", "--yes"]) == 1
        said = capsys.readouterr()
        assert "Left: 3 in public.letters" in said.err
        assert "a note.txt" in said.err
        assert "in user_logs-" in said.err
        assert "Something is left." in said.out
    finally:
        note.unlink()
        ask(shop, "DROP TABLE letters")
        client.delete(index="user_logs", id="typed", refresh=True)
    assert run(["erase", "u0007", "--yes"]) == 0


def known(shop: dict[str, str], client: Elasticsearch, user: str) -> tuple[int, int, int]:
    (users,), (events,) = (
        ask(shop, f"SELECT count(*) FROM {table} WHERE user_id = %s", user)[0]  # noqa: S608
        for table in ("users", "events")
    )
    return users, events, client.count(index="user_logs", query={"term": {"user_id": user}})["count"]


def test_a_table_that_refers_to_the_person_stops_it_before_anything_is_removed(
    shop: dict[str, str], client: Elasticsearch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = known(shop, client, "u0005")
    ask(shop, "CREATE TABLE orders (buyer text REFERENCES users)")
    ask(shop, "INSERT INTO orders VALUES ('u0005')")
    try:
        assert run(["erase", "u0005", "--yes"]) == 3
        assert "public.orders refers to this user" in capsys.readouterr().err
        assert known(shop, client, "u0005") == before
    finally:
        ask(shop, "DROP TABLE orders")


def test_nothing_is_removed_from_postgresql_where_elasticsearch_refuses(
    shop: dict[str, str], client: Elasticsearch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = known(shop, client, "u0005")
    (index,) = client.indices.get_alias(name="user_logs").body
    client.indices.add_block(index=index, block="write")
    try:
        assert run(["erase", "u0005", "--yes"]) == 3
        assert "does not delete a search log" in capsys.readouterr().err
    finally:
        client.indices.put_settings(index=index, settings={"index.blocks.write": None})
    assert known(shop, client, "u0005") == before
    assert run(["erase", "u0005", "--yes"]) == 0
    assert known(shop, client, "u0005") == (0, 0, 0)


def test_it_waits_for_nobody_who_measures(shop: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with closing(psycopg.connect(shop["DATABASE_URL"])) as connection:
        connection.execute(f"SELECT pg_advisory_xact_lock({LABORATORY_LOCK})")
        assert run(["erase", "u0006", "--yes"]) == 3
    assert "Another run is measuring" in capsys.readouterr().err


@pytest.mark.usefixtures("shop")
def test_nobody_is_erased_by_mistake(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["erase", "U0006", "--yes"]) == 3
    assert "Nothing is known of a user U0006" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115, PTH123
    assert run(["erase", "u0006"]) == 130


def names_in(shop: dict[str, str], client: Elasticsearch) -> set[str]:
    """Whoever is known by name: in tables, in search logs, and in the text of artefacts."""
    found = {
        row[0]
        for table in ("users", "events", "analytics.user_segments", "analytics.user_queries", "truth.users")
        for row in ask(shop, f"SELECT DISTINCT user_id FROM {table}")  # noqa: S608
    }
    hits = client.search(index="user_logs", size=2_000, source=["user_id"])["hits"]["hits"]
    return found | {hit["_source"]["user_id"] for hit in hits}


@pytest.mark.fault
@pytest.mark.exhaustive
def test_whoever_was_erased_stays_away_under_pseudonyms_of_any_key(
    shop: dict[str, str],
    client: Elasticsearch,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = {"u0020"}
    assert run(["erase", "u0020", "--yes"]) == 0
    everybody = [row[0] for row in ask(shop, "SELECT user_id FROM users")]
    for key in ("one key that nobody else may know", "another key that nobody else may know"):
        monkeypatch.setenv("SHOP_PSEUDONYM_KEY", key)
        assert not make().failures
        source = ShopResource().shop().source
        assert isinstance(source, Pseudonymised)
        assert names_in(shop, client) == {source.name(each) for each in everybody if each not in gone}
        # Files have no ids, and Dagster's records of earlier runs only what those showed.
        assert [path for path in Path(shop["SHOP_HOME"]).rglob("*.csv") if b"u00" in path.read_bytes()] == []
        capsys.readouterr()
        assert run(["segment", everybody[0], "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["user"] == source.name(everybody[0])
        # By the pseudonym somebody would come back with another key.
        assert run(["erase", source.name("u0021"), "--yes"]) == 3
        assert "is a pseudonym. Give the id that the source has" in capsys.readouterr().err
        if "u0021" not in gone:
            assert run(["erase", "u0021", "--yes", "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["removed"]["users"] == 1
            gone.add("u0021")
        assert source.name("u0021") not in names_in(shop, client)
