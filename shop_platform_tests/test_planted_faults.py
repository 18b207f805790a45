"""A fault in the data turns one check red, and that one alone; the command fails by it, and one alert is posted.

Each fault is planted into the real servers and files and taken away again. Every check has one: see `PARTS`.
"""

# ruff: noqa: S608  what the statements are put together from stands here

from __future__ import annotations

import io
import os
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from elasticsearch import Elasticsearch, helpers
from rich.console import Console

from shop_platform.automation import LABORATORY
from shop_platform.definitions import build_defs, default_resources
from shop_platform.demo import conclude, materialise
from shop_platform.runs import dagster_instance
from shop_platform.segmentation.segments import load_segments
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import Settings, load_settings

from .small import shop_after_demo
from .test_alerts import Webhook


@dataclass
class World:
    """The small shop, where faults are planted.

    Attributes:
        url: of its database.
        client: of its Elasticsearch.
        folder: with its artefacts.
        scratch: an empty folder.
        patch: for settings.
        defs: its definitions.
        said: what the command has said.
    """

    url: str
    client: Elasticsearch
    folder: Path
    scratch: Path
    patch: pytest.MonkeyPatch
    defs: dg.Definitions = field(default_factory=build_defs)
    said: io.StringIO = field(default_factory=io.StringIO)

    def execute(self, statement: str) -> None:
        """Execute SQL."""
        with psycopg.connect(self.url) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def make(self, assets: tuple[str, ...]) -> tuple[list[str], int]:
        """Make assets as the command does; what did not pass, and the exit code."""
        outcome = materialise(Console(quiet=True), self.defs, assets)
        failed = [each.what for each in (*outcome.failures, *outcome.warnings)]
        return failed, conclude(Console(file=self.said, width=1000), outcome)

    def look(self) -> str:
        """What the sensor says that tells alerts beside the command."""
        repository = self.defs.get_repository_def()
        with dg.build_sensor_context(
            instance=dagster_instance(load_settings()), repository_def=repository, resources=default_resources()
        ) as context:
            return str(repository.get_sensor_def("alerts").evaluate_tick(context).skip_message)


