"""What to do about rows that break the contract: examples, and lines to paste into the mapping."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from shop_platform.sources.contract import Kind
from shop_platform.sources.expressions import query_of, quoted
from shop_platform.sources.mapping import Mapping

if TYPE_CHECKING:
    import duckdb

#: Columns whose values are nobody's business.
_PERSONAL = ("name", "email", "city")

#: How people write times, the less ambiguous first.
FORMATS = (
    "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y-%m-%d", "%Y%m%d", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y",
    "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y",
    "%d %b %Y %H:%M", "%d %b %Y", "%b %d, %Y",
)  # fmt: skip

#: What a name of an event contains, and what it means then; the first that fits counts.
_MEANINGS = (
    (r"remove|delete|return|refund|cancel|login|logout|signup|register|search", ""),
    (r"cart|basket|bag|add", "add_to_cart"),
    (r"purchas|order|buy|bought|paid|pay|checkout|transaction|sale|sold", "purchased"),
    (r"view|see|seen|saw|visit|click|page|impression|detail|look|open", "viewed"),
)


def meaning_of(name: str) -> str:
    """What an event of this name probably is; "" where nothing fits."""
    return next((meaning for pattern, meaning in _MEANINGS if re.search(pattern, name.lower())), "")


def time_format(connection: duckdb.DuckDBPyConnection, expression: str, source: str) -> str | None:
    """The way in which the times of a text are written that most of them follow; None where hardly any follow one."""
    best, most = None, 0.0
    for form in FORMATS:
        row = connection.execute(
            f"SELECT avg((try_strptime(CAST(({expression}) AS VARCHAR), {quoted(form)}) IS NOT NULL)::INTEGER)"  # noqa: S608
            f" FROM (SELECT * FROM ({query_of(source)}) LIMIT 2000) WHERE ({expression}) IS NOT NULL"
        ).fetchone()
        share = float(row[0] or 0) if row else 0.0
        if share > most + 0.01:
            best, most = form, share
    return best if most > 0.5 else None


def examples(
    connection: duckdb.DuckDBPyConnection, kind: Kind, reason: str, column: str | None, expression: str
) -> list[str]:
    """Up to three of the rows: file and line, or the values of the fields that the column is made from."""
    rows = connection.execute(
        f"SELECT origin, row FROM shop.{kind} WHERE reason = ? AND row IS NOT NULL ORDER BY origin, row LIMIT 3",  # noqa: S608
        [reason],
    ).fetchall()
    if column is None:
        return [origin for origin, _ in rows if origin]
    if kind == "users" and column in _PERSONAL:
        return []
    found = []
    for _, text in rows:
        row = json.loads(text)
        used = (
            [name for name in row if re.search(rf"\b{re.escape(name)}\b", expression)] if isinstance(row, dict) else []
        )
        values = [f"{name} = {_short(row[name])}" for name in used]
        if values and ", ".join(values) not in found:
            found.append(", ".join(values))
    return found


def for_error(message: str) -> str | None:
    """What to do where an expression can't be applied; None where the message says it."""
    if "syntax error" in message:
        return (
            "Names that SQL takes for its own words, or with spaces, need double quotes inside: timestamp = '\"at\"'."
        )
    return "Correct the name in that section." if "Candidate bindings" in message or "not found" in message else None


def for_reason(
    connection: duckdb.DuckDBPyConnection,
    mapping: Mapping,
    kind: Kind,
    reason: str,
    column: str | None,
    expression: str,
) -> str | None:
    """What to write into the mapping, or to look at."""
    section = mapping.kind(kind)
    if section is None or column is None:
        return "Mend these lines in the file, or leave them in the quarantine."
    if reason.startswith("no usable") and column in ("timestamp", "signup_date"):
        return _for_time(connection, section.source, kind, column, expression)
    if reason == "unknown event_type":
        return _for_names(connection, section.source, expression)
    if reason.startswith(("unknown ", "click on")):
        return _for_reference(connection, kind, reason, column)
    return {
        "no usable price": 'Say what a missing price is, as in defaults = { price = "0" } of [products], or how it is'
        " written, as in price = \"replace(price, ',', '.')\".",
        "no category": 'Give one to products that lack it: defaults = { category = "uncategorised" } in [products].',
        "before the user's signup": "Is the time zone right (naive_times in [shop])? Or take the first event for the "
        'signup: without_signup = "first event" in [users], without a signup_date.',
    }.get(reason) or (
        f"Are day and month mistaken for each other, or is the time zone wrong? Else mend {column} in the source."
        if reason.endswith("in the future")
        else "The first is kept, by the earliest signup. Leave the others out on purpose, or mend the source."
        if "more than once" in reason
        else f"Mend {column} in the source, or leave these rows out on purpose with leave_out in [{kind}]."
    )


def _for_time(connection: duckdb.DuckDBPyConnection, source: str, kind: Kind, column: str, expression: str) -> str:
    form = None if "strptime" in expression else time_format(connection, expression, source)
    if form is not None:
        return f"""[{kind}.columns]\n{column} = "try_strptime({expression.replace('"', "")}, '{form}')\""""
    if "strptime" in expression:
        return f"These are written otherwise: mend them in the source, or leave them out on purpose in [{kind}]."
    if column == "signup_date":
        return 'Take the first event for the signup where it is missing: without_signup = "first event" in [users].'
    return f"Say how it is written, as in {column} = \"try_strptime({expression}, '%d.%m.%Y %H:%M')\"."


def _for_names(connection: duckdb.DuckDBPyConnection, source: str, expression: str) -> str:
    names = connection.execute(
        f"SELECT CAST(({expression}) AS VARCHAR), count(*) FROM ({query_of(source)})"  # noqa: S608  the mapping's own
        " GROUP BY 1 HAVING NOT coalesce(CAST(({e}) AS VARCHAR) IN ('viewed', 'add_to_cart', 'purchased'), true)"
        " ORDER BY 2 DESC, 1 LIMIT 20".replace("{e}", expression)
    ).fetchall()
    lines = [f"{json.dumps(name)} = {json.dumps(meaning_of(name))}  # {count:,} rows" for name, count in names]
    return "\n".join(["[events.meaning]", *lines, '# "" leaves such events out on purpose.'])


def _for_reference(connection: duckdb.DuckDBPyConnection, kind: Kind, reason: str, column: str) -> str:
    """Whether what they refer to is quarantined itself, or would fit, were ids written alike."""
    other = "users" if column == "user_id" else "products"
    lost = connection.execute(
        f"SELECT count(*) FILTER (WHERE row IS NOT NULL), count(*) FROM shop.{other}"  # noqa: S608  one of two names
    ).fetchone()
    if lost and lost[0] > 0.02 * lost[1]:
        return f"Mend [{other}] first: {lost[0]:,} of its {lost[1]:,} rows would be quarantined."
    if kind != "events":
        return "Set searchers_are_users = false in [shop] where those who search need not have signed up."
    row = connection.execute(
        f"SELECT count(*) FROM shop.{kind} WHERE reason = ? AND ltrim(upper(trim({column})), '0') IN"  # noqa: S608  our names
        f" (SELECT ltrim(upper(trim({column})), '0') FROM shop.{other} WHERE reason IS NULL)",
        [reason],
    ).fetchone()
    if row and row[0]:
        return (
            f"{row[0]:,} of them would fit, were {column} written alike in [{other}] and [{kind}]: spaces, capitals or "
            "leading zeros differ. Use the same expression in both, such as upper(trim(...))."
        )
    return f"Do [{other}] and [{kind}] mean the same by {column}? Are rows of {other} missing, or quarantined?"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
