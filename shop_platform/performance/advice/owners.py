"""Says which table a column is of where sqlglot gives up: beside sources whose columns nobody has listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shop_platform.performance.advice.catalog import Table

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope


def name_owners(tree: exp.Query, catalog: Mapping[str, Table]) -> None:
    """Write the table's alias before columns that can only be of one table of the catalog.

    PostgreSQL takes a column of the SELECT's own sources before one of an outer query, and refuses one that two
    sources have. So a column that one listed table has is that table's, whatever other sources there are.

    Args:
        tree: a query, its tables with aliases; changed in place.
        catalog: tables by name.
    """
    from sqlglot import exp
    from sqlglot.optimizer.scope import traverse_scope

    for scope in traverse_scope(tree):
        for column in scope.columns:
            if not column.table and not _is_output(column, scope):
                owner = _owner(scope, column.name, catalog, local=isinstance(column.parent, exp.Group))
                if owner is not None:
                    column.set("table", owner.copy())


def _is_output(column: exp.Column, scope: Scope) -> bool:
    """Whether a bare name in ORDER BY is an output column's. In GROUP BY, columns of sources come first."""
    from sqlglot import exp

    item = column.parent
    sorts = isinstance(item, exp.Ordered) and item.parent is not None and item.parent.parent is scope.expression
    return sorts and column.name in _outputs(scope)


def _outputs(scope: Scope) -> list[str]:
    from sqlglot import exp

    return scope.expression.named_selects if isinstance(scope.expression, exp.Query) else []


def _owner(scope: Scope, name: str, catalog: Mapping[str, Table], *, local: bool) -> exp.Identifier | None:
    """The alias of the one listed source that has such a column; unless `local`, also further out, past functions."""
    from sqlglot import exp

    inner: Scope | None = scope
    while inner is not None:
        sources = inner.selected_sources.items()
        listed = [alias for alias, (_, source) in sources if _has(source, name, catalog)]
        if len(listed) == 1:
            return exp.to_identifier(listed[0])
        if listed or not all(_is_known(source, catalog) for _, (_, source) in sources):
            return None
        inner = inner.parent if inner.can_be_correlated and not local else None
    return None


def _has(source: exp.Table | Scope, name: str, catalog: Mapping[str, Table]) -> bool:
    from sqlglot import exp

    if not isinstance(source, exp.Table):
        return name in _outputs(source)
    if not isinstance(source.this, exp.Identifier):
        return source.alias == name
    table = catalog.get(source.name)
    return table is not None and table.column(name) is not None


def _is_known(source: exp.Table | Scope, catalog: Mapping[str, Table]) -> bool:
    """Whether all columns of a source are known: of a function, one of its alias's name."""
    from sqlglot import exp

    return not isinstance(source, exp.Table) or not isinstance(source.this, exp.Identifier) or source.name in catalog