#: Plants a fault; takes it away at the end of the block, unless the next run mends it.
Plant = Callable[[World], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault, how it is planted, and which check finds it.

    Attributes:
        asset, check: which check.
        plant: how.
        error: whether the command fails by it; else it warns.
        assets: to make, where they are more than `asset`.
    """

    asset: str
    check: str
    plant: Plant
    error: bool = True
    assets: tuple[str, ...] = ()

    @property
    def made(self) -> tuple[str, ...]:
        return self.assets or (self.asset,)


def statements(plant: str, undo: str | None = None) -> Plant:
    """By SQL; without `undo` the next run mends it."""

    @contextmanager
    def planted(world: World) -> Iterator[None]:
        world.execute(plant)
        try:
            yield
        finally:
            if undo is not None:
                world.execute(undo)

    return planted


def quarantined(table: str) -> Plant:
    """A row in the quarantine that no load has put there."""
    return statements(
        f"INSERT INTO ops.quarantine (table_name, reason, row) VALUES ('{table}', 'planted', '{{}}')",
        "DELETE FROM ops.quarantine WHERE reason = 'planted'",
    )


def event_at(moment: str) -> Plant:
    """An event at another time than all others."""
    return statements(
        "INSERT INTO events (user_id, product_id, event_type, timestamp)"
        f" SELECT min(user_id), (SELECT min(product_id) FROM products), 'viewed', '{moment}' FROM users",
        f"DELETE FROM events WHERE timestamp = '{moment}'",
    )


def measured(path: str, value: str, record: str = "indexed_benchmark") -> Plant:
    """Another value in the record of a benchmark; all of them are put back."""
    return statements(
        "CREATE TABLE ops.spared AS SELECT * FROM analytics.records;"
        f"UPDATE analytics.records SET record = jsonb_set(record, '{{{path}}}', {value}) WHERE name = '{record}'",
        f"UPDATE analytics.records SET record = (SELECT record FROM ops.spared WHERE name = '{record}')"
        f" WHERE name = '{record}'; DROP TABLE ops.spared",
    )


def swallowed(name: str) -> Plant:
    """A file that keeps nothing of what is written into it: what is put in its place is a link to nowhere."""

    @contextmanager
    def planted(world: World) -> Iterator[None]:
        temporary = world.folder / f".{name}.{os.getpid()}"
        temporary.symlink_to(os.devnull)
        try:
            yield
        finally:
            for link in (temporary, world.folder / name):
                link.unlink(missing_ok=True)

    return planted


@contextmanager
def unknown_product(world: World) -> Iterator[None]:
    """A click on a product that the shop does not have, in a search log of its own source."""
    found = world.client.search(index="user_logs", query={"exists": {"field": "clicked_product_ids"}}, size=100)
    log = next(hit for hit in found["hits"]["hits"] if hit["_id"].startswith("row-"))
    clicks = log["_source"]["clicked_product_ids"]
    world.client.update(index="user_logs", id=log["_id"], doc={"clicked_product_ids": ["planted"]}, refresh=True)
    try:
        yield
    finally:
        world.client.update(index="user_logs", id=log["_id"], doc={"clicked_product_ids": clicks}, refresh=True)


@contextmanager
def embedding_of_nothing(world: World) -> Iterator[None]:
    """An embedding that belongs to no search."""
    world.client.index(index="search_embeddings", document={"query": "planted", "origin": "search"}, refresh=True)
    yield


@contextmanager
def unknown_searcher(world: World) -> Iterator[None]:
    """A search log of somebody who came after the users were segmented."""
    log = {"user_id": "planted", "search_query": "planted", "timestamp": "2025-06-01T00:00:00Z"}
    world.client.index(index="user_logs", id="planted", document=log, refresh=True)
    try:
        yield
    finally:
        world.client.delete(index="user_logs", id="planted", refresh=True)


@contextmanager
def twin_segments(world: World) -> Iterator[None]:
    """Segments of which two have the same example phrases, so that nothing can tell them apart."""
    names = [(segment.name, segment.phrases) for segment in load_segments()]
    text = "\n".join(
        f'[[segments]]\nname = "{name}"\nphrases = {list(phrases)!r}'
        for name, phrases in (*names, ("twin", names[0][1]))
    )
    (world.scratch / "segments.toml").write_text(text, encoding="utf-8")
    world.patch.setenv("SHOP_SEGMENTS", str(world.scratch / "segments.toml"))
    try:
        yield
    finally:
        world.patch.delenv("SHOP_SEGMENTS")


@contextmanager
def mixed_up_searchers(world: World) -> Iterator[None]:
    """Search logs that carry each other's users, so that nobody's searches are of one mind; described anew."""
    described = "DELETE FROM analytics.records WHERE name = 'segment_profiles'"
    users = {hit["_id"]: hit["_source"]["user_id"] for hit in helpers.scan(world.client, index="user_logs")}
    others = sorted(users.values())
    random.Random(0).shuffle(others)  # noqa: S311  no secret hangs on it

    def write(of: dict[str, Any]) -> None:
        helpers.bulk(
            world.client,
            ({"_op_type": "update", "_id": each, "doc": {"user_id": user}} for each, user in of.items()),
            index="user_logs",
            refresh=True,
        )
        world.execute(described)

    write(dict(zip(sorted(users), others, strict=True)))
    try:
        yield
    finally:
        write(users)


@contextmanager
def busy_server(world: World) -> Iterator[None]:
    """Somebody else's statement, at work on the server all the time."""
    with psycopg.connect(world.url, autocommit=True) as other:
        other.pgconn.send_query(b"SELECT pg_sleep(600)")
        try:
            yield
        finally:
            other.cancel_safe()
            while other.pgconn.get_result():
                pass


#: Waits a hundredth of a second where there is an index on the copy of the events, or where there is none.
WAIT = """
CREATE FUNCTION wait_where(indexed boolean) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    IF indexed = EXISTS (SELECT FROM pg_index WHERE indrelid = 'lab_copy.events'::regclass AND NOT indisprimary) THEN
        PERFORM pg_sleep(0.01);
    END IF;
    RETURN 0;
END
$$;
"""
#: An index makes it many times as fast, on any machine: one is advised.
FASTER = "SELECT count(*) AS events, (SELECT wait_where(false)) AS nothing FROM events WHERE user_id = %(user_id)s;"
#: And this one the same index makes many times as slow, as one does that misleads the planner.
SLOWER = "SELECT count(*) AS products, (SELECT wait_where(true)) AS nothing FROM products;"

#: Builds indexes by `user_id` on the copy with pages that are nearly empty, after they were measured alone.
BLOAT = """
CREATE FUNCTION bloat() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT indexname FROM pg_indexes
        WHERE schemaname = 'lab_copy' AND tablename = 'events' AND indexdef LIKE '%(user_id%'
    LOOP
        EXECUTE format('ALTER INDEX lab_copy.%I SET (fillfactor = 10)', name);
        EXECUTE format('REINDEX INDEX lab_copy.%I', name);
    END LOOP;
END
$$;
CREATE EVENT TRIGGER bloat ON ddl_command_end WHEN TAG IN ('CREATE TABLE AS') EXECUTE FUNCTION bloat();
"""


def queries(texts: dict[str, str], prepare: str, undo: str) -> Plant:
    """Queries of the user's that are measured too."""

    @contextmanager
    def planted(world: World) -> Iterator[None]:
        folder = world.scratch / "queries"
        folder.mkdir(exist_ok=True)
        with psycopg.connect(world.url) as connection:
            user = connection.execute("SELECT min(user_id) FROM events").fetchone()
        for name, text in texts.items():
            header = (
                f'-- Planted.\n-- Parameter: user_id = "{user and user[0]}"\n'
                if "%(user_id)s" in text
                else "-- Planted.\n"
            )
            (folder / f"{name}.sql").write_text(f"{header}{text}\n", encoding="utf-8")
        world.patch.setenv("SHOP_QUERIES", str(folder))
        world.execute(prepare)
        try:
            yield
        finally:
            world.execute(undo)
            world.patch.delenv("SHOP_QUERIES")
            for name in texts:
                (folder / f"{name}.sql").unlink()

    return planted


COMMERCE = ("users", "products", "events")

#: Faults that are planted one after the other: that the next one is red alone shows that the one before is over. After
#: the last all that was made is made again, and is green.
PARTS = (
    (
        *(Fault(table, "rows_match_source", quarantined(table), error=False, assets=COMMERCE) for table in COMMERCE),
        Fault("events", "starts_at_signup", event_at("1999-01-01Z"), error=False, assets=COMMERCE),
    ),
    (
        Fault(
            "activity_summaries",
            "answers_equal_direct_queries",
            statements("UPDATE analytics.weekly_active_users SET active_users = active_users + 1"),
        ),
    ),
    (
        Fault(
            "activity_summaries",
            "sums_add_up",
            statements("UPDATE analytics.category_totals SET purchases = purchases + 1"),
        ),
    ),
    (
        Fault(
            "cohort_retention",
            "agrees_with_events",
            statements("UPDATE analytics.retention_users SET active_periods = 0"),
            error=False,
        ),
        Fault("cohort_retention", "data_end_is_past", event_at("2999-01-01Z"), error=False),
        Fault(
            "cohort_retention",
            "keeps_its_definition",
            # A user gets lost whenever the summaries are built, and they are built in the next run.
            statements(
                "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
                "DO $$ BEGIN EXECUTE format('CREATE TRIGGER lose BEFORE INSERT ON analytics.retention_users"
                " FOR EACH ROW WHEN (NEW.user_id = %L) EXECUTE FUNCTION lose()', (SELECT min(user_id) FROM users));"
                " END $$; INSERT INTO ops.retention_log DEFAULT VALUES",
                "DROP FUNCTION lose CASCADE",
            ),
        ),
    ),
    (
        Fault("retention_heatmap", "is_a_picture", swallowed("retention_heatmap.png")),
        Fault("retention_curves", "are_a_picture", swallowed("retention_curves.png")),
        Fault("retention_export", "holds_every_cell", swallowed("cohort_retention.csv")),
        Fault("shop_report", "is_whole", swallowed("report.html")),
    ),
    (
        Fault(
            "segment_retention",
            "segments_add_up",
            statements(
                *(
                    f"UPDATE analytics.pooled_retention SET active_users = active_users {sign} 1"
                    " WHERE breakdown IS NULL AND period = 0"
                    for sign in "-+"
                )
            ),
        ),
    ),
    (
        Fault("user_logs", "documents_match_source", quarantined("user_logs"), error=False),
        Fault("user_logs", "no_orphans", unknown_product),
    ),
    (Fault("search_embeddings", "one_each", embedding_of_nothing),),
    (
        Fault(
            "user_segments",
            "every_searcher_once",
            statements(
                "UPDATE analytics.user_segments SET segment = 'planted ' || segment"
                " WHERE user_id = (SELECT min(user_id) FROM analytics.user_segments)",
                "UPDATE analytics.user_segments SET segment = replace(segment, 'planted ', '')",
            ),
        ),
        Fault(
            "user_segments",
            "segments_supported",
            twin_segments,
            error=False,
            assets=("search_embeddings", "user_segments"),
        ),
    ),
    (
        Fault("segmented_user_logs", "one_of_the_segments", unknown_searcher, error=False),
        Fault(
            "segmented_user_logs",
            "counts_match",
            statements(
                *(
                    f"UPDATE analytics.user_segments AS told SET documents = documents + {one}"
                    " FROM (SELECT min(user_id) AS user_id, row_number() OVER (ORDER BY segment) AS place"
                    " FROM analytics.user_segments GROUP BY segment) AS first"
                    " WHERE first.user_id = told.user_id AND place <= 2"
                    for one in ("3 - 2 * place", "2 * place - 3")
                )
            ),
        ),
    ),
    (Fault("segment_profiles", "segments_hold", mixed_up_searchers, error=False),),
    (
        Fault("index_effects", "result_rows", measured("queries,0,expected_rows", "'1'", "baseline_benchmark")),
        Fault("index_effects", "results_equal", measured("queries,0,answers,from_summaries", "'\"planted\"'")),
        Fault(
            "index_effects",
            "optimised_answers_faster",
            measured("queries,0,times_ms,from_summaries", "record #> '{queries,0,times_ms,as_written}'"),
            error=False,
        ),
    ),
    (
        Fault(
            "commerce_indexes",
            "indexes_valid",
            # A build that leaves its index invalid each time.
            statements(
                "CREATE FUNCTION invalidate() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE pg_index"
                " SET indisvalid = false WHERE indexrelid = 'public.idx_products_category'::regclass; END $$;"
                "CREATE EVENT TRIGGER invalidate ON ddl_command_end WHEN TAG IN ('CREATE INDEX')"
                " EXECUTE FUNCTION invalidate();"
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.idx_products_category'::regclass",
                "DROP FUNCTION invalidate CASCADE",
            ),
        ),
        Fault(
            "baseline_benchmark",
            "answers_complete",
            # A product without a category is a row of the answer, and no category. The triggers that note changes
            # would not take it.
            statements(
                "SET LOCAL session_replication_role = replica; CREATE TABLE ops.spared AS SELECT * FROM products;"
                "ALTER TABLE products ALTER category DROP NOT NULL;"
                "UPDATE products SET category = NULL WHERE product_id IN"
                " (SELECT product_id FROM events WHERE event_type = 'purchased' LIMIT 1)",
                "SET LOCAL session_replication_role = replica;"
                "UPDATE products SET category = spared.category FROM ops.spared"
                " WHERE spared.product_id = products.product_id AND products.category IS NULL;"
                "ALTER TABLE products ALTER category SET NOT NULL; DROP TABLE ops.spared",
            ),
        ),
        Fault(
            "indexed_benchmark",
            "measured_alone",
            busy_server,
            error=False,
            assets=("baseline_benchmark", "indexed_benchmark"),
        ),
        Fault(
            "index_advice",
            "advised_not_slower",
            queries({"faster": FASTER, "slower": SLOWER}, WAIT, "DROP FUNCTION wait_where"),
            error=False,
        ),
        Fault(
            "index_advice",
            "within_budget",
            queries({"faster": FASTER}, WAIT + BLOAT, "DROP FUNCTION wait_where; DROP FUNCTION bloat CASCADE"),
        ),
    ),
)


@pytest.fixture(scope="module")
def shop(
    server_settings: Settings, elasticsearch_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of a small shop whose demo has run."""
    settings = {
        "DATABASE_URL": postgres_service.url(server_settings, f"faulty_shop_{uuid.uuid4().hex}"),
        "ELASTICSEARCH_URL": elasticsearch_url,
        "SHOP_HOME": str(tmp_path_factory.mktemp("faulty_shop")),
    }
    with shop_after_demo(settings) as environment:
        yield environment


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def world(shop: dict[str, str], webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The small shop's environment, with a webhook for its alerts."""
    folder = Path(shop["SHOP_HOME"]) / "shops" / "shop"
    for name, value in shop.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "dagster"))
    monkeypatch.setenv("SHOP_ALERT_WEBHOOK", webhook.url.get_secret_value())
    with Elasticsearch(shop["ELASTICSEARCH_URL"]) as client:
        yield World(shop["DATABASE_URL"], client, folder, tmp_path, monkeypatch)


