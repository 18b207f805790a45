"""Jobs, and the sensors that load a source that moved and refresh what new events and new search logs affect."""

from collections.abc import Iterable, Sequence

import dagster as dg

from shop_platform.alerts import current_troubles, tell
from shop_platform.changes import consumed_state, event_state
from shop_platform.commerce.by_month import BY_MONTH
from shop_platform.housekeeping import forget_runs
from shop_platform.loaded import due_of, holds, loaded_states, until
from shop_platform.performance.freshness import measurements_outgrown
from shop_platform.performance.queries import measured_queries
from shop_platform.processes import end_dead_runs
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.postgres import READER, PostgresResource, clock
from shop_platform.resources.shop import ShopResource
from shop_platform.retention.counting import defined_otherwise
from shop_platform.retention.definition import Definition
from shop_platform.segmentation.freshness import log_state, profiles_due, settled_state
from shop_platform.segmentation.segments import load_segments
from shop_platform.settings import load_settings
from shop_platform.verifying import TAGS

SOURCE = ("users", "products", "events", "user_logs")
SUMMARIES = ("activity_summaries",)
LABORATORY = ("baseline_benchmark", "commerce_indexes", "indexed_benchmark", "index_effects", "index_advice")
RETENTION = ("cohort_retention", "retention_heatmap", "retention_curves", "retention_export")
BY_SEGMENT = ("segment_retention",)
SEGMENTATION = ("search_embeddings", "user_segments", "segmented_user_logs")
PROFILES = ("segment_profiles",)

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

#: Seconds between two looks of a sensor.
INTERVAL = 10

#: Assets of one part or all, without those that are made by months: a run without a partition can't make these.
_BY_MONTH = dg.AssetSelection.tag(*next(iter(BY_MONTH.items())))

everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all() - _BY_MONTH,
    description="The whole platform, from the sources to the report.",
)
part_jobs = [
    dg.define_asset_job(
        part,
        selection=dg.AssetSelection.groups(part) - _BY_MONTH,
        description=f"All assets of the group {part}, on stored data.",
    )
    for part in ("commerce", "performance", "retention", "segmentation", "report")
]


#: What the nightly run makes again, from the stored data, with everything checked.
PUBLISHED = (*SUMMARIES, *RETENTION, *SEGMENTATION, *BY_SEGMENT, *PROFILES, "shop_report")

nightly = dg.define_asset_job(
    "nightly",
    selection=dg.AssetSelection.assets(*PUBLISHED),
    tags=TAGS,
    description="What is published, made again and compared whole with what a rebuild gives, where others take a "
    "sample.",
)


def nightly_schedule(time_zone: str) -> dg.ScheduleDefinition:
    """Every night at half past three by the shop's clock."""
    return dg.ScheduleDefinition(
        name="nightly",
        job=nightly,
        cron_schedule="30 3 * * *",
        execution_timezone=time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Whatever has drifted unnoticed by day is found by morning.",
    )


def decide(
    *, state: str, consumed: str | None, cursor: str | None, running: bool, assets: Sequence[str], what: str
) -> dg.SensorResult | dg.SkipReason:
    """Whether a sensor asks for a run.

    Args:
        state: what its data looks like now.
        consumed: what it looked like when the published result was made; None where there is no result yet.
        cursor: the state for which a run was asked last. A run that failed is not asked for again until the data
            changes once more, so that a broken refresh does not run without end.
        running: whether a run that makes these assets is under way; what came meanwhile waits for its end.
        assets: keys of the assets to refresh.
        what: name of the data, for the reason.
    """
    if consumed is None:
        return dg.SkipReason(f"Nothing to refresh: {assets[0]} has not been materialised yet.")
    if state == consumed:
        return dg.SkipReason(f"No new {what}.")
    if running:
        return dg.SkipReason("A refresh is under way.")
    if state == cursor:
        return dg.SkipReason(f"A refresh for these {what} was asked for already and did not finish; see its run.")
    selection = [dg.AssetKey(asset) for asset in assets]
    return dg.SensorResult([dg.RunRequest(asset_selection=selection)], cursor=state)


def _is_running(context: dg.SensorEvaluationContext, assets: Iterable[str]) -> bool:
    """Whether a run that makes one of the assets has not ended yet, whoever asked for it."""
    end_dead_runs(context.instance)
    keys = {dg.AssetKey(asset) for asset in assets}
    runs = context.instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))
    # A run without a selection makes all assets of its job; which these are is not worth knowing.
    return any(run.asset_selection is None or keys & run.asset_selection for run in runs)


def _events_decision(
    context: dg.SensorEvaluationContext,
    postgres: PostgresResource,
    consumer: str,
    assets: Sequence[str],
    otherwise: str = "",
) -> dg.SensorResult | dg.SkipReason:
    """Decide by the state of the events; and, where it is given, by what else should be otherwise than it was."""
    with postgres.connect(role=READER) as connection:
        state = event_state(connection)
        consumed = consumed_state(connection, consumer)
    return decide(
        state=f"{state}{otherwise}",
        consumed=None if consumed is None else str(consumed),
        cursor=context.cursor,
        running=_is_running(context, assets),
        assets=assets,
        what="events",
    )


