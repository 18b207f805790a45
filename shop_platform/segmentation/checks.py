"""Results of the checks on the assets of this room: counts in, Dagster's results out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from shop_platform.segmentation.encoding import Encoding
from shop_platform.segmentation.labelling import Labelled
from shop_platform.segmentation.logs import LogLoad
from shop_platform.segmentation.model import LOW_MARGIN, LOW_SHARE
from shop_platform.segmentation.orphans import Orphans
from shop_platform.segmentation.quality import MOVED_AT_MOST, UNSURE, UNSURE_AT_MOST

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

NO_SEARCHES = "Nobody has searched for anything, so there are no segments to show."

SPECS: Mapping[str, list[dg.AssetCheckSpec]] = {
    "user_logs": [
        dg.AssetCheckSpec("documents_match_source", asset="user_logs", blocking=True),
        dg.AssetCheckSpec("no_orphans", asset="user_logs"),
    ],
    "search_embeddings": [dg.AssetCheckSpec("one_each", asset="search_embeddings", blocking=True)],
    "user_segments": [
        dg.AssetCheckSpec("every_searcher_once", asset="user_segments", blocking=True),
        dg.AssetCheckSpec("segments_supported", asset="user_segments", blocking=True),
    ],
    "segmented_user_logs": [
        dg.AssetCheckSpec("one_of_the_segments", asset="segmented_user_logs"),
        dg.AssetCheckSpec("counts_match", asset="segmented_user_logs"),
    ],
    "segment_profiles": [dg.AssetCheckSpec("segments_hold", asset="segment_profiles")],
}


def documents_match_source(load: LogLoad, rows_in_quarantine: int) -> dg.AssetCheckResult:
    """All rows of the source are there, left out on purpose, or in the quarantine; others may have added documents."""
    complete = load.own == load.rows_loaded if load.changed else load.documents >= load.rows_loaded
    quarantined = sum(load.quarantined.values())
    return dg.AssetCheckResult(
        check_name="documents_match_source",
        passed=load.adds_up and complete and rows_in_quarantine == quarantined,
        # Once loaded, the shop may delete documents of its own: worth a look, no reason to stop.
        severity=ERROR if load.changed else WARN,
        description=f"The source holds {load.rows_read:,} search logs; {load.rows_loaded:,} were loaded, "
        f"{sum(load.left_out.values()):,} left out on purpose and {quarantined:,} quarantined, of which "
        f"ops.quarantine holds {rows_in_quarantine:,}. The index holds {load.documents:,}.",
        metadata={
            "documents": load.documents,
            "rows_read": load.rows_read,
            "rows_loaded": load.rows_loaded,
            "left_out": sum(load.left_out.values()),
            "quarantined": quarantined,
            "rows_in_quarantine": rows_in_quarantine,
        },
    )


def no_orphans(orphans: Orphans) -> dg.AssetCheckResult:
    """Searchers and clicked products exist. An error in our own source, a warning where somebody else wrote it."""
    return dg.AssetCheckResult(
        check_name="no_orphans",
        passed=not orphans.own and not orphans.others,
        severity=ERROR if orphans.own else WARN,
        description=str(orphans),
        metadata={"of_the_source": orphans.own.total(), "added_since": orphans.others.total()},
    )


def one_each(encoding: Encoding) -> dg.AssetCheckResult:
    """One embedding for each distinct query and each example phrase, and none else."""
    return dg.AssetCheckResult(
        check_name="one_each",
        passed=encoding.stored == encoding.wanted,
        severity=ERROR,
        description=f"{encoding.stored:,} embeddings where there should be {encoding.wanted:,}: one for each distinct "
        "query and each example phrase.",
        metadata={"stored": encoding.stored, "wanted": encoding.wanted},
    )


def every_searcher_once(record: Mapping[str, Any], rows: int, named: int) -> dg.AssetCheckResult:
    """Every searcher is in one of the segments.

    Args:
        record: of the segmentation.
        rows: users in the table.
        named: of them, those in one of the segments that `segments.toml` names.
    """
    return dg.AssetCheckResult(
        check_name="every_searcher_once",
        passed=record["users"] == rows == named == sum(segment["users"] for segment in record["segments"]),
        severity=ERROR,
        description=f"{record['users']:,} searchers with a query that says something; {rows:,} in the table, {named:,} "
        "of them in a known segment.",
        metadata={"searchers": record["users"], "rows": rows, "in_a_known_segment": named},
    )


def segments_supported(record: Mapping[str, Any]) -> dg.AssetCheckResult:
    """The data shows that the segments exist; one that it does not is only a name, and nobody is put into it.

    An error where it shows none of them: then nothing is published. A shop without searches has no segments to show.
    """
    searched = record["users"] > 0
    weak = [segment["name"] for segment in record["segments"] if not segment["supported"]]
    none = bool(record["fitted"]) and len(weak) == len(record["segments"])
    if not searched:
        why = NO_SEARCHES
    elif not record["fitted"]:
        why = "Too few different searchers to learn from: each got the segment whose example phrases are like theirs."
    elif none:
        why = (
            "The data support none of the segments: what the searchers of each look for is no nearer to its example "
            "phrases than to another's. Nothing was published; write phrases that fit the shop into SHOP_SEGMENTS."
        )
    elif weak:
        why = (
            f"The data do not support {', '.join(weak)}: what set its searchers apart was no nearer to its own example "
            f"phrases than to another segment's, by a margin of {LOW_MARGIN}, or they were under {LOW_SHARE:.0%} of "
            "all. Nobody was put into it."
        )
    else:
        why = f"Every segment is told apart by a margin of {LOW_MARGIN} or more."
    return dg.AssetCheckResult(
        check_name="segments_supported",
        passed=not searched or (bool(record["fitted"]) and not weak),
        severity=ERROR if none else WARN,
        description=why,
        metadata={
            segment["name"]: segment["margin"] for segment in record["segments"] if segment["margin"] is not None
        },
    )


def one_of_the_segments(done: Labelled, names: Sequence[str]) -> dg.AssetCheckResult:
    """Every document that was read carries its searcher's segment, which is one of those there are.

    Documents of searchers who came during the run wait for the next refresh: a warning.
    """
    last = done.passes[-1]
    unknown = set(done.found) - set(names)
    wrong = last.documents - last.correct - last.waiting
    which = "" if done.all_read else "that are new, or whose searcher has searched anew, "
    return dg.AssetCheckResult(
        check_name="one_of_the_segments",
        passed=last.settled and not unknown and last.waiting == 0,
        severity=WARN if last.settled and not unknown else ERROR,
        description=f"Of the {last.documents:,} documents {which}{last.correct:,} were read back with their "
        f"searcher's segment, {wrong:,} carry another one, and {last.waiting:,} are of searchers who came after the "
        "users were segmented." + (f" Segments that there are not: {', '.join(sorted(unknown))}." if unknown else ""),
        metadata={"documents": last.documents, "correct": last.correct, "wrong": wrong, "waiting": last.waiting},
    )


def counts_match(done: Labelled) -> dg.AssetCheckResult:
    """Documents by segment, counted by Elasticsearch, are those that the searchers' segments ask for."""
    last = done.passes[-1]
    return dg.AssetCheckResult(
        check_name="counts_match",
        passed=dict(sorted(done.found.items())) == done.expected,
        # Documents that were added or deleted since the users were segmented are no error of ours.
        severity=ERROR if sum(done.expected.values()) == last.total else WARN,
        description=f"Elasticsearch counts {sum(done.found.values()):,} documents with a segment; "
        f"{sum(done.expected.values()):,} of {last.total:,} should have one.",
        metadata=dict(done.found),
    )


def segments_hold(quality: Mapping[str, Any] | None, searchers: int) -> dg.AssetCheckResult:
    """Users stay in their segment when others are left out, and most are sure of it."""
    if quality is None:
        return dg.AssetCheckResult(
            check_name="segments_hold",
            passed=searchers == 0,
            severity=WARN,
            description="Too few different searchers to say how good the segments are." if searchers else NO_SEARCHES,
        )
    return dg.AssetCheckResult(
        check_name="segments_hold",
        passed=bool(quality["good"]),
        severity=WARN,
        description=f"Of {quality['users']:,} searchers, {quality['resampled']:.1%} are told otherwise by a model "
        f"learned from four fifths of them (at most {MOVED_AT_MOST:.0%} is good), and {quality['unsure']:.1%} are in a "
        f"segment with a probability under {UNSURE} (at most {UNSURE_AT_MOST:.0%}).",
        metadata={name: quality[name] for name in ("resampled", "unsure", "second_method", "random_starts")},
    )
