"""The TOML file that maps files of a shop's own onto users, products, events and search logs: its form."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from shop_platform.errors import SourceError
from shop_platform.settings import SCALES
from shop_platform.sources.base import QUARANTINE_AT_MOST
from shop_platform.sources.synthetic import shop_name

#: Names that are taken: the synthetic shops', and databases that every PostgreSQL has.
_TAKEN = (*map(shop_name, SCALES), "postgres", "template0", "template1")

#: SQL in DuckDB's dialect.
Expression = Annotated[str, Field(min_length=1)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name!r} is no IANA time zone") from error
    return name


def _free_name(name: str) -> str:
    if name in _TAKEN:
        raise ValueError(f"{name!r} is taken, give the shop a name of its own")
    return name


def _relative(pattern: str) -> str:
    if not pattern or Path(pattern).is_absolute():
        raise ValueError(f"{pattern!r} is no file name or pattern relative to `base`")
    return pattern


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShopSection(_Strict):
    """What the shop is called and which conventions it keeps."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$"), AfterValidator(_free_name)]
    title: str
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    searchers_are_users: bool = True
    quarantine_at_most: Annotated[float, Field(ge=0, le=1)] = QUARANTINE_AT_MOST
    notes: tuple[str, ...] = ()


class FilesSection(_Strict):
    """Where the files are.

    Attributes:
        base: a folder, relative to the TOML file; `SHOP_DATA` takes its place when set.
        tables: a name for each file, or for files of one format that fit a pattern such as `orders/*.csv.gz`.
    """

    base: str = "."
    tables: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")], Annotated[str, AfterValidator(_relative)]],
        Field(min_length=1),
    ]


class LeaveOut(_Strict):
    """Rows to leave out, and the reason under which they are counted; the first that holds for a row counts."""

    reason: Annotated[str, Field(min_length=1)]
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
        raise SourceError(
            f"There is no file {path}: give the path of a mapping, such as examples/online_retail.toml."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SourceError(f"{path} can't be read as TOML: {error}.") from error
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_problem(each["type"], each["loc"], each["msg"]) for each in error.errors())
        raise SourceError(f"{path} is not a mapping as it should be: {problems}.") from error


def _problem(kind: str, place: tuple[int | str, ...], message: str) -> str:
    key = ".".join(map(str, place))
    if kind == "extra_forbidden":
        return f"the key {key} is unknown"
    if kind == "missing":
        return f"the key {key} is missing"
    return f"{key}: {message.removeprefix('Value error, ')}"
