"""What the users of each segment click and buy, by category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from shop_platform.resources.postgres import Connection

#: Counts by segment and category.
Counts = Mapping[str, Mapping[str, int]]

_PAGE = 10_000


def clicked_categories(client: Elasticsearch, alias: str, connection: Connection) -> Counts:
    """Clicks by the searcher's segment and the product's category; those on unknown products are left out."""
    counts: dict[str, Counter[str]] = {}
    after: dict[str, Any] = {}
    while True:
        sources = [
            {"segment": {"terms": {"field": "segment"}}},
            {"product": {"terms": {"field": "clicked_product_ids"}}},
        ]
        composite = {"size": _PAGE, "sources": sources} | ({"after": after} if after else {})
        found = client.search(index=alias, size=0, aggs={"pairs": {"composite": composite}})["aggregations"]["pairs"]
        products = sorted({bucket["key"]["product"] for bucket in found["buckets"]})
        category_of: dict[str, str] = dict(
            connection.execute(
                "SELECT product_id, category FROM products WHERE product_id = ANY(%s)", [products]
            ).fetchall()
        )
        for bucket in found["buckets"]:
            category = category_of.get(bucket["key"]["product"])
            if category is not None:
                counts.setdefault(bucket["key"]["segment"], Counter())[category] += bucket["doc_count"]
        after = found.get("after_key", {})
        if not after:
            return {segment: dict(each) for segment, each in sorted(counts.items())}


def bought_categories(connection: Connection) -> Counts:
    """Purchases by the user's segment and the product's category."""
    rows = connection.execute(
        "SELECT segment, category, count(*) FROM analytics.user_segments JOIN events USING (user_id)"
        " JOIN products USING (product_id) WHERE event_type = 'purchased' GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2"
    )
    counts: dict[str, dict[str, int]] = {}
    for segment, category, purchases in rows:
        counts.setdefault(segment, {})[category] = purchases
    return counts


def association(counts: Counts, names: Sequence[str]) -> float | None:
    """Cramer's V of segment and category, in [0, 1]: 0 where all segments click alike; None where none click."""
    import numpy as np
    from scipy.stats.contingency import association as association_of

    categories = sorted({category for each in counts.values() for category in each})
    table = np.array([[counts.get(name, {}).get(category, 0) for category in categories] for name in names])
    table = table[table.sum(axis=1) > 0] if table.size else table
    if min(table.shape) < 2:
        return None
    return round(float(association_of(table, method="cramer")), 4)


def shares(counts: Counts, segment: str, most: int = 3) -> str:
    """The largest categories of a segment with their shares, for people."""
    of = counts.get(segment, {})
    total = sum(of.values())
    largest = sorted(of.items(), key=lambda item: (-item[1], item[0]))[:most]
    return ", ".join(f"{category} {count / total:.0%}" for category, count in largest)
