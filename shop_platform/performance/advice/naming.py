"""Names of proposed indexes: they say what is in the index, and two different indexes do not share one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.keys import Key, Predicate

#: PostgreSQL cuts longer names off.
LONGEST = 63

_SUFFIX = 7


def index_name(
    prefix: str,
    table: Table,
    definition: str,
    keys: Sequence[Key],
    include: Sequence[str],
    predicates: Sequence[Predicate],
) -> str:
    """A name made of the predicates' values and the keys, e.g. `idx_events_purchased_product_id`.

    It ends with part of the definition's hash, unless the readable part says it all. The same definition always gets
    the same name. It begins with `prefix`.
    """
    words = [prefix, table.name]
    words += [word for predicate in predicates for word in predicate.words]
    words += [name for key in keys for name in key.columns]
    words += ["with", *include] if include else []
    readable = re.sub(r"[^a-z0-9]+", "_", "_".join(words).lower()).strip("_")
    if _says_it_all(table, keys, include, predicates) and len(readable) <= LONGEST:
        return readable
    return with_hash(readable, f"{table.name} {definition}")


def with_hash(readable: str, definition: str) -> str:
    """A readable name, cut to length, and the first six digits of a hash."""
    return f"{readable[: LONGEST - _SUFFIX].rstrip('_')}_{hashlib.sha256(definition.encode()).hexdigest()[:6]}"


def _says_it_all(table: Table, keys: Sequence[Key], include: Sequence[str], predicates: Sequence[Predicate]) -> bool:
    """Whether nothing but columns, and at most one value of one column, is to be told.

    Names of columns must leave no doubt: of columns `a`, `b` and `a_b`, none gets a name without a hash.
    """
    columns = [name for key in keys for name in key.columns]
    plain = not include and all(key.sql.strip('"') == key.columns[0] for key in keys)
    told = not predicates or (len(predicates) == 1 and predicates[0].sql.endswith(f"= '{predicates[0].words[0]}'"))
    return plain and told and _readings("_".join(columns), tuple(column.name for column in table.columns)) == 1


def _readings(text: str, names: tuple[str, ...]) -> int:
    """In how many ways a text is names joined by underscores."""
    ends = [1] + [0] * (len(text) + 1)
    for start in range(len(text) + 1):
        for name in names:
            if ends[start] and text[start:].startswith(name) and f"{text}_"[start + len(name)] == "_":
                ends[start + len(name) + 1] += ends[start]
    return ends[len(text) + 1]
