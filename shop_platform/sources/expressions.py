"""The SQL that a mapping means, in DuckDB's dialect. Pure: texts in and out."""

from __future__ import annotations

import re

from shop_platform.sources.contract import TYPES, Kind
from shop_platform.sources.mapping import AnyKind, Mapping, Meaning


def own_reasons(mapping: Mapping, kind: Kind) -> list[tuple[str, str]]:
    """What the mapping leaves out on purpose: reason and condition."""
    own = [(rule.reason, rule.where) for rule in _section(mapping, kind).leave_out]
    if kind == "events":
        named = f"CAST(({mapping.events.columns.event_type}) AS VARCHAR)"
        own += [
            (f"{name} means nothing here", f"{named} = {quoted(name)}")
            for name, meaning in mapping.events.meaning.items()
            if not meaning
        ]
    return own


def expressions_of(mapping: Mapping, kind: Kind) -> dict[str, str]:
    """Expression of each column in its type: as the mapping gives it, with meanings, defaults and first events."""
    section = _section(mapping, kind)
    found = section.columns.model_dump()
    if kind == "events":
        found["event_type"] = meant(found["event_type"], mapping.events.meaning)
    expressions = {name: cast(found[name], type_) for name, type_ in TYPES[kind].items()}
    for name, value in section.defaults.items():
        type_ = TYPES[kind][name]
        given = f"nullif(trim({expressions[name]}), '')" if type_ == "VARCHAR" else expressions[name]
        expressions[name] = f"coalesce({given}, CAST({quoted(value)} AS {type_}))"
    if kind == "users" and mapping.users.without_signup == "first event":
        first = f"(SELECT first_at FROM shop.first_events WHERE who = {expressions['user_id']})"  # noqa: S608
        usable = f"{expressions['signup_date']} BETWEEN TIMESTAMPTZ '1900-01-01' AND TIMESTAMPTZ '2200-01-01'"
        expressions["signup_date"] = f"CASE WHEN {usable} THEN {expressions['signup_date']} ELSE {first} END"
    return expressions


def _section(mapping: Mapping, kind: Kind) -> AnyKind:
    section = mapping.kind(kind)
    if section is None:
        raise AssertionError("only a kind that the mapping has is read")
    return section


def query_of(source: str) -> str:
    """A query as it is; the name of a table as a query of it."""
    return source if re.match(r"\s*(select|with|from)\b", source, re.IGNORECASE) else f"FROM {source}"


def meant(expression: str, meaning: dict[str, Meaning]) -> str:
    """A text that says what an event of this name is."""
    text = f"CAST(({expression}) AS VARCHAR)"
    cases = "".join(f" WHEN {quoted(name)} THEN {quoted(found)}" for name, found in meaning.items() if found)
    return f"CASE {text}{cases} ELSE {text} END" if cases else expression


def cast(expression: str, type_: str) -> str:
    """An expression in the type of its column, NULL where it does not fit; a list that is not there is empty."""
    cast = f"TRY_CAST(({expression}) AS {type_})"
    return f"CASE WHEN ({expression}) IS NULL THEN [] ELSE {cast} END" if type_.endswith("[]") else cast


def first_of(cases: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    """The reason of the first condition that holds."""
    whens = "".join(f" WHEN {where} THEN {quoted(reason)}" for reason, where in cases)
    return f"CASE{whens} ELSE NULL END" if whens else "CAST(NULL AS VARCHAR)"


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
