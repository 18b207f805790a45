"""Proposes a mapping for what is there. Pure: tables in, TOML out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shop_platform.sources.examining import Column, Table
from shop_platform.sources.hints import meaning_of
from shop_platform.sources.roles import Roles, roles_of

#: In front of what a person should look at.
CHECK = "# Please check: "


@dataclass
class Proposal:
    """A mapping as text, and sentences on what was not found."""

    lines: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole file."""
        return "\n".join(self.lines) + "\n"


_Found = tuple[Table, Roles]


def propose(tables: Sequence[Table], name: str) -> Proposal:
    """A mapping of these tables onto users, products, events and search logs.

    Args:
        tables: as they were examined.
        name: of the shop, whatever it looks like.
    """
    found = [(table, roles_of(table)) for table in tables]
    events = _pick(found, lambda r: bool(r.user and r.product and r.time and not r.query), _rows)
    searches = _pick(found, lambda r: bool(r.query and r.time), _rows)
    users = _pick([f for f in found if f not in (events, searches) and _unique(f, f[1].user)], lambda r: not r.product)
    products = _pick(
        [f for f in found if f not in (events, searches) and _unique(f, f[1].product)], lambda r: not r.user
    )
    proposal = Proposal()
    _write_shop(proposal, name, searches, users)
    _write_places(proposal, tables)
    _write_users(proposal, users, events)
    _write_products(proposal, products, events)
    _write_events(proposal, events)
    _write_searches(proposal, searches)
    return proposal


def _pick(
    found: Sequence[_Found], fits: Callable[[Roles], bool], best: Callable[[_Found], int] | None = None
) -> _Found | None:
    fitting = [each for each in found if fits(each[1])]
    return max(fitting, key=best or _known, default=None)


def _rows(found: _Found) -> int:
    return found[0].rows


def _known(found: _Found) -> int:
    """How many columns play a part."""
    return sum(value is not None for value in vars(found[1]).values())


def _unique(found: _Found, column: str | None) -> bool:
    return column is not None and found[0].column(column).distinct > 0.95


def _write_shop(proposal: Proposal, name: str, searches: _Found | None, users: _Found | None) -> None:
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "my_shop"
    plain = plain if plain[0].isalpha() and plain != "shop" else f"my_{plain}"
    proposal.lines += [
        "# A mapping of this shop's data, made by `shop-platform init`. Try it: shop-platform doctor --config FILE",
        "",
        "[shop]",
        f"name = {json.dumps(plain[:40])}",
        f"title = {json.dumps(name.replace('_', ' ').title() or 'My shop')}",
        f'time_zone = "UTC"  {CHECK}the shop\'s own, such as "Europe/Paris"; also that of times without one',
        f'currency = "EUR"  {CHECK}as ISO 4217 has it',
    ]
    if searches and users is None:
        proposal.lines.append("searchers_are_users = false")


def _write_places(proposal: Proposal, tables: Sequence[Table]) -> None:
    for kind, section in (
        ("file", "files.tables"), ("postgres", "postgres.tables"), ("elasticsearch", "elasticsearch.indices"),
    ):  # fmt: skip
        mine = [table for table in tables if table.kind == kind]
        if mine:
            proposal.lines += ["", f"[{section}]", *(f"{table.name} = {_toml(table.place)}" for table in mine)]


def _write_users(proposal: Proposal, users: _Found | None, events: _Found | None) -> None:
    proposal.lines += ["", "[users]"]
    if users is not None:
        table, roles = users
        columns = {"user_id": _column(roles.user)}
        if roles.signup:
            columns["signup_date"] = _time(table.column(roles.signup))
        columns |= {
            part: _column(getattr(roles, part)) for part in ("name", "email", "city", "country") if getattr(roles, part)
        }
        proposal.lines.append(f"from = {_toml(table.name)}")
        if not roles.signup or table.column(roles.signup).filled < 1:
            proposal.lines.append(
                f'without_signup = "first event"  {CHECK}who has no signup gets the first event\'s time'
            )
        _write_columns(proposal, "users", columns)
        return
    if events is None:
        _write_missing(proposal, "users", "user_id, signup_date", "Who the users are was not found.")
        return
    table, roles = events
    proposal.lines += [
        f"{CHECK}there is no table of users; they are taken from the events, and sign up with the first one",
        f"from = {_toml(_users_of(table, roles))}",
        'without_signup = "first event"',
    ]
    columns = {"user_id": _column(roles.user)} | ({"country": "country"} if roles.country else {})
    _write_columns(proposal, "users", columns)


def _users_of(table: Table, roles: Roles) -> str:
    country = f", max({_column(roles.country)}) AS country" if roles.country else ""
    return f"SELECT {_column(roles.user)}{country} FROM {table.name} WHERE {_kept(roles)} GROUP BY 1"  # noqa: S608  a text


def _kept(roles: Roles) -> str:
    """Which rows of a table of events are somebody's and no returns."""
    conditions = [f"{_column(roles.user)} IS NOT NULL"]
    if roles.quantity:
        conditions.append(f"TRY_CAST({_column(roles.quantity)} AS DOUBLE) > 0")
    return " AND ".join(conditions)