@dg.sensor(
    name="source_refresh",
    asset_selection=list(SOURCE),
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New, changed or removed files, or whatever else the source is made of: load what differs.",
)
def source_refresh(
    context: dg.SensorEvaluationContext, postgres: PostgresResource, shop: ShopResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for a load once the source is not as it was at the last one. What has not changed is then left alone."""
    state = shop.shop().source.state()
    with postgres.connect(role=READER) as connection:
        loaded, now = loaded_states(connection), clock(connection)
    behind = [each for each in loaded.values() if not holds(each, state, now)]
    due = due_of(behind[0]) if behind else None
    return decide(
        # Asked for once when the source moves, and once when rows that lay in the future have happened.
        state=until(state, due) + " again" if due else state,
        consumed=None if "commerce" not in loaded else (behind or [state])[0],
        cursor=context.cursor,
        running=_is_running(context, SOURCE),
        assets=SOURCE,
        what="data in the source",
    )


@dg.sensor(
    name="performance_refresh",
    asset_selection=[*SUMMARIES, *LABORATORY],
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New, changed or deleted events: rebuild the summaries, and measure again where the table has grown.",
)
def performance_refresh(
    context: dg.SensorEvaluationContext, postgres: PostgresResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the summaries, and for the measurements once `events` has outgrown them."""
    assets = list(SUMMARIES)
    with postgres.connect(role=READER) as connection:
        if consumed_state(connection, SUMMARIES[0]) not in (None, event_state(connection)) and measurements_outgrown(
            connection, load_settings().remeasure_growth, measured_queries(load_settings().queries)
        ):
            assets += LABORATORY
    return _events_decision(context, postgres, SUMMARIES[0], assets)


@dg.sensor(
    name="retention_refresh",
    asset_selection=list(RETENTION),
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New, changed or deleted events and users, or another definition: count the cohorts again.",
)
def retention_refresh(
    context: dg.SensorEvaluationContext, postgres: PostgresResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the cohort matrix and what shows it; also where the settings define it otherwise than it was counted."""
    with postgres.connect(role=READER) as connection:
        redefined = defined_otherwise(connection, Definition.of(load_settings(), postgres.time_zone))
    return _events_decision(context, postgres, RETENTION[0], RETENTION, redefined)


def by_segment() -> bool:
    """Whether retention is broken down by segment, so that new segments mean another matrix."""
    return load_settings().retention_breakdown == "segment"


@dg.sensor(
    name="segmentation_refresh",
    asset_selection=[*SEGMENTATION, *PROFILES, *RETENTION],
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New, changed or deleted search logs, or other segments: encode queries and segment their searchers.",
)
def segmentation_refresh(
    context: dg.SensorEvaluationContext,
    postgres: PostgresResource,
    elasticsearch: ElasticsearchResource,
    encoder: EncoderResource,
) -> dg.SensorResult | dg.SkipReason:
    """Ask for segments where search logs came, changed or went; once a day for what describes them, which reads all.

    And for retention, where that is by segment.
    """
    with elasticsearch.client() as client:
        state = log_state(client, elasticsearch.index_prefix, encoder.model_name, load_segments())
    with postgres.connect(role=READER) as connection:
        settled = settled_state(connection, state)
        due = PROFILES if profiles_due(connection) else ()
    assets = [*SEGMENTATION, *due, *(RETENTION if by_segment() else ())]
    return decide(
        state=str(state),
        consumed=None if settled is None else str(settled),
        cursor=context.cursor,
        running=_is_running(context, assets),
        assets=assets,
        what="search logs",
    )


report_refresh = dg.AutomationConditionSensorDefinition(
    "report_refresh",
    target=dg.AssetSelection.groups("report") | dg.AssetSelection.assets(*BY_SEGMENT),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=INTERVAL,
    description="New segments or another matrix: retention by segment; any new result: the report.",
)


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Failed runs, checks that did not pass, stale assets: told once, in the log and to SHOP_ALERT_WEBHOOK.",
)
def alerts(context: dg.SensorEvaluationContext, shop: ShopResource) -> dg.SkipReason:
    """Tell what is wrong since the last look, whoever started the run in which it went wrong."""
    if context.repository_def is None:
        raise AssertionError("Dagster gives a sensor its repository")
    graph = context.repository_def.asset_graph
    troubles = current_troubles(context.instance, graph.materializable_asset_keys, graph.asset_check_keys)
    new = tell(troubles, shop.shop().title, shop.folder() / "alerts.json", load_settings().alert_webhook)
    for text in new:
        context.log.warning(text)
    return dg.SkipReason(" ".join(new) or f"Nothing new is wrong; {len(troubles)} troubles last.")


@dg.sensor(
    name="housekeeping",
    minimum_interval_seconds=600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="More runs than SHOP_KEEP_RUNS: the oldest are forgotten, but for those that made what stands.",
)
def housekeeping(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Keep Dagster's history to its size."""
    if context.repository_def is None:
        raise AssertionError("Dagster gives a sensor its repository")
    graph = context.repository_def.asset_graph
    forgotten = forget_runs(
        context.instance, graph.materializable_asset_keys, graph.asset_check_keys, load_settings().keep_runs
    )
    return dg.SkipReason(f"{forgotten} old runs were forgotten.")


jobs = [everything, nightly, *part_jobs]
sensors: list[dg.SensorDefinition] = [
    source_refresh,
    performance_refresh,
    retention_refresh,
    segmentation_refresh,
    report_refresh,
    alerts,
    housekeeping,
]
