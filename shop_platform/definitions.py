"""The only place where everything is put together. Light to import: nothing here loads torch, pandas or seaborn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from shop_platform import automation
from shop_platform.automation import by_segment
from shop_platform.commerce import assets as commerce
from shop_platform.commerce import by_month
from shop_platform.performance import assets as performance
from shop_platform.performance.advice import assets as advice
from shop_platform.report import assets as report
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention import artefacts as retention_artefacts
from shop_platform.retention import assets as retention
from shop_platform.retention import by_segment as retention_by_segment
from shop_platform.segmentation import assets as segmentation
from shop_platform.settings import load_settings
from shop_platform.sources.load import load_shop


def default_resources() -> dict[str, Any]:
    """The resources that the settings in the environment describe. Starts no server.

    Raises:
        ShopPlatformError: a setting or the configuration of the shop is unusable.
    """
    shop = load_shop(load_settings())
    return {
        "postgres": PostgresResource(database=shop.name, time_zone=shop.time_zone),
        "elasticsearch": ElasticsearchResource(index_prefix=shop.index_prefix),
        "encoder": EncoderResource(),
        "engine": EngineResource(),
        "shop": ShopResource(),
    }


def build_defs(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions, over the given resources or those that the environment describes.

    Runs execute in one process: a step process costs 4 to 5 s to start, more than most of these assets take.
    """
    using = {"engine": EngineResource(), **(resources or default_resources())}
    assets = [
        commerce.commerce,
        performance.baseline_benchmark,
        performance.commerce_indexes,
        performance.indexed_benchmark,
        performance.index_effects,
        advice.index_advice,
        performance.activity_summaries,
        retention.define_cohort_retention(by_segment=by_segment()),
        retention_artefacts.retention_heatmap,
        retention_artefacts.retention_curves,
        retention_artefacts.retention_export,
        retention_by_segment.segment_retention,
        segmentation.user_logs,
        segmentation.search_embeddings,
        segmentation.user_segments,
        segmentation.segmented_user_logs,
        segmentation.segment_profiles,
    ]
    first_month = load_settings().events_by_month
    if first_month is not None:
        assets.append(by_month.define_events_by_month(first_month, using["postgres"].time_zone))
    return dg.Definitions(
        assets=_linked_to_source([*assets, report.define_shop_report(assets)]),
        jobs=automation.jobs,
        schedules=[automation.nightly_schedule(using["postgres"].time_zone)],
        sensors=automation.sensors,
        resources=using,
        executor=dg.in_process_executor,
    )


def _linked_to_source(assets: Sequence[dg.AssetsDefinition]) -> Sequence[Any]:
    """The assets, with a link to its source on each one's page."""
    with warnings.catch_warnings():
        # Told at every asset and every load, where a user can do nothing about it.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.with_source_code_references(assets)


defs = build_defs()
