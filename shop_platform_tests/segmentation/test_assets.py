"""The four assets on real servers with the real model: complete, idempotent, and in proportion to what is new."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import dagster as dg
import numpy as np
import pytest

from shop_platform.commerce.loading import load_shop_tables
from shop_platform.errors import DataError
from shop_platform.records import read_record
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.segmentation import assets
from shop_platform.segmentation.orphans import find_orphans
from shop_platform.settings import load_settings
from shop_platform.sources.load import load_shop
from shop_platform.verifying import TAGS

from .conftest import LogSource, add_log, documents, load, publish, search

NAMES = {"tech_enthusiast", "lifestyle_shopper", "fitness_focused", "bargain_hunter"}

ALL = [
    assets.user_logs,
    assets.search_embeddings,
    assets.user_segments,
    assets.segmented_user_logs,
    assets.segment_profiles,
]


@pytest.fixture
def shop(postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch) -> ShopResource:
    """A synthetic shop of 40 users and 300 searches whose tables are loaded."""
    for name, value in {"USERS": 40, "SEARCHES": 300, "EVENTS": 400}.items():
        monkeypatch.setenv(f"SHOP_{name}", str(value))
    with postgres.connect() as connection:
        load_shop_tables(connection, load_shop(load_settings()))
    return ShopResource()


class Room:
    """The room's assets over the test's servers."""

    def __init__(self, **resources: object) -> None:
        self.resources = {"engine": EngineResource(), **resources}

    def run(
        self, *chosen: dg.AssetsDefinition, tags: Mapping[str, str] | None = None, raise_on_error: bool = True
    ) -> dg.ExecuteInProcessResult:
        keys = [asset.key for asset in chosen] or None
        return dg.materialize(
            ALL, resources=self.resources, selection=keys, tags=dict(tags or {}), raise_on_error=raise_on_error
        )


@pytest.fixture
def room(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, encoder: EncoderResource, shop: ShopResource
) -> Room:
    return Room(postgres=postgres, elasticsearch=elasticsearch, encoder=encoder, shop=shop)


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    return {key: value.value for key, value in result.asset_materializations_for_node(asset)[0].metadata.items()}


def refresh(room: Room) -> dg.ExecuteInProcessResult:
    return room.run(assets.search_embeddings, assets.user_segments, assets.segmented_user_logs)


def test_every_document_has_its_searchers_segment_and_all_checks_pass(
    room: Room, postgres: PostgresResource, elasticsearch: ElasticsearchResource
) -> None:
    result = room.run()
    with postgres.connect() as connection:
        segment_of = dict(connection.execute("SELECT user_id, segment FROM analytics.user_segments").fetchall())
        record = read_record(connection, "user_segments")
        counts = read_record(connection, "segmented_user_logs")["segments"]
        profiles = read_record(connection, "segment_profiles")
    found = documents(elasticsearch)
    assert len(found) == 300
    assert {document["segment"] for document in found.values()} <= NAMES
    assert all(document["segment"] == segment_of[document["user_id"]] for document in found.values())
    assert sum(counts.values()) == 300
    assert {segment["name"] for segment in record["segments"]} == NAMES
    passed = checks_of(result)
    assert len(passed) == 8
    assert all(passed[name] for name in passed if name not in ("segments_supported", "segments_hold")), passed
    for asset in ALL:
        metadata = metadata_of(result, asset.key.to_user_string())
        assert isinstance(metadata["dagster/row_count"], int)
    json.dumps(record)
    assert profiles["version"] == record["version"]
    assert set(profiles["clicked"]) <= NAMES
    assert profiles["quality"]["users"] == len(segment_of)


def test_the_nightly_run_reads_every_document_and_mends_what_nothing_told_of(
    room: Room, elasticsearch: ElasticsearchResource
) -> None:
    room.run()
    before = documents(elasticsearch)
    first = next(iter(before))
    refresh(room)
    with elasticsearch.client() as client:
        client.update(index=f"{elasticsearch.index_prefix}user_logs", id=first, doc={"segment": "planted"})
    again = room.run(assets.segmented_user_logs, tags=TAGS)
    metadata = metadata_of(again, "segmented_user_logs")
    assert (metadata["documents read in this run"], metadata["documents updated in this run"]) == (300, 1)
    assert documents(elasticsearch) == before
    usual = room.run(assets.segmented_user_logs)
    assert cast("int", metadata_of(usual, "segmented_user_logs")["documents read in this run"]) < 300


@pytest.mark.fault
def test_a_second_run_writes_nothing(room: Room, elasticsearch: ElasticsearchResource) -> None:
    room.run()
    before = documents(elasticsearch)
    again = room.run()
    assert documents(elasticsearch) == before
    assert metadata_of(again, "user_logs")["loaded in this run"] is False
    assert metadata_of(again, "search_embeddings")["encoded in this run"] == 0
    assert metadata_of(again, "user_segments")["searchers told in this run"] == 0
    assert metadata_of(again, "segmented_user_logs")["documents updated in this run"] == 0


@pytest.mark.parametrize("shards", [1, 3])
def test_a_refresh_encodes_only_new_queries_and_gives_what_a_full_run_gives(
    shards: int,
    room: Room,
    postgres: PostgresResource,
    elasticsearch: ElasticsearchResource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SHOP_ELASTICSEARCH_SHARDS", "SHOP_ELASTICSEARCH_EMBEDDING_SHARDS"):
        monkeypatch.setenv(name, str(shards))
    room.run()
    with elasticsearch.client() as client:
        made = client.indices.get_settings(index=f"{elasticsearch.index_prefix}*", name="index.number_of_shards")
    assert {each["settings"]["index"]["number_of_shards"] for each in made.body.values()} == {str(shards)}
    known = next(iter(documents(elasticsearch).values()))
    add_log(elasticsearch, user_id=known["user_id"], search_query=str(known["search_query"]).upper())
    added = add_log(elasticsearch, user_id="by curl", search_query="a query that nobody else has 4711")
    refreshed = refresh(room)
    after = documents(elasticsearch)
    with postgres.connect() as connection:
        by_refresh = connection.execute("SELECT * FROM analytics.user_segments ORDER BY 1").fetchall()
        # Without the marks everything is read.
        connection.execute("UPDATE analytics.records SET record = record - 'read_to'")
        connection.execute("DELETE FROM analytics.user_segments")
    whole = refresh(room)
    with postgres.connect() as connection:
        by_full_run = connection.execute("SELECT * FROM analytics.user_segments ORDER BY 1").fetchall()
    assert metadata_of(refreshed, "search_embeddings")["encoded in this run"] == 1
    assert metadata_of(refreshed, "search_embeddings")["search logs read"] == 2
    assert metadata_of(refreshed, "user_segments")["searchers told in this run"] == 2
    assert metadata_of(refreshed, "segmented_user_logs")["documents read in this run"] < 100
    assert metadata_of(whole, "search_embeddings")["search logs read"] == 302
    assert metadata_of(whole, "user_segments")["searchers told in this run"] == len(by_full_run)
    assert metadata_of(whole, "segmented_user_logs")["documents updated in this run"] == 0
    assert after[added]["segment"] in NAMES
    assert all(checks_of(refreshed)[name] for name in ("one_of_the_segments", "counts_match"))
    assert by_refresh == by_full_run


def test_the_embedding_of_a_query_that_nobody_searches_for_any_more_is_removed(
    room: Room, elasticsearch: ElasticsearchResource
) -> None:
    room.run()
    added = add_log(elasticsearch, user_id="by curl", search_query="forget me 4711")
    refresh(room)
    with elasticsearch.client() as client:
        client.delete(index=f"{elasticsearch.index_prefix}user_logs", id=added, refresh=True)
    result = refresh(room)
    assert metadata_of(result, "search_embeddings")["removed in this run"] == 1
    assert checks_of(result)["every_searcher_once"]


@pytest.mark.parametrize("more", [True, False])
def test_embeddings_that_somebody_changed_are_told_once_and_mended(
    room: Room, elasticsearch: ElasticsearchResource, *, more: bool
) -> None:
    room.run()
    index = f"{elasticsearch.index_prefix}search_embeddings"
    with elasticsearch.client() as client:
        there = client.count(index=index)["count"]
        if more:
            client.index(index=index, document={"query": "planted", "origin": "search"}, refresh=True)
        else:
            some = client.search(index=index, size=1)["hits"]["hits"][0]["_id"]
            client.delete(index=index, id=some, refresh=True)
        assert not checks_of(room.run(assets.search_embeddings, raise_on_error=False))["one_each"]
        assert checks_of(room.run(assets.search_embeddings))["one_each"]
        assert client.count(index=index)["count"] == there


def test_documents_of_searchers_who_came_after_the_clustering_are_a_warning(
    room: Room, elasticsearch: ElasticsearchResource
) -> None:
    room.run()
    add_log(elasticsearch, user_id="by curl", search_query="rug")
    result = room.run(assets.segmented_user_logs)
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [(check.check_name, check.severity) for check in failed] == [
        ("one_of_the_segments", dg.AssetCheckSeverity.WARN)
    ]


def test_a_document_with_a_segment_of_no_ones_is_put_right(room: Room, elasticsearch: ElasticsearchResource) -> None:
    room.run()
    key = next(iter(documents(elasticsearch)))
    with elasticsearch.client() as client:
        client.update(index=f"{elasticsearch.index_prefix}user_logs", id=key, doc={"segment": "whale"}, refresh=True)
    result = room.run(assets.segmented_user_logs)
    assert documents(elasticsearch)[key]["segment"] in NAMES
    assert all(checks_of(result).values())


def test_searchers_in_a_segment_that_does_not_exist_fail_the_check(room: Room, postgres: PostgresResource) -> None:
    room.run()
    with postgres.connect() as connection:
        connection.execute("UPDATE analytics.user_segments SET segment = 'whale'")
    result = room.run(assets.segmented_user_logs)
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [check.severity for check in failed] == [dg.AssetCheckSeverity.ERROR]


def test_few_searchers_get_a_segment_and_a_warning(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, encoder: EncoderResource
) -> None:
    load(elasticsearch, LogSource([search(query="cheap shoes on sale"), search(user="x", query="yoga leggings")]))
    result = Room(postgres=postgres, elasticsearch=elasticsearch, encoder=encoder, shop=ShopResource()).run(
        assets.search_embeddings, assets.user_segments, assets.segmented_user_logs
    )
    assert {document["user_id"]: document["segment"] for document in documents(elasticsearch).values()} == {
        "abc123": "bargain_hunter",
        "x": "fitness_focused",
    }
    passed = checks_of(result)
    assert [name for name in passed if not passed[name]] == ["segments_supported"]


def test_a_shop_without_searches_is_no_reason_for_a_warning(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, encoder: EncoderResource
) -> None:
    load(elasticsearch, LogSource([]))
    result = Room(postgres=postgres, elasticsearch=elasticsearch, encoder=encoder, shop=ShopResource()).run(
        assets.search_embeddings, assets.user_segments, assets.segmented_user_logs, assets.segment_profiles
    )
    passed = checks_of(result)
    assert {"segments_supported", "segments_hold"} <= set(passed)
    assert all(passed.values()), passed


def test_logs_without_any_query_get_a_segment_all_the_same(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, encoder: EncoderResource
) -> None:
    load(elasticsearch, LogSource([search(query=" ")]))
    result = Room(postgres=postgres, elasticsearch=elasticsearch, encoder=encoder, shop=ShopResource()).run(
        assets.search_embeddings, assets.user_segments, assets.segmented_user_logs
    )
    assert [document["segment_confidence"] for document in documents(elasticsearch).values()] == [0.0]
    assert checks_of(result)["one_of_the_segments"]


def test_orphans_are_told_by_where_they_came_from(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource
) -> None:
    from shop_platform.resources.snapshots import snapshot

    with postgres.connect() as connection:
        connection.execute("INSERT INTO users (user_id, signup_date) VALUES ('known', now())")
        connection.execute("INSERT INTO products (product_id, name, category, price) VALUES ('p01', 'a', 'b', 1)")
    load(elasticsearch, LogSource([search(user="known"), search(user="known", clicked_product_ids=[])]))
    added = [
        add_log(elasticsearch, user_id="nobody", search_query="rug"),
        add_log(elasticsearch, user_id="nu\0ll", clicked_product_ids="p01"),
    ]
    with elasticsearch.client() as client, postgres.connect() as connection:
        for searchers_are_users, others in ((True, {"searcher": 2}), (False, {})):
            with snapshot(client, f"{elasticsearch.index_prefix}user_logs") as taken:
                hits = taken.hits(["user_id", "clicked_product_ids"], page=2)
                found = find_orphans(connection, hits, searchers_are_users=searchers_are_users)
            assert found.own == {"product": 1}
            assert found.others == others
    assert set(found.examples).isdisjoint(added)
    assert "1 of the source with an unknown product" in str(found)


def test_publishing_replaces_everything_at_once(room: Room, postgres: PostgresResource) -> None:
    publish(postgres, ("somebody from before", "whale", 1.0))
    room.run()
    with postgres.connect() as connection:
        rows = connection.execute("SELECT segment, confidence FROM analytics.user_segments").fetchall()
    assert {row[0] for row in rows} <= NAMES
    assert all(0 <= row[1] <= 1 for row in rows)
    assert np.allclose([row[1] for row in rows], np.round([row[1] for row in rows], 2))


def test_nothing_heavy_is_imported_with_the_assets() -> None:
    code = (
        "import sys, shop_platform.segmentation.assets, shop_platform.segmentation.freshness;"
        "print(sorted({'torch', 'sklearn', 'scipy', 'numpy', 'pyarrow', 'elasticsearch'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def told(result: dg.ExecuteInProcessResult) -> tuple[object, object, object]:
    """Documents read by the embeddings, searchers told, documents read to be written on."""
    return (
        metadata_of(result, "search_embeddings")["search logs read"],
        metadata_of(result, "user_segments")["searchers told in this run"],
        metadata_of(result, "segmented_user_logs")["documents read in this run"],
    )


def state(postgres: PostgresResource) -> list[tuple[object, ...]]:
    """All that is published about users and queries."""
    tables = ("user_segments", "user_queries", "query_segments")
    with postgres.connect() as connection:
        return [row for name in tables for row in connection.execute(f"SELECT * FROM analytics.{name} ORDER BY 1, 2")]  # noqa: S608


def test_nothing_is_read_again_where_nothing_changed(room: Room) -> None:
    room.run()
    assert told(refresh(room)) == (0, 0, 0)


def test_refreshes_by_what_changed_end_where_reading_everything_ends(
    room: Room, postgres: PostgresResource, elasticsearch: ElasticsearchResource
) -> None:
    room.run()
    rng = np.random.default_rng(11)
    ids = list(documents(elasticsearch))
    alias = f"{elasticsearch.index_prefix}user_logs"
    with postgres.connect() as connection:
        version = read_record(connection, "user_segments")["version"]
    for round_ in range(6):
        with elasticsearch.client() as client:
            for number in range(3):
                document = {"user_id": f"new {rng.integers(4)}", "search_query": f"Yoga mat {rng.integers(5)}"}
                client.index(index=alias, id=f"added {round_} {number}", document=document)
            client.index(index=alias, id=f"blank {round_}", document={"user_id": f"blank {rng.integers(2)}"})
            client.index(index=alias, id=f"nobody {round_}", document={"search_query": "gift card"})
            client.update(index=alias, id=ids[round_], doc={"search_query": f"changed {round_}"})
            if round_ in (2, 4):
                client.update(index=alias, id=ids[20 + round_], doc={"user_id": "somebody else"})
                client.delete(index=alias, id=ids[40 + round_])
            if round_ == 5:
                client.update(index=alias, id="blank 0", doc={"search_query": "dumbbell set"})
            client.indices.refresh(index=alias)
        result = refresh(room)
        passed = checks_of(result)
        assert all(passed.values()), passed
        assert (told(result)[0] == len(documents(elasticsearch))) == (round_ in (2, 4))
    by_refreshes, written = state(postgres), documents(elasticsearch)
    with postgres.connect() as connection:
        assert read_record(connection, "user_segments")["version"] == version
        connection.execute("UPDATE analytics.records SET record = record - 'read_to'")
    refresh(room)
    assert state(postgres) == by_refreshes
    assert documents(elasticsearch) == written


def test_searchers_who_drifted_away_have_the_segments_learned_anew_under_the_same_names(
    room: Room, postgres: PostgresResource, elasticsearch: ElasticsearchResource
) -> None:
    room.run()
    with postgres.connect() as connection:
        before = read_record(connection, "user_segments")
    for number in range(30):
        add_log(elasticsearch, user_id=f"new {number}", search_query=f"marathon training plan {number}")
        add_log(elasticsearch, user_id=f"new {number}", search_query="protein bars")
    refresh(room)
    with postgres.connect() as connection:
        after = read_record(connection, "user_segments")
        now = dict(connection.execute("SELECT user_id, segment FROM analytics.user_segments").fetchall())
    assert after["version"] != before["version"]
    assert after["drift"]["moved"] == 0
    assert {now[f"new {number}"] for number in range(30)} == {"fitness_focused"}
    assert {document["segment_model"] for document in documents(elasticsearch).values()} == {after["model"]}


def test_segments_that_the_data_do_not_show_are_not_published(
    room: Room, postgres: PostgresResource, elasticsearch: ElasticsearchResource, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    room.run()
    before, written = state(postgres), documents(elasticsearch)
    path = tmp_path / "segments.toml"
    phrases = '["4k monitor", "yoga mat", "table lamp", "cheap shoes"]'
    path.write_text("".join(f'[[segments]]\nname = "{name}"\nphrases = {phrases}\n' for name in "abc"), "utf-8")
    monkeypatch.setenv("SHOP_SEGMENTS", str(path))
    result = dg.materialize(
        ALL,
        resources=room.resources,
        selection=[asset.key for asset in ALL[1:]],
        raise_on_error=False,
    )
    failed = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert ("segments_supported", dg.AssetCheckSeverity.ERROR) in [(each.check_name, each.severity) for each in failed]
    assert not result.success
    assert state(postgres) == before
    assert documents(elasticsearch) == written


@pytest.mark.fault
def test_a_stored_model_that_was_tampered_with_is_refused(room: Room, postgres: PostgresResource) -> None:
    room.run()
    with postgres.connect() as connection:
        connection.execute("UPDATE ops.segment_models SET artefact = substr(artefact, 1, 400)")
    with pytest.raises(DataError, match="Delete it from ops"):
        refresh(room)
    with postgres.connect() as connection:
        connection.execute("DELETE FROM ops.segment_models")
    assert refresh(room).success