def test_there_is_a_fault_for_every_check() -> None:
    checks = {(key.asset_key.to_user_string(), key.name) for key in build_defs().resolve_asset_graph().asset_check_keys}
    planted = [(fault.asset, fault.check) for part in PARTS for fault in part]
    assert sorted(planted) == sorted(checks)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: "+".join(f"{fault.asset}-{fault.check}" for fault in part))
def test_each_check_is_red_alone_and_told_once(part: tuple[Fault, ...], world: World, webhook: Webhook) -> None:
    made = tuple(dict.fromkeys(asset for fault in part for asset in fault.made))
    # What takes long is as the demo has measured it.
    if not set(made) & set(LABORATORY):
        assert world.make(made) == ([], 0)
    told: list[str] = []
    for fault in part:
        expected = f"check {fault.check} of {fault.asset}"
        told.append(f"Synthetic shop: {'C' if fault.error else 'Warning: c'}{expected[1:]} did not pass.")
        with fault.plant(world):
            assert world.make(fault.made) == ([expected], int(fault.error))
        assert expected in world.said.getvalue()
        assert webhook.posted == told
        # The sensor, which tells alerts too, sees that it was told.
        assert "Nothing new is wrong" in world.look()
    assert world.make(made) == ([], 0)
    assert webhook.posted == told