def _write_products(proposal: Proposal, products: _Found | None, events: _Found | None) -> None:
    proposal.lines += ["", "[products]"]
    if products is None and events is None:
        _write_missing(proposal, "products", "product_id, name, category, price", "What is sold was not found.")
        return
    table, roles = products or events or (None, None)
    if table is None or roles is None:
        raise AssertionError("one of the two is there")
    if products is not None:
        proposal.lines.append(f"from = {_toml(table.name)}")
        columns = {"product_id": _column(roles.product), "name": _column(roles.name or roles.product)}
        columns |= {part: _column(getattr(roles, part)) for part in ("category", "price") if getattr(roles, part)}
        lacking = [part for part in ("category", "price") if not getattr(roles, part)]
        lacking += [p for p in ("category", "price") if p not in lacking and table.column(getattr(roles, p)).filled < 1]
    else:
        proposal.lines += [
            f"{CHECK}there is no table of products; they are taken from the events, with the most usual name and price",
            f"from = {_toml(_products_of(table, roles))}",
        ]
        columns = {"product_id": _column(roles.product), "name": "name"} | ({"price": "price"} if roles.price else {})
        columns |= {"category": "category"} if roles.category else {}
        lacking = [part for part in ("category", "price") if part not in columns]
    defaults = {"category": "uncategorised", "price": "0"}
    _write_columns(proposal, "products", columns)
    if lacking:
        proposal.lines += ["[products.defaults]"]
        proposal.lines += [
            f"{part} = {json.dumps(defaults[part])}  {CHECK}{part} is missing in the data, or in some rows"
            for part in lacking
        ]


def _products_of(table: Table, roles: Roles) -> str:
    product = _column(roles.product)
    name = f"coalesce(mode({_column(roles.name)}), {product})" if roles.name else product
    price = f", round(median(TRY_CAST({_column(roles.price)} AS DOUBLE)), 2) AS price" if roles.price else ""
    category = f", mode({_column(roles.category)}) AS category" if roles.category else ""
    where = _kept(roles) + (f" AND TRY_CAST({_column(roles.price)} AS DOUBLE) >= 0" if roles.price else "")
    chosen = f"{product}, {name} AS name{price}{category}"
    return f"SELECT {chosen} FROM {table.name} WHERE {where} GROUP BY {product}"  # noqa: S608  a text


def _write_events(proposal: Proposal, events: _Found | None) -> None:
    proposal.lines += ["", "[events]"]
    if events is None:
        said = "No table has users, products and times: what users did was not found."
        _write_missing(proposal, "events", "user_id, product_id, event_type, timestamp", said)
        return
    table, roles = events
    proposal.lines.append(f"from = {_toml(table.name)}")
    rules = []
    if table.column(roles.user or "").filled < 1:
        rules.append(f'{{ reason = "nobody\'s", where = {_toml(_column(roles.user) + " IS NULL")} }}')
    if roles.quantity:
        where = f"coalesce(TRY_CAST({_column(roles.quantity)} AS DOUBLE) <= 0, true)"
        rules.append(f'{{ reason = "return or cancellation", where = {_toml(where)} }}')
    if roles.price and not roles.event:
        where = f"TRY_CAST({_column(roles.price)} AS DOUBLE) < 0"
        rules.append(f'{{ reason = "price negative", where = {_toml(where)} }}')
    if rules:
        proposal.lines += ["leave_out = [", *(f"  {rule}," for rule in rules), "]"]
    kind = _column(roles.event) if roles.event else "'purchased'" if _sold(roles) else "'viewed'"
    if not roles.event:
        proposal.lines.append(f"{CHECK}no column says what an event is; all are taken for {kind.strip(chr(39))}")
    columns = {"user_id": _column(roles.user), "product_id": _column(roles.product), "event_type": kind}
    _write_columns(proposal, "events", columns | {"timestamp": _time(table.column(roles.time or ""))})
    names = table.column(roles.event).values if roles.event else ()
    strange = [name for name, _ in names if name not in ("viewed", "add_to_cart", "purchased")]
    if strange:
        proposal.lines += ["[events.meaning]", '# viewed, add_to_cart or purchased; "" leaves such events out.']
        proposal.lines += [_meaning(name) for name in strange]


def _sold(roles: Roles) -> bool:
    return bool(roles.quantity or roles.price or roles.invoice)


def _meaning(name: str) -> str:
    meaning = meaning_of(name)
    return f"{json.dumps(name)} = {json.dumps(meaning)}" + ("" if meaning else f"  {CHECK}left out")


def _write_searches(proposal: Proposal, searches: _Found | None) -> None:
    if searches is None:
        proposal.lines += [
            "",
            "# No search logs were found, so there will be no segments; a section [searches] adds them.",
        ]
        proposal.missing.append("No search logs were found: there will be no segments.")
        return
    table, roles = searches
    columns = {"user_id": _column(roles.user) if roles.user else "'nobody'", "search_query": _column(roles.query)}
    columns["timestamp"] = _time(table.column(roles.time or ""))
    if roles.clicks:
        columns["clicked_product_ids"] = _column(roles.clicks)
    proposal.lines += ["", "[searches]", f"from = {_toml(table.name)}"]
    if not roles.user:
        proposal.lines.append(f"{CHECK}no column says who searched")
    _write_columns(proposal, "searches", columns)


def _write_columns(proposal: Proposal, kind: str, columns: dict[str, str]) -> None:
    proposal.lines += [f"[{kind}.columns]", *(f"{name} = {_toml(expression)}" for name, expression in columns.items())]


def _write_missing(proposal: Proposal, kind: str, columns: str, said: str) -> None:
    proposal.missing.append(said)
    proposal.lines += [f"# {said} Write which table and which of its columns it is:", '# from = "..."']
    proposal.lines += [f"# [{kind}.columns]", *(f'# {name} = "..."' for name in columns.split(", "))]


def _time(column: Column) -> str:
    return _column(column.name) if column.form is None else f"try_strptime({_column(column.name)}, '{column.form}')"


def _column(name: str | None) -> str:
    return "NULL" if name is None else '"' + name.replace('"', '""') + '"'


def _toml(text: str) -> str:
    """A text as TOML writes it, without escapes where that goes."""
    return f"'{text}'" if '"' in text and "'" not in text else json.dumps(text, ensure_ascii=False)
