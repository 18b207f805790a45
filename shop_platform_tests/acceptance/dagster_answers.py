"""Asks Dagster's GraphQL for all that it can tell: its own schema, of the webserver's packages, says what there is."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from dagster_graphql.schema import create_schema
from graphql import (
    GraphQLInterfaceType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

#: What is asked for by a query of its own, where it may be long or leads back to what it was reached from.
_BY_ITSELF = frozenset(
    {
        "Asset", "AssetCheck", "AssetNode", "ConfigType", "DagsterType", "Instance", "InstigationState", "Job", "Mode",
        "PartitionBackfill", "PartitionSet", "Pipeline", "PipelineSnapshot", "Repository", "RepositoryLocation",
        "Run", "RunGroup", "Schedule", "Sensor", "Solid", "SolidDefinition", "Workspace",
    }
)  # fmt: skip

#: How often what leads back to itself is within each other: an error and what caused it.
_AGAIN = {"PythonError": 2}

#: How many objects within each other are asked for.
_DEPTH = 4

#: How often a query is asked for again, without the fields that Dagster fails to answer.
_TRIES = 30


def ask(url: str, query: str) -> Any:
    """What a webserver answers to a query."""
    return json.loads(_post(url, query))["data"]


@dataclass
class Asker:
    """Asks for whole objects, and keeps what was answered.

    Attributes:
        url: of the webserver.
        answers: each as it came, those with errors among them.
        left_out: fields that Dagster itself fails to answer, as `Type_field`.
    """

    url: str
    answers: list[str] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)

    def ask_for(self, root: str, arguments: str = "", open_up: Collection[str] = (), depth: int = _DEPTH) -> Any:
        """Ask for a field of the schema's root with all that it holds; returns the answer.

        In it each field is named `Type_field`. What Dagster answers with an error is asked for again without the field.

        Args:
            root: name of the field.
            arguments: of it, as `(name: value)`.
            open_up: types that otherwise are asked for by themselves.
            depth: how many objects within each other.
        """
        kind = get_named_type(_schema().query_type.fields[root].type)  # type: ignore[union-attr]
        for _ in range(_TRIES):
            fields = _selection(kind.name, _BY_ITSELF - set(open_up), self.left_out, depth)
            text = _post(self.url, f"{{ {root}{arguments} {fields} }}")
            self.answers.append(text)
            answer = json.loads(text)
            if "errors" not in answer:
                return answer["data"][root]
            self.left_out |= {_failed(error) for error in answer["errors"]}
        raise AssertionError(f"{root}{arguments} is never answered: {answer['errors'][:3]}")


def every(answer: Any, name: str) -> list[Any]:
    """All values of a field `Type_field`, wherever it is."""
    if isinstance(answer, list):
        return [value for each in answer for value in every(each, name)]
    if not isinstance(answer, dict):
        return []
    own = [answer[name]] if name in answer else []
    return own + [value for each in answer.values() for value in every(each, name)]


@cache
def _schema() -> GraphQLSchema:
    return create_schema().graphql_schema


def _failed(error: dict[str, Any]) -> str:
    """The field with which an error has to do."""
    names = [each for each in error.get("path", []) if isinstance(each, str) and "_" in each]
    if not names:
        raise AssertionError(f"not answered: {error}")
    return str(names[-1])


def _selection(
    name: str, closed: Collection[str], left_out: Collection[str], depth: int, path: tuple[str, ...] = ()
) -> str:
    """All fields of a type that need no argument, and those of what they hold, but for what is closed or on the way."""
    kind = _schema().type_map[name]
    parts = ["__typename"]
    if isinstance(kind, GraphQLUnionType | GraphQLInterfaceType):
        within = {*path, *(closed if path else ())}
        parts += [
            f"... on {each.name} {_selection(each.name, closed, left_out, depth, path)}"
            for each in _schema().get_possible_types(kind)
            if each.name not in within
        ]
        return f"{{ {' '.join(parts)} }}"
    path = (*path, name)
    for key, each in kind.fields.items():  # type: ignore[attr-defined]
        # Two types of a union may have fields of one name that differ.
        alias, inner = f"{name}_{key}", get_named_type(each.type)
        if alias in left_out or any(is_required_argument(argument) for argument in each.args.values()):
            continue
        if is_leaf_type(inner):
            parts.append(f"{alias}: {key}")
        elif depth and inner.name not in closed and path.count(inner.name) < _AGAIN.get(inner.name, 1):
            parts.append(f"{alias}: {key} {_selection(inner.name, closed, left_out, depth - 1, path)}")
    return f"{{ {' '.join(parts)} }}"


def _post(url: str, query: str) -> str:
    request = urllib.request.Request(  # noqa: S310  our own server
        f"{url}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  our own server
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        # A query in which something failed to be answered.
        return error.read().decode()
