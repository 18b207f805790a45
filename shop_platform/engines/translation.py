"""Gives the SQL of `sql/` in Spark's dialect. Pure: sqlglot translates, and what it leaves is rewritten here.

Rewritten are constructs without a counterpart: psycopg's parameters, PostgreSQL's own functions on arrays, JSON and
time, and the project's SQL functions, which are put in place of their calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache

import sqlglot
from sqlglot import exp

from shop_platform import sqlfiles

Parameters = Mapping[str, str | int | None]

#: One of the project's SQL functions, as sql/schema/006_retention.sql writes them.
_FUNCTION = re.compile(
    r"CREATE FUNCTION analytics\.(?P<name>\w+)\((?P<parameters>[^)]*)\) RETURNS \w+\n"
    r"LANGUAGE sql [A-Z ]+\nRETURN (?P<body>.*?);\n\n",
    re.DOTALL,
)


def translate(text: str, parameters: Parameters | None = None) -> str:
    """A query of PostgreSQL's as Spark writes it; of an INSERT, the query whose rows it inserts.

    Args:
        text: one statement, or a DELETE and an INSERT, as the files in `sql/indexes/` are.
        parameters: values of psycopg's `%(name)s`.
    """
    *_, statement = [each for each in sqlglot.parse(text, read="postgres") if each is not None]
    query = statement.expression if isinstance(statement, exp.Insert) else statement
    if not isinstance(query, exp.Query):
        raise AssertionError("the text is no query and no INSERT of one")
    for cte in query.find_all(exp.CTE):
        cte.set("materialized", None)
    query = query.transform(lambda node: _parameter(node, parameters or {}))
    query = _with_functions(query).transform(_rewritten)
    return query.sql(dialect="spark", pretty=True, comments=False)


def translate_file(name: str, parameters: Parameters | None = None) -> str:
    """The same of the file `sql/<name>.sql`."""
    return translate(sqlfiles.read_sql(name).text, parameters)


def _parameter(node: exp.Expr, parameters: Parameters) -> exp.Expr:
    if not isinstance(node, exp.Placeholder):
        return node
    return exp.convert(parameters[node.name])


@cache
def _functions() -> dict[str, tuple[list[str], exp.Expr]]:
    """Names of the parameters and the body of each of the project's SQL functions."""
    text = sqlfiles.read_sql("schema/006_retention").text
    return {
        found["name"]: (
            [parameter.split()[0] for parameter in found["parameters"].split(",")],
            sqlglot.parse_one(found["body"], read="postgres"),
        )
        for found in _FUNCTION.finditer(text)
    }


def _with_functions(query: exp.Expr) -> exp.Expr:
    """The query with the bodies of the project's functions in place of their calls."""

    def inlined(node: exp.Expr) -> exp.Expr:
        call = node.expression if isinstance(node, exp.Dot) else node
        if not isinstance(call, exp.Anonymous) or call.name.lower() not in _functions():
            return node
        names, body = _functions()[call.name.lower()]
        given = dict(zip(names, call.expressions, strict=True))

        def argument(part: exp.Expr) -> exp.Expr:
            if isinstance(part, exp.Column) and not part.table and part.name in given:
                return exp.paren(given[part.name].copy())
            if isinstance(part, exp.Var) and isinstance(part.parent, exp.TimestampTrunc) and part.name.lower() in given:
                unit = given[part.name.lower()].find(exp.Literal)
                return part if unit is None else exp.var(unit.name.upper())
            return part

        return exp.paren(_with_functions(body.copy().transform(argument)))

    return query.transform(inlined)


def _rewritten(node: exp.Expr) -> exp.Expr:
    rewrite = _REWRITES.get(node.name.lower() if isinstance(node, exp.Anonymous) else type(node).__name__)
    return node if rewrite is None else rewrite(node)


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=[each.copy() for each in arguments])


def _case(node: exp.Expr) -> exp.Expr:
    """The branch that is taken, where a parameter says which."""
    subject = node.this and node.this.unnest()
    while isinstance(subject, exp.Cast):
        subject = subject.this.unnest()
    if not isinstance(subject, exp.Literal):
        return node
    taken = next((each.args["true"] for each in node.args["ifs"] if each.this == subject), node.args["default"])
    branch: exp.Expr = taken.unnest().transform(_rewritten)
    return branch


def _table(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Table) and node.db == "public":
        node.set("db", None)
    return node


def _array(node: exp.Expr) -> exp.Expr:
    """ARRAY(SELECT f(number) FROM generate_series(a, b) AS number ORDER BY number)."""
    select = node.expressions[0]
    series = select.find(exp.GenerateSeries, exp.ExplodingGenerateSeries)
    value = exp.Lambda(this=select.expressions[0].transform(_rewritten), expressions=[exp.to_identifier("number")])
    return _call("transform", _call("sequence", series.args["start"], series.args["end"]), value)


def _make_interval(node: exp.Expr) -> exp.Expr:
    """make_interval(months => a, days => b); Spark takes years, months, weeks and days by their place."""
    zero = exp.Literal.number(0)
    months, days = (node.args[unit].expression.transform(_rewritten) for unit in ("month", "day"))
    return _call("make_interval", zero, months, zero, days)


def _json_key(node: exp.Expr) -> exp.Expr:
    """`to_jsonb(users) ->> key`: the copy of the users holds that object as a text."""
    table = node.this.expressions[0].name
    path = _call("concat", exp.Literal.string("$."), node.expression)
    return _call("get_json_object", exp.column("attributes", table), path)


def _json_object(node: exp.Expr) -> exp.Expr:
    """`jsonb_object_agg(key, value) FILTER (...)`, as a text."""
    pairs = node.this
    if not isinstance(pairs, exp.JSONBObjectAgg):
        return node
    listed = exp.Filter(
        this=_call("collect_list", _call("struct", pairs.this, pairs.expression)), expression=node.expression.copy()
    )
    return _call("to_json", _call("map_from_entries", listed))


def _width_bucket(node: exp.Expr) -> exp.Expr:
    """At how many of the sorted bounds, or after them, a value lies."""
    reached = exp.Lambda(
        this=exp.LTE(this=exp.column("bound"), expression=node.this.copy()), expressions=[exp.to_identifier("bound")]
    )
    return _call("size", _call("filter", node.args["threshold"], reached))


def _six_hours(node: exp.Expr) -> exp.Expr:
    """`date_bin` by 6 hours, which begin at midnight, 6, 12 and 18 o'clock in UTC."""
    if node.this.name != "6 hours":
        raise AssertionError("only bins of six hours are rewritten")
    seconds = _call("unix_seconds", node.expression)
    return _call("timestamp_seconds", exp.Sub(this=seconds, expression=_call("pmod", seconds, exp.convert(21_600))))


def _iso_weekday(node: exp.Expr) -> exp.Expr:
    if node.name.upper() == "ISODOW":
        node.set("this", exp.var("DAYOFWEEK_ISO"))
    return node


_REWRITES: dict[str, Callable[[exp.Expr], exp.Expr]] = {
    "Array": _array,
    "Bracket": lambda node: _call("element_at", node.this, *node.expressions),
    "Case": _case,
    "DateBin": _six_hours,
    "Extract": _iso_weekday,
    "Filter": _json_object,
    # No moment in the copy is at infinity: such events are refused, and users who signed up then have no date there.
    "isfinite": lambda node: _call("isnotnull", *node.expressions),
    "JSONExtractScalar": _json_key,
    "MakeInterval": _make_interval,
    "Table": _table,
    "WidthBucket": _width_bucket,
}
