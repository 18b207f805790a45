"""Eager aggregation: facts counted by key before they are joined to the dimension whose columns are added up.

Yan and Larson, Eager Aggregation and Lazy Aggregation, 1995.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.grouping import Grouped, replaced, take
from shop_platform.performance.advice.parsing import column_of
from shop_platform.performance.advice.reading import conjuncts
from shop_platform.performance.advice.sums import column_type, exact_sum, source_tables, whole

if TYPE_CHECKING:
    from sqlglot import exp

#: Alias of the counted facts, and name of their number.
COUNTED = "counted"
NUMBER = "rows_of_key"


@dataclass(frozen=True)
class _Star:
    """A fact table joined to a dimension by the dimension's primary key; both as columns of the query."""

    fact_key: exp.Column
    dimension_key: exp.Column

    def sides(self, tree: exp.Expr) -> set[str]:
        from sqlglot import exp

        return {each.table for each in tree.find_all(exp.Column)}


def preaggregate(grouped: Grouped, catalog: Mapping[str, Table]) -> exp.Select | None:
    """The query with its facts counted first; None where it is not of this shape, or adds up inexact numbers."""
    star = _star(grouped.select, catalog)
    filters = None if star is None else _filters(grouped.select, star)
    if star is None or filters is None:
        return None
    new: dict[exp.Expr, exp.Expr] = {}
    for aggregate in grouped.aggregates:
        weighted = _weighted(aggregate, star, grouped, catalog)
        if weighted is None:
            return None
        new[aggregate] = weighted
    # The join makes both keys equal, so either stands for the other.
    new[star.fact_key] = star.dimension_key
    made = _assembled(grouped, star, filters, new)
    return made if _reads_counted_facts_only(made, star) else None


def _star(select: exp.Select, catalog: Mapping[str, Table]) -> _Star | None:
    """The two tables, if there are two and an inner join by a dimension's primary key alone."""
    from sqlglot import exp

    joins, tables = select.args.get("joins") or [], source_tables(select)
    if len(joins) != 1 or len(tables) != 2 or joins[0].side or joins[0].kind not in ("", "INNER"):
        return None
    on = joins[0].args.get("on")
    on = on.unnest() if on is not None else None
    if not isinstance(on, exp.EQ) or not all(isinstance(side, exp.Column) for side in (on.this, on.expression)):
        return None
    stars = [_Star(on.this, on.expression), _Star(on.expression, on.this)]
    fitting = [star for star in stars if _fits(select, star, tables, catalog)]
    return max(fitting, key=lambda star: catalog[tables[star.fact_key.table]].rows, default=None)


def _fits(select: exp.Select, star: _Star, tables: Mapping[str, str], catalog: Mapping[str, Table]) -> bool:
    dimension = catalog.get(tables.get(star.dimension_key.table, ""))
    return (
        dimension is not None
        and star.fact_key.table in tables
        and star.fact_key.table != star.dimension_key.table
        and dimension.primary_key == (star.dimension_key.name,)
        and column_type(select, star.fact_key, catalog) == column_type(select, star.dimension_key, catalog)
    )


def _filters(select: exp.Select, star: _Star) -> tuple[list[exp.Expr], list[exp.Expr]] | None:
    """Conditions on the facts, and on the dimension; None where one is on both, or asks another query."""
    from sqlglot import exp

    facts: list[exp.Expr] = []
    dimension: list[exp.Expr] = []
    where = select.args.get("where")
    for part in conjuncts(where.this) if where is not None else ():
        sides = star.sides(part)
        if len(sides) != 1 or part.find(exp.Query) is not None:
            return None
        (facts if sides == {star.fact_key.table} else dimension).append(part)
    return facts, dimension


def _weighted(aggregate: exp.AggFunc, star: _Star, grouped: Grouped, catalog: Mapping[str, Table]) -> exp.Expr | None:
    """What an aggregate over joined facts is, where each row stands for a number of them."""
    from sqlglot import exp

    number = column_of(COUNTED, NUMBER)
    if isinstance(aggregate, exp.Count):
        return whole(exp.Sum(this=number), empty=not grouped.keys) if isinstance(aggregate.this, exp.Star) else None
    of_dimension = star.sides(aggregate) == {star.dimension_key.table}
    if type(aggregate) in (exp.Min, exp.Max):
        return aggregate if of_dimension and not aggregate.expressions else None
    if not isinstance(aggregate, exp.Sum) or not of_dimension:
        return None
    # As numeric, since a product of integers might not fit where their sum does.
    weight = exp.cast(number, "numeric", dialect="postgres")
    return exact_sum(
        exp.Sum(this=exp.Mul(this=weight, expression=aggregate.this.copy())),
        column_type(grouped.select, aggregate.this, catalog),
    )


def _assembled(
    grouped: Grouped,
    star: _Star,
    filters: tuple[list[exp.Expr], list[exp.Expr]],
    new: Mapping[exp.Expr, exp.Expr],
) -> exp.Select:
    from sqlglot import exp

    select = grouped.select
    join = select.args["joins"][0]
    sources = {source.alias_or_name: source for source in (select.args["from_"].this, join.this)}
    key = star.fact_key
    rows = exp.Select(
        expressions=[
            exp.alias_(key.copy(), key.name),
            exp.alias_(exp.Count(this=exp.Star(), big_int=True), NUMBER),
        ]
    )
    rows.set("from_", exp.From(this=sources[key.table].copy()))
    _filter(rows, filters[0])
    rows.set("group", exp.Group(expressions=[key.copy()]))
    made = exp.Select(expressions=[replaced(item, new.get) for item in select.expressions])
    made.set("from_", exp.From(this=rows.subquery(COUNTED)))
    on = exp.EQ(this=column_of(COUNTED, key.name), expression=star.dimension_key.copy())
    made.set("joins", [exp.Join(this=sources[star.dimension_key.table].copy(), on=on)])
    _filter(made, filters[1])
    take(made, select, "with_", "limit", "offset")
    take(made, select, "group", "having", "order", by=new.get)
    return made


def _filter(select: exp.Select, conditions: list[exp.Expr]) -> None:
    from sqlglot import exp

    if conditions:
        select.set("where", exp.Where(this=exp.and_(*(condition.copy() for condition in conditions))))


def _reads_counted_facts_only(made: exp.Select, star: _Star) -> bool:
    from sqlglot import exp

    parts = [*made.expressions, *(made.args[name] for name in ("group", "having", "order") if made.args.get(name))]
    known = {star.dimension_key.table, COUNTED, ""}
    clash = COUNTED in (star.dimension_key.table, star.fact_key.table)
    return not clash and all(each.table in known for part in parts for each in part.find_all(exp.Column))
