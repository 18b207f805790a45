"""The TOML file that maps files of a shop's own onto users, products, events and search logs: its form."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from shop_platform.errors import SourceError

#: SQL in DuckDB's dialect.
Expression = Annotated[str, Field(min_length=1)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name!r} is no IANA time zone") from error
    return name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShopSection(_Strict):
    """What the shop is called and which conventions it keeps."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
    title: str
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    searchers_are_users: bool = True
    notes: tuple[str, ...] = ()


class FilesSection(_Strict):
    """Where the files are. `base` is relative to the TOML file; `SHOP_DATA` takes its place when set."""

    base: str = "."
    tables: dict[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")], str]


class LeaveOut(_Strict):
    """Rows to leave out, and the reason under which they are counted; the first that holds for a row counts."""

    reason: str
    where: Expression


class UserColumns(_Strict):
    """Expressions for the columns of `users`."""

    user_id: Expression
    signup_date: Expression
    name: Expression = "NULL"
    email: Expression = "NULL"
    city: Expression = "NULL"
    country: Expression = "NULL"


class ProductColumns(_Strict):
    """Expressions for the columns of `products`."""

    product_id: Expression
    name: Expression
    category: Expression
    price: Expression


class EventColumns(_Strict):
    """Expressions for the columns of `events`; they are numbered in the order of time."""

    user_id: Expression
    product_id: Expression
    event_type: Expression
    timestamp: Expression


class SearchColumns(_Strict):
    """Expressions for the columns of search logs."""

    user_id: Expression
    search_query: Expression
    timestamp: Expression
    clicked_product_ids: Expression = "[]"


class _Kind(_Strict):
    source: Expression = Field(alias="from")
    leave_out: tuple[LeaveOut, ...] = ()


class Users(_Kind):
    """How users are read."""

    columns: UserColumns


class Products(_Kind):
    """How products are read."""

    columns: ProductColumns


class Events(_Kind):
    """How events are read."""

    columns: EventColumns


class Searches(_Kind):
    """How search logs are read."""

    columns: SearchColumns


class Mapping(_Strict):
    """The whole file."""

    shop: ShopSection
    files: FilesSection
    users: Users
    products: Products
    events: Events
    searches: Searches

    def kind(self, kind: Literal["users", "products", "events", "searches"]) -> Users | Products | Events | Searches:
        """The section of one kind of rows."""
        found: Users | Products | Events | Searches = getattr(self, kind)
        return found


def read_mapping(path: Path) -> Mapping:
    """Read and check a mapping.

    Raises:
        SourceError: the file is missing, is no TOML, or has a key that is unknown, missing or of a wrong form;
            the message names the file and each such key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {path}: give the path of a mapping, see docs/your_own_data.md.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SourceError(f"{path} can't be read as TOML: {error}.") from error
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors())
        raise SourceError(f"{path} is not a mapping as it should be: {problems}.") from error
