"""Reads PostgreSQL's plans: their nodes, the indexes that they use, the buffers that they touch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shop_platform.errors import MeasurementError

_PREFIX = {"Sorted": "Group", "Hashed": "Hash", "Mixed": "Mixed"}


@dataclass(frozen=True)
class Plan:
    """What a plan says about an executed query.

    Attributes:
        nodes: one description a node, as EXPLAIN words them, each parent before its children.
        indexes: names of the indexes that the plan reads, sorted.
        buffers_hit: blocks of 8 kB found in PostgreSQL's shared buffers.
        buffers_read: blocks that were not there and had to be read.
    """

    nodes: tuple[str, ...]
    indexes: tuple[str, ...]
    buffers_hit: int
    buffers_read: int


def parse_plan(explained: Any) -> Plan:  # noqa: ANN401  decoded JSON of any shape; whatever is no plan is refused
    """Read the decoded output of `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)`.

    Raises:
        MeasurementError: it is not such an output, or was made without ANALYZE or BUFFERS.
    """
    try:
        root = explained[0]["Plan"]
        nodes = list(_walk(root))
        return Plan(
            nodes=tuple(map(_describe, nodes)),
            indexes=tuple(sorted({node["Index Name"] for node in nodes if "Index Name" in node})),
            # A node's buffers include those of its children.
            buffers_hit=int(root["Shared Hit Blocks"]),
            buffers_read=int(root["Shared Read Blocks"]),
        )
    except (KeyError, IndexError, TypeError) as error:
        raise MeasurementError(
            f"The plan can't be read ({type(error).__name__}: {error}): expected the output of "
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) of PostgreSQL 13 or newer."
        ) from error


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _describe(node: dict[str, Any]) -> str:
    words = [_node_type(node)]
    if "Index Name" in node:
        words.append(f"using {node['Index Name']}")
    if "Relation Name" in node:
        words.append(f"on {node['Relation Name']}")
    return " ".join(words)


def _node_type(node: dict[str, Any]) -> str:
    """The node's type as the text form of EXPLAIN words it: the JSON form splits strategy and type."""
    kind: str = node["Node Type"]
    if kind == "Aggregate":
        kind = f"{_PREFIX.get(node.get('Strategy', ''), '')}Aggregate"
        if node.get("Partial Mode", "Simple") != "Simple":
            kind = f"{node['Partial Mode']} {kind}"
    return f"Parallel {kind}" if node.get("Parallel Aware") else kind
