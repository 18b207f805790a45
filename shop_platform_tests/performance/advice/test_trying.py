"""Trying candidates on the copy: what is advised was built and measured, fits the budget, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop_platform.performance.advice import checks
from shop_platform.performance.advice.records import Advice
from shop_platform.performance.advice.trying import measure_advice
from shop_platform.performance.indexes import index_files
from shop_platform.performance.queries import Query, dashboard_queries, measured_queries
from shop_platform.performance.rounds import Rule
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.performance.conftest import live_state, schemas

EXAMPLES = Path(__file__).parents[3] / "examples" / "queries"
SHORT = Rule(warm_ups=0, least=10, most=10, seconds=0)


def advise(postgres: PostgresResource, queries: list[Query] | None = None, budget: float = 2.0) -> Advice:
    return measure_advice(
        postgres, queries or list(dashboard_queries()), time_limit=60, budget_share=budget, rule=SHORT
    )


def test_every_candidate_is_built_and_judged_for_every_query(random_shop: PostgresResource) -> None:
    advice = advise(random_shop)
    names = [candidate["name"] for candidate in advice["candidates"]]
    assert {file.name for file in index_files()} < set(names)
    assert len(names) == len(set(names))
    for candidate in advice["candidates"]:
        assert candidate["size_bytes"] > 0
        assert candidate["statement"].startswith(
            f"CREATE INDEX CONCURRENTLY {candidate['name']} ON {candidate['table']}"
        )
        assert candidate["lock"]
        assert set(candidate["queries"]) == {"weekly_active_users", "revenue_by_category"}
        for effect in candidate["queries"].values():
            assert (effect["speedup"] is None) == (not effect["used"])
            assert effect["used"] or effect["verdict"] == "no effect"
    partial = [c for c in advice["candidates"] if c["kind"] == "partial" or "WHERE" in c["statement"]]
    assert any(candidate["queries"]["revenue_by_category"]["used"] for candidate in partial)


def test_a_candidate_that_is_live_already_is_told(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        connection.execute(
            "CREATE INDEX mine ON events (product_id) WITH (fillfactor = 70) WHERE event_type = 'purchased'"
        )
        connection.execute("CREATE INDEX other ON events (product_id) WHERE event_type = 'viewed'")
    live = {candidate["statement"]: candidate["live"] for candidate in advise(random_shop)["candidates"]}
    assert {name for name in live.values() if name} == {"mine"}
    assert [
        name for statement, name in live.items() if statement.endswith("(product_id) WHERE event_type = 'purchased';")
    ] == ["mine"]


def test_the_advised_set_fits_the_budget_and_its_cost_is_told(random_shop: PostgresResource) -> None:
    advice = advise(random_shop)
    chosen = [candidate for candidate in advice["candidates"] if candidate["chosen"]]
    assert advice["advised_bytes"] == sum(candidate["size_bytes"] for candidate in chosen) <= advice["budget_bytes"]
    assert all((c["insert_slowdown"] is not None) == c["chosen"] for c in advice["candidates"])
    assert advice["candidates"][: len(chosen)] == chosen
    assert checks.within_budget(advice).passed


def test_a_budget_for_nothing_advises_nothing(random_shop: PostgresResource) -> None:
    advice = advise(random_shop, budget=0.0001)
    assert advice["advised_bytes"] == 0
    assert not any(candidate["chosen"] for candidate in advice["candidates"])


def test_a_set_over_the_budget_and_a_slower_query_are_found_by_the_checks(random_shop: PostgresResource) -> None:
    advice = advise(random_shop)
    assert not checks.within_budget(advice | {"advised_bytes": advice["budget_bytes"] + 1}).passed
    advice["queries"][0]["verdict"] = "hurts"
    assert not checks.not_slower(advice).passed


def test_other_texts_give_the_same_answer_and_can_be_pasted(random_shop: PostgresResource) -> None:
    advice = advise(random_shop)
    assert {
        query["name"]: (query["rewriting"] is not None, query["summary"] is not None) for query in advice["queries"]
    } == {
        "weekly_active_users": (True, True),
        "revenue_by_category": (True, True),
    }
    with random_shop.connect() as connection:
        for query, written in zip(advice["queries"], dashboard_queries(), strict=True):
            direct = connection.execute(written.text).fetchall()
            assert query["rewriting"] is not None
            assert query["summary"] is not None
            assert connection.execute(query["rewriting"]["statements"][0]).fetchall() == direct
            *tables, reading = query["summary"]["statements"]
            for statement in tables:
                connection.execute(statement)
            assert connection.execute(reading).fetchall() == direct
        connection.rollback()


def test_the_live_tables_stay_as_they_are_and_no_copy_stays(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        before = live_state(connection)
    advise(random_shop)
    with random_shop.connect() as connection:
        assert live_state(connection) == before
        assert schemas(connection) == set()


def test_queries_of_the_users_are_advised_on_with_their_parameters(random_shop: PostgresResource) -> None:
    queries = [query for query in measured_queries(EXAMPLES) if query.name == "events_of_one_user"]
    queries[0].parameters["user_id"] = "u42"  # type: ignore[index]  a user of this shop
    advice = advise(random_shop, queries)
    effects = {candidate["name"]: candidate["queries"]["events_of_one_user"] for candidate in advice["candidates"]}
    assert effects["idx_events_user_time"]["used"]
    assert not effects["idx_products_category"]["used"]
    assert advice["queries"][0]["summary"] is None


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.sql")), ids=lambda file: file.stem)
def test_each_example_query_runs_on_the_shop(random_shop: PostgresResource, file: Path) -> None:
    (query,) = [query for query in measured_queries(EXAMPLES) if query.name == file.stem]
    with random_shop.connect() as connection:
        cursor = connection.execute(query.text, query.parameters)
        assert cursor.description
