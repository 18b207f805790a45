"""The assets of the segmentation, from `user_logs` to `segment_profiles`."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` as it stands, ...

from dataclasses import asdict, replace
from functools import partial

import dagster as dg

from shop_platform.erasure.record import without_erased
from shop_platform.loaded import note_source, until
from shop_platform.metadata import PUBLISHED, Materialized, column_lineage, column_schema, markdown_table
from shop_platform.quarantine import forget_refused, keep_quarantine, keeping_refused, rows_in_quarantine
from shop_platform.records import find_record, write_record
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import WRITER, PostgresResource, as_role, clock
from shop_platform.resources.shop import ShopResource
from shop_platform.resources.snapshots import snapshot
from shop_platform.segmentation import checks, embeddings, logs, orphans
from shop_platform.segmentation.behaviour import shares
from shop_platform.segmentation.describing import PROFILES, describe_segments
from shop_platform.segmentation.encoding import encode_missing
from shop_platform.segmentation.keeping import first_kept, keeping_since, remove_older
from shop_platform.segmentation.labelling import label_documents
from shop_platform.segmentation.marks import later, mark_of
from shop_platform.segmentation.publishing import lock_segmentation
from shop_platform.segmentation.segmenting import WRITTEN, Room, refresh_segments
from shop_platform.segmentation.segments import load_segments, segments_digest
from shop_platform.settings import load_settings
from shop_platform.verifying import verifies_everything

_OWNERS = ["team:data-platform"]

_LOG_COLUMNS = {
    "user_id": ("keyword", "Who searched."),
    "search_query": ("text", "What was typed, as it was typed; also as a keyword."),
    "clicked_product_ids": ("keyword", "Products clicked among what was found; may be missing."),
    "timestamp": ("date", "When."),
}
_SEGMENT_COLUMNS = {
    "segment": ("keyword", "The searcher's segment."),
    "query_segment": ("keyword", "The segment that this one search looks like."),
    "segment_confidence": ("float", "Probability of the searcher's segment, given all that was searched for."),
    "segment_model": ("keyword", "What gave the segment: method, encoder, learned model."),
}
_SEGMENTED_LINEAGE = column_lineage(
    {
        **{column: [f"user_logs.{column}"] for column in _LOG_COLUMNS},
        "segment": ["user_segments.segment"],
        "query_segment": ["search_embeddings.vector"],
        "segment_confidence": ["user_segments.confidence"],
        "segment_model": ["user_segments.model"],
    }
)

_EMBEDDING_COLUMNS = {
    "query": ("text", "Normalised query; also as a keyword."),
    "origin": ("keyword", "search, or prototype for a segment's example phrase."),
    "model": ("keyword", "The encoder and its weights."),
    "embedding": ("dense_vector", "Of length 1; 384 dimensions by all-MiniLM-L6-v2."),
    "vector": ("binary", "The same, float32, to be read back exactly."),
}
_EMBEDDING_LINEAGE = column_lineage(
    {
        "query": ["user_logs.search_query"],
        "origin": [],
        "model": [],
        "embedding": ["user_logs.search_query"],
        "vector": ["user_logs.search_query"],
    }
)

_USER_COLUMNS = {
    "user_id": ("text", "Primary key."),
    "segment": ("text", "One of the segments in segments.toml."),
    "confidence": ("double precision", "Probability of the segment, given all that was searched for."),
    "distinct_queries": ("integer", "Distinct queries that the segment rests on."),
    "model": ("text", "What gave the segment: method, encoder, learned model."),
    "documents": ("bigint", "Search logs of the user."),
    "provisional": ("boolean", "Fewer than three distinct queries."),
}
_USER_LINEAGE = column_lineage(
    {
        "user_id": ["user_logs.user_id"],
        "segment": ["user_logs.search_query", "search_embeddings.vector"],
        "confidence": ["user_logs.search_query", "search_embeddings.vector"],
        "distinct_queries": ["user_logs.search_query"],
        "model": ["search_embeddings.model", "search_embeddings.vector"],
        "documents": ["user_logs.user_id"],
        "provisional": ["user_logs.search_query"],
    }
)


@dg.asset(
    group_name="segmentation",
    owners=_OWNERS,
    code_version="1",
    deps=["users", "products"],
    kinds={"elasticsearch"},
    description="Search logs: one document a search. Loaded once a source; documents that others add stay.",
    metadata={"dagster/column_schema": column_schema(_LOG_COLUMNS | _SEGMENT_COLUMNS)},
    check_specs=checks.SPECS["user_logs"],
)
def user_logs(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    elasticsearch: ElasticsearchResource,
    shop: ShopResource,
) -> Materialized:
    """Bring the search logs to what the source gives, unless they are that already."""
    the_shop = shop.shop()
    alias = f"{elasticsearch.index_prefix}{logs.ALIAS}"
    state = the_shop.source.state()
    with keeping_refused(postgres), elasticsearch.client() as client, postgres.connect() as connection:
        lock_segmentation(connection)
        now = clock(connection)
        first = first_kept(load_settings().search_logs_keep_days, now)
        given = keeping_since(without_erased(connection, the_shop.at(now)), first)
        # Who was erased is not for the writer to know.
        with as_role(connection, WRITER):
            keep = partial(keep_quarantine, connection, "user_logs")
            load = logs.load_logs(client, elasticsearch.index_prefix, given, keep, now=now)
            expired = remove_older(client, elasticsearch.index_prefix, first)
            load = replace(load, documents=load.documents - expired)
            forget_refused(connection, ["user_logs"])
            manifest = the_shop.source.manifest() if load.changed else None
            moved = note_source(connection, "user_logs", the_shop, until(state, load.due), manifest)
            context.log.info("Loaded %s search logs." if load.changed else "%s search logs are there.", load.documents)
            quarantined = rows_in_quarantine(connection, "user_logs")
            with snapshot(client, alias) as taken:
                found = orphans.find_orphans(
                    connection, taken.hits(orphans.FIELDS), searchers_are_users=the_shop.searchers_are_users
                )
            write_record(connection, "user_logs", context.run.run_id, asdict(replace(load, due=None)))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": load.documents,
            "dagster/table_name": alias,
            "source": the_shop.title,
            "loaded in this run": load.changed,
            "documents from elsewhere": load.documents - load.rows_loaded,
            "left out": markdown_table(["reason", "rows"], load.left_out.items()),
            "quarantined": markdown_table(["reason", "rows"], load.quarantined.items()),
            "documents added": load.added,
            "documents removed": load.removed,
            "documents expired": expired,
            **({} if moved is None else {"files": str(moved)}),
        },
        check_results=[checks.documents_match_source(load, quarantined), checks.no_orphans(found)],
    )


@dg.asset(
    group_name="segmentation",
    owners=_OWNERS,
    code_version="1",
    deps=[user_logs],
    kinds={"elasticsearch", "huggingface"},
    description="Embeddings of all distinct queries, once each, open to kNN search.",
    metadata={
        "dagster/column_schema": column_schema(_EMBEDDING_COLUMNS),
        "dagster/column_lineage": _EMBEDDING_LINEAGE,
    },
    check_specs=checks.SPECS["search_embeddings"],
)
def search_embeddings(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    elasticsearch: ElasticsearchResource,
    encoder: EncoderResource,
    engine: EngineResource,
) -> Materialized:
    """Encode the queries that have no embedding yet."""
    segments = load_segments()
    made_with = {"model": encoder.model_name, "segments": segments_digest(segments)}
    with elasticsearch.client() as client, postgres.connect(role=WRITER) as connection:
        lock_segmentation(connection)
        before = find_record(connection, "search_embeddings") or {}
        # Where embeddings were missing or too many, all is read: the next run mends what this one has found.
        same = made_with.items() <= before.items() and before["stored"] == before["wanted"]
        done = encode_missing(
            client,
            elasticsearch.index_prefix,
            segments,
            encoder,
            lambda text: context.log.info(text),
            since=later(mark_of(before), mark_of(find_record(connection, WRITTEN))) if same else None,
            before=before if same else None,
            engine=engine.encoding(postgres, elasticsearch.index_prefix, encoder.model_name),
        )
        write_record(connection, "search_embeddings", context.run.run_id, made_with | done.as_record())
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": done.stored,
            "dagster/column_lineage": _EMBEDDING_LINEAGE,
            "dagster/table_name": f"{elasticsearch.index_prefix}{embeddings.ALIAS}",
            "model": encoder.model_name,
            "search logs read": done.documents,
            "of them left out, as their query says nothing": done.blank,
            "encoded in this run": done.encoded,
            "removed in this run": done.removed,
        },
        check_results=[checks.one_each(done)],
    )


@dg.asset(
    group_name="segmentation",
    owners=_OWNERS,
    code_version="1",
    deps=[search_embeddings],
    kinds={"postgres", "scikitlearn", "table"},
    description="The segment of each searcher: users are clustered by KMeans, and told by what their queries say.",
    metadata={
        "dagster/column_schema": column_schema(_USER_COLUMNS),
        "dagster/column_lineage": _USER_LINEAGE,
        "dagster/table_name": "analytics.user_segments",
    },
    check_specs=checks.SPECS["user_segments"],
)
def user_segments(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    elasticsearch: ElasticsearchResource,
    encoder: EncoderResource,
) -> Materialized:
    """Cluster the searchers and publish their segments, all at once."""
    segments = load_segments()
    names = [segment.name for segment in segments]
    with elasticsearch.client() as client, postgres.connect(role=WRITER) as connection:
        room = Room(
            client, connection, elasticsearch.index_prefix, segments, encoder, load_settings().seed, context.run.run_id
        )
        record, told = refresh_segments(room)
        row = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE segment = ANY(%s)) FROM analytics.user_segments", [names]
        ).fetchone()
    rows, named = row or (0, 0)
    context.log.info("Told the segment of %s searchers; %s have one.", told, rows)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": rows,
            "dagster/column_lineage": _USER_LINEAGE,
            "model": record["model"],
            "searchers told in this run": told,
            "provisional, with under three distinct queries": record["provisional"],
            "distinct queries that wait for an embedding": record["later_queries"],
            "drift since the model was learned": dg.MetadataValue.json(record["drift"]),
            "segments": markdown_table(
                ["segment", "users", "share", "confidence", "margin", "supported", "what sets it apart"],
                (
                    (
                        each["name"],
                        each["users"],
                        f"{each['share']:.1%}",
                        each["mean_confidence"],
                        each["margin"],
                        "yes" if each["supported"] else "no",
                        ", ".join(each["queries"]),
                    )
                    for each in record["segments"]
                ),
            ),
        },
        check_results=[checks.every_searcher_once(record, rows, named), checks.segments_supported(record)],
    )


@dg.asset(
    group_name="segmentation",
    owners=_OWNERS,
    freshness_policy=PUBLISHED,
    code_version="1",
    deps=[user_segments, user_logs],
    kinds={"elasticsearch"},
    description="The search logs with the searcher's segment on each document, written by bulk partial updates.",
    metadata={
        "dagster/column_schema": column_schema(_LOG_COLUMNS | _SEGMENT_COLUMNS),
        "dagster/column_lineage": _SEGMENTED_LINEAGE,
    },
    check_specs=checks.SPECS["segmented_user_logs"],
)
def segmented_user_logs(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    elasticsearch: ElasticsearchResource,
    encoder: EncoderResource,
    engine: EngineResource,
) -> Materialized:
    """Write the segments onto the documents that carry another one, and read all of them back."""
    names = [segment.name for segment in load_segments()]
    with elasticsearch.client() as client:
        done = label_documents(
            client, partial(postgres.connect, role=WRITER), elasticsearch.index_prefix, encoder.model_name, names,
            everything=verifies_everything(context.run), write=engine.writing(postgres),
        )  # fmt: skip
    updated, conflicts, gone = (
        sum(getattr(each, name) for each in done.passes) for name in ("updated", "conflicts", "gone")
    )
    context.log.info("Wrote the segment of %s documents.", updated)
    with postgres.connect(role=WRITER) as connection:
        write_record(connection, WRITTEN, context.run.run_id, done.record)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": done.record["documents"],
            "dagster/column_lineage": _SEGMENTED_LINEAGE,
            "dagster/table_name": f"{elasticsearch.index_prefix}{logs.ALIAS}",
            "documents read in this run": done.passes[-1].documents,
            "documents updated in this run": updated,
            "changed by others meanwhile": conflicts,
            "deleted by others meanwhile": gone,
            "waiting for the next refresh": done.passes[-1].waiting,
            "segments": markdown_table(["segment", "documents"], sorted(done.found.items())),
        },
        check_results=[checks.one_of_the_segments(done, names), checks.counts_match(done)],
    )


@dg.asset(
    group_name="segmentation",
    owners=_OWNERS,
    code_version="1",
    deps=[segmented_user_logs, "events"],
    kinds={"elasticsearch", "postgres", "scikitlearn"},
    description="What the users of each segment click and buy, and how clear, stable and sure the segments are.",
    check_specs=checks.SPECS["segment_profiles"],
)
def segment_profiles(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    elasticsearch: ElasticsearchResource,
    encoder: EncoderResource,
) -> Materialized:
    """Describe the segments; how good they are is measured once for each model that was learned."""
    segments = load_segments()
    with elasticsearch.client() as client, postgres.connect(role=WRITER) as connection:
        record = describe_segments(
            Room(
                client, connection, elasticsearch.index_prefix, segments, encoder, load_settings().seed,
                context.run.run_id,
            )
        )  # fmt: skip
        write_record(connection, PROFILES, context.run.run_id, record)
    clicked, bought = record["clicked"], record["bought"]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(segments),
            "segments": markdown_table(
                ["segment", "clicks", "buys"],
                ((each.name, shares(clicked, each.name), shares(bought, each.name)) for each in segments),
            ),
            "association of segment and clicked category (Cramer's V)": record["clicks_by_segment"] or 0.0,
            "quality": dg.MetadataValue.json(record["quality"]),
        },
        check_results=[checks.segments_hold(record["quality"], record["users"])],
    )
