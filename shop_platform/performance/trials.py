"""Tries a query on the copy with some of its indexes hidden: one set of rows, whatever is compared.

An index is hidden by dropping it in a transaction that is rolled back afterwards. So every variant reads the very same
pages, and any subset of the indexes that were built can be compared with any other, in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from shop_platform.errors import MeasurementError
from shop_platform.performance.indexes import LIVE
from shop_platform.performance.laboratory import COPY, IMPERSONAL, hiding_indexes, set_search_path
from shop_platform.performance.plans import Plan, parse_plan
from shop_platform.performance.queries import Rows, answer
from shop_platform.performance.rounds import Rule, take_rounds
from shop_platform.performance.statistics import NEGLIGIBLE, ratio_of_medians
from shop_platform.resources.patience import is_lost
from shop_platform.resources.postgres import BENCHMARK, Connection, may_take

#: High end over low end of an interval that is narrow enough, and the distance from 1 at which none need be narrow.
NARROW, FAR = NEGLIGIBLE, 1.5

_EVICT = "pg_buffercache_evict_relation(regclass)"

#: Rounds with cold buffers.
COLD = Rule(warm_ups=0, least=5, most=5, seconds=0)

Cursor = psycopg.Cursor[TupleRow]

#: Of the order within the rounds.
SEED = 1


@dataclass(frozen=True)
class Variant:
    """A way to answer a question.

    Attributes:
        text: SQL with unqualified names.
        indexes: of the indexes built on the copy, those that are there for it; all others are hidden.
        schema: where unqualified names are looked up first; then in the copy, then, for functions and for tables
            of the user's own, in schema public.
        parameters: values by name, for `%(name)s` in the text.
    """

    text: str
    indexes: frozenset[str] = frozenset()
    schema: str = COPY
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trials:
    """Runs variants on the copy.

    Attributes:
        connection: in autocommit; nobody else uses it meanwhile.
        built: every index that was built on the copy besides primary keys.
        seconds: longest time that one execution may take.
    """

    connection: Connection
    built: frozenset[str]
    seconds: int

    def interleave(self, name: str, variants: Mapping[str, Variant], rule: Rule) -> tuple[dict[str, list[float]], Rows]:
        """Seconds by variant, and the answer that every execution of every variant gave.

        All variants run in one session, so that none has a warmer process than another. An answer whose order the
        query leaves open counts as the same in any order.

        Raises:
            MeasurementError: an answer differs from the first one, or an execution took too long.
        """
        answers: list[tuple[str, Rows]] = []

        def check(variant: str, rows: Rows) -> None:
            answers.append((variant, rows))
            first, expected = answers[0]
            if rows != expected and sorted(map(repr, rows)) != sorted(map(repr, expected)):
                raise MeasurementError(
                    f"The query {name} gives different answers {_words(first)} and {_words(variant)}: times of "
                    "different answers can't be compared. Measure again; if this comes back, the query does not "
                    "determine its answer, or the texts that should give the same do not."
                )
            del answers[1:]

        ways = {key: partial(self._execution, name, variant) for key, variant in variants.items()}
        return take_rounds(ways, check, rule, SEED, enough=sharp, what=f"measuring {name}"), answers[0][1]

    def explain(self, name: str, variant: Variant) -> Plan:
        """The plan of one execution, with the buffers that it touched.

        Raises:
            MeasurementError: the execution took too long, or the text is not a query that can be executed.
        """
        with self._hiding(name, variant):
            row = self._explain("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ", variant).fetchone()
        return parse_plan(None if row is None else row[0])

    def can_evict(self) -> bool:
        """Whether the server can evict a table's pages from its buffers: `pg_buffercache` of PostgreSQL 18 can."""
        row = self.connection.execute("SELECT to_regprocedure(%s) IS NOT NULL", [_EVICT]).fetchone()
        return bool(row and row[0])

    @cached_property
    def _role(self) -> sql.Composable:
        """What queries are executed as: the least role, where it can be taken."""
        return sql.Identifier(BENCHMARK) if may_take(self.connection, BENCHMARK) else sql.SQL("NONE")

    def evict(self) -> None:
        """Evict all tables and indexes of the copy from PostgreSQL's buffers, not from the operating system's."""
        self.connection.execute("SET LOCAL ROLE NONE")
        self.connection.execute(
            "SELECT pg_buffercache_evict_relation(c.oid::regclass) FROM pg_class AS c JOIN pg_namespace AS n"
            " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind IN ('r', 'i')",
            [COPY],
        )
        self.connection.execute(sql.SQL("SET LOCAL ROLE {}").format(self._role))

    def cold(self, name: str, variants: Mapping[str, Variant]) -> dict[str, list[float]] | None:
        """Seconds by variant, each right after an eviction; None where the server can't evict."""
        if not self.can_evict():
            return None

        @contextmanager
        def evicted(variant: Variant) -> Iterator[Callable[[], Rows]]:
            with self._execution(name, variant) as execute:
                self.evict()
                yield execute

        ways = {key: partial(evicted, variant) for key, variant in variants.items()}
        return take_rounds(ways, lambda _name, _rows: None, COLD, SEED, what=f"measuring {name}, cold")

    @contextmanager
    def _execution(self, name: str, variant: Variant) -> Iterator[Callable[[], Rows]]:
        with self._hiding(name, variant):
            # Hiding an index makes the server forget what it knows of the table: planning once brings it back.
            self._explain("EXPLAIN ", variant)
            yield lambda: answer(self.connection, variant.text, variant.parameters)

    @contextmanager
    def _hiding(self, name: str, variant: Variant) -> Iterator[None]:
        """A transaction in which only the variant's indexes are there: read-only, limited in time, rolled back."""
        try:
            with hiding_indexes(self.connection, self.built - variant.indexes):
                set_search_path(self.connection, variant.schema, COPY, LIVE)
                self.connection.execute(
                    sql.SQL("SET LOCAL statement_timeout = {}; SET TRANSACTION READ ONLY; SET LOCAL ROLE {}").format(
                        sql.Literal(f"{self.seconds}s"), self._role
                    )
                )
                yield
        except psycopg.errors.InsufficientPrivilege as error:
            raise MeasurementError(
                f"The query {name} reads what measured queries may not: {_first_line(error)}. Of users they read "
                f"{', '.join(IMPERSONAL)} alone; for a table of yours, GRANT SELECT ON it TO {BENCHMARK}."
            ) from error
        except psycopg.errors.QueryCanceled as error:
            raise MeasurementError(
                f"The query {name} took longer than {self.seconds} s on the copy and was stopped. Give it more time "
                "(SHOP_QUERY_TIME_LIMIT), or take it out of the measured queries."
            ) from error
        except psycopg.Error as error:
            if is_lost(error):
                raise
            raise MeasurementError(f"The query {name} can't be executed: {_first_line(error)}") from error

    def _explain(self, how: str, variant: Variant) -> Cursor:
        return self.connection.execute(sql.SQL(how) + sql.SQL(variant.text), variant.parameters or None, prepare=False)


def sharp(times: Mapping[str, list[float]]) -> bool:
    """Whether each variant's ratio to the first one is known well enough to be given its word.

    It is where its interval is narrower than the band that is called no effect, or lies far from 1. Looks at how
    narrow the interval is, not at what it says: stopping once a result pleases would bend the intervals.
    """
    first, *others = times.values()
    ratios = [ratio_of_medians(first, other) for other in others]
    return all(r.high / r.low < NARROW or r.low > FAR or r.high < 1 / FAR for r in ratios)


def milliseconds(seconds: Sequence[float]) -> list[float]:
    """Times in ms, to a tenth of a microsecond."""
    return [round(1000 * second, 4) for second in seconds]


def _words(variant: str) -> str:
    return variant.replace("_", " ")


def _first_line(error: psycopg.Error) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
