"""The assets' checks and metadata: what is loaded, left out and quarantined adds up, or the check says so."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from shop_platform.commerce.assets import commerce
from shop_platform.quarantine import RefusedLoadError
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.segmentation.assets import user_logs

from ..sources.test_files import EVENTS, SEARCHES, write_shop

FAULTS = [EVENTS[0] | {"who": "stranger"}, EVENTS[0] | {"robot": True}]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop in files with an event of nobody, one of a robot, and a search of nobody."""
    searches = [*SEARCHES, SEARCHES[0] | {"user_id": "stranger"}]
    monkeypatch.setenv("SHOP_CONFIG", str(write_shop(tmp_path, events=[*EVENTS, *FAULTS], searches=searches)))
    monkeypatch.setenv("SHOP_QUARANTINE_AT_MOST", "0.5")


def checks_of(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], bool]:
    found = result.get_asset_check_evaluations()
    return {(check.asset_key.to_user_string(), check.check_name): check.passed for check in found}


@pytest.mark.usefixtures("broken")
def test_what_is_quarantined_is_shown_by_reason_and_a_check_counts_it(postgres: PostgresResource) -> None:
    resources = {"postgres": postgres, "shop": ShopResource()}
    result = dg.materialize([commerce], resources=resources)
    assert all(checks_of(result).values())
    shown = {
        each.asset_key.to_user_string(): each.metadata
        for each in result.asset_materializations_for_node("load_commerce")
    }
    assert shown["events"]["quarantined"].value == "| reason | rows |\n| --- | --- |\n| unknown user | 1 |"
    assert shown["events"]["left out"].value == "| reason | rows |\n| --- | --- |\n| a robot's | 1 |"
    assert shown["events"]["files"].value == "5 files new, 0 changed, 0 gone"
    with postgres.connect() as connection:
        connection.execute("DELETE FROM ops.quarantine")
    again = checks_of(dg.materialize([commerce], resources=resources, raise_on_error=False))
    assert again["events", "rows_match_source"] is False
    assert again["users", "rows_match_source"] is True


@pytest.mark.usefixtures("broken")
def test_a_run_over_the_threshold_fails_and_leaves_the_rows_to_be_looked_at(
    postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_QUARANTINE_AT_MOST", "0.2")
    with pytest.raises(RefusedLoadError, match=r"1 of 4 rows for events \(25.0%\)"):
        dg.materialize([commerce], resources={"postgres": postgres, "shop": ShopResource()})
    with postgres.connect() as connection:
        kept = connection.execute("SELECT table_name, reason, row->>'who' FROM ops.quarantine WHERE refused").fetchall()
    assert kept == [("events", "unknown user", "stranger")]


@pytest.mark.usefixtures("broken")
def test_search_logs_are_quarantined_in_the_same_table(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = {"postgres": postgres, "shop": ShopResource(), "elasticsearch": elasticsearch}
    assert all(checks_of(dg.materialize([commerce, user_logs], resources=resources)).values())
    quarantined = "SELECT reason, origin, row->>'user_id', refused FROM ops.quarantine WHERE table_name = 'user_logs'"
    with postgres.connect() as connection:
        row = ("unknown user", "searches.jsonl.gz", "stranger", False)
        assert connection.execute(quarantined).fetchall() == [row]
        assert connection.execute("SELECT count(DISTINCT state), count(*) FROM ops.sources").fetchone() == (1, 2)
        connection.execute("DELETE FROM ops.quarantine WHERE table_name = 'user_logs'")
    again = checks_of(dg.materialize([user_logs], resources=resources, raise_on_error=False))
    assert again["user_logs", "documents_match_source"] is False
    # Another mapping is another source; this time its search logs are too many to refuse.
    monkeypatch.setenv("SHOP_QUARANTINE_AT_MOST", "0.2")
    with elasticsearch.client() as client:
        client.indices.put_mapping(
            index=f"{elasticsearch.index_prefix}user_logs",
            meta={"shop_platform": {"shop": "corner_shop", "fingerprint": "1:of before"}},
        )
    with pytest.raises(RefusedLoadError, match="1 of 2 rows for user_logs"):
        dg.materialize([user_logs], resources=resources)
    with postgres.connect() as connection:
        assert [row[3] for row in connection.execute(quarantined)] == [True]
