"""The files below deploy/elasticsearch/, as far as a node without Elastic's licensed modules can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import BadRequestError

from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.segmentation.logs import MAPPINGS

FOLDER = Path(__file__).parents[2] / "deploy" / "elasticsearch"
POLICY: dict[str, Any] = json.loads((FOLDER / "search_logs_policy.json").read_text("utf-8"))
TEMPLATE: dict[str, Any] = json.loads((FOLDER / "search_logs_template.json").read_text("utf-8"))


def test_an_index_of_the_template_takes_search_logs_and_nothing_else(elasticsearch: ElasticsearchResource) -> None:
    settings = {k: v for k, v in TEMPLATE["template"]["settings"].items() if not k.startswith("index.lifecycle.")}
    name = f"{elasticsearch.index_prefix}search-logs"
    with elasticsearch.client() as client:
        template = TEMPLATE["template"] | {"settings": settings}
        client.indices.put_index_template(name=name, index_patterns=[f"{name}-*"], template=template)
        try:
            client.indices.create(index=f"{name}-000001", wait_for_active_shards=1)
            document = {"user_id": "u", "search_query": "q", "clicked_product_ids": ["p"], "timestamp": "2025-01-01"}
            client.index(index=f"{name}-000001", document=document)
            with pytest.raises(BadRequestError, match="strict_dynamic_mapping_exception"):
                client.index(index=f"{name}-000001", document=document | {"colour": "red"})
            made = client.indices.get_settings(index=f"{name}-000001", flat_settings=True)
        finally:
            client.indices.delete_index_template(name=name)
    assert made[f"{name}-000001"]["settings"].items() >= settings.items()


def test_the_embedded_node_has_no_lifecycle_management_so_the_policy_was_not_run(
    elasticsearch: ElasticsearchResource,
) -> None:
    with elasticsearch.client() as client, pytest.raises(BadRequestError, match="no handler found"):
        client.ilm.put_lifecycle(name="search-logs", policy=POLICY["policy"])


def test_the_template_names_the_policy_and_its_fields_are_those_of_the_platform() -> None:
    settings = TEMPLATE["template"]["settings"]
    assert settings["index.lifecycle.name"] == settings["index.lifecycle.rollover_alias"] == "search-logs"
    fields = TEMPLATE["template"]["mappings"]["properties"]
    assert fields.items() <= MAPPINGS["properties"].items()
    assert POLICY["policy"]["phases"]["hot"]["actions"]["rollover"]["max_primary_shard_size"] == "50gb"
