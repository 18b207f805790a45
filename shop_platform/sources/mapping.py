"""The TOML file that maps a shop's own data onto users, products, events and search logs: its form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from shop_platform.errors import SourceError
from shop_platform.handwritten import known_zone, parse_toml
from shop_platform.settings import SCALES
from shop_platform.sources.base import QUARANTINE_AT_MOST
from shop_platform.sources.synthetic import shop_name

#: Names that are taken: the synthetic shops', and databases that every PostgreSQL has.
_TAKEN = (*map(shop_name, SCALES), "postgres", "template0", "template1")

#: SQL in DuckDB's dialect.
Expression = Annotated[str, Field(min_length=1)]


def _free_name(name: str) -> str:
    if name in _TAKEN:
        raise ValueError(f"{name!r} is taken, give the shop a name of its own")
    return name


def _relative(pattern: str) -> str:
    if not pattern or Path(pattern).is_absolute():
        raise ValueError(f"{pattern!r} is no file name or pattern relative to `base`")
    return pattern


def _codec(name: str) -> str:
    try:
        # Looking it up is not enough: Python also knows codecs of bytes, such as hex.
        "".encode(name)
    except (LookupError, ValueError) as error:
        raise ValueError(f"{name!r} is no encoding that Python knows, such as latin-1 or utf-16") from error
    return name


#: A name for a table, under which `from` and expressions know it.
Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]

#: What an event is; nothing for one that is left out.
Meaning = Literal["viewed", "add_to_cart", "purchased", ""]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShopSection(_Strict):
    """What the shop is called and which conventions it keeps.

    Attributes:
        naive_times: zone of times that carry none; the shop's where it is not given.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$"), AfterValidator(_free_name)]
    title: str
    time_zone: Annotated[str, AfterValidator(known_zone)] = "UTC"
    naive_times: Annotated[str, AfterValidator(known_zone)] | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    searchers_are_users: bool = True
    quarantine_at_most: Annotated[float, Field(ge=0, le=1)] = QUARANTINE_AT_MOST
    notes: tuple[str, ...] = ()


class FilesSection(_Strict):
    """Where the files are.

    Attributes:
        base: a folder, relative to the TOML file; `SHOP_DATA` takes its place when set.
        tables: a name for each file, or for files of one format that fit a pattern such as `orders/*.csv.gz`.
        encodings: by such a name, of CSV, TSV and JSON that are no UTF-8.
    """

    base: str = "."
    tables: Annotated[dict[Name, Annotated[str, AfterValidator(_relative)]], Field(min_length=1)]
    encodings: dict[Name, Annotated[str, AfterValidator(_codec)]] = Field(default_factory=dict)


class PostgresSection(_Strict):
    """Tables and views of the PostgreSQL that `SHOP_SOURCE_DATABASE_URL` names, by a name for each."""

    tables: Annotated[dict[Name, Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class ElasticsearchSection(_Strict):
    """Indices, aliases or patterns of the Elasticsearch that `SHOP_SOURCE_ELASTICSEARCH_URL` names, by a name each."""

    indices: Annotated[dict[Name, Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class LeaveOut(_Strict):
    """Rows to leave out, and the reason under which they are counted; the first that holds for a row counts."""

    reason: Annotated[str, Field(min_length=1)]
    where: Expression


class UserColumns(_Strict):
    """Expressions for the columns of `users`."""

    user_id: Expression
    signup_date: Expression = "NULL"
    name: Expression = "NULL"
    email: Expression = "NULL"
    city: Expression = "NULL"
    country: Expression = "NULL"


class ProductColumns(_Strict):
    """Expressions for the columns of `products`."""

    product_id: Expression
    name: Expression
    category: Expression = "NULL"
    price: Expression = "NULL"


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
    """One kind of rows.

    Attributes:
        source: a table's name or a query.
        leave_out: rows that are left out on purpose.
        defaults: by column, what stands where its expression gives nothing, as a text.
    """

    source: Expression = Field(alias="from")
    leave_out: tuple[LeaveOut, ...] = ()
    defaults: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _defaults_of_columns(self) -> Self:
        columns: BaseModel = self.columns  # type: ignore[attr-defined]  # each kind has its own
        for name in self.defaults:
            if name not in type(columns).model_fields:
                raise ValueError(f"defaults.{name} is no column; columns are {', '.join(type(columns).model_fields)}")
        for name in _NEEDED.get(type(columns), ()):
            if getattr(columns, name) == "NULL" and name not in self.defaults:
                raise ValueError(f"{name} has neither an expression in columns nor a value in defaults")
        return self


class Users(_Kind):
    """How users are read.

    Attributes:
        without_signup: what becomes of a user without a usable signup: quarantined, or signed up at the first event.
    """

    columns: UserColumns
    without_signup: Literal["quarantine", "first event"] = "quarantine"

    @model_validator(mode="after")
    def _signup_from_somewhere(self) -> Self:
        if self.columns.signup_date == "NULL" and self.without_signup == "quarantine":
            raise ValueError(
                'signup_date has no expression: give one in columns, or set without_signup = "first event"'
            )
        return self


class Products(_Kind):
    """How products are read."""

    columns: ProductColumns


class Events(_Kind):
    """How events are read.

    Attributes:
        meaning: what names of events mean, where they are not `viewed`, `add_to_cart` and `purchased` already; ""
            leaves an event out on purpose.
    """

    columns: EventColumns
    meaning: dict[str, Meaning] = Field(default_factory=dict)


class Searches(_Kind):
    """How search logs are read."""

    columns: SearchColumns


AnyKind = Users | Products | Events | Searches

#: Columns that need an expression or a default.
_NEEDED: dict[type[BaseModel], tuple[str, ...]] = {ProductColumns: ("category", "price")}


class Mapping(_Strict):
    """The whole file."""

    shop: ShopSection
    files: FilesSection | None = None
    postgres: PostgresSection | None = None
    elasticsearch: ElasticsearchSection | None = None
    users: Users
    products: Products
    events: Events
    searches: Searches | None = None

    @model_validator(mode="after")
    def _tables_from_somewhere(self) -> Self:
        names = [*self.file_tables, *self.postgres_tables, *self.indices]
        if not names:
            raise ValueError("none of [files], [postgres] and [elasticsearch] says where the data is")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {', '.join(twice)} stands for more than one table: rename one")
        return self

    @property
    def file_tables(self) -> dict[str, str]:
        """Files by name."""
        return self.files.tables if self.files else {}

    @property
    def postgres_tables(self) -> dict[str, str]:
        """Tables and views by name."""
        return self.postgres.tables if self.postgres else {}

    @property
    def indices(self) -> dict[str, str]:
        """Indices by name."""
        return self.elasticsearch.indices if self.elasticsearch else {}

    @property
    def naive_times(self) -> str:
        """Zone of times that carry none."""
        return self.shop.naive_times or self.shop.time_zone

    def kind(self, kind: Literal["users", "products", "events", "searches"]) -> AnyKind | None:
        """The section of one kind of rows; None where the shop has no search logs."""
        found: AnyKind | None = getattr(self, kind)
        return found


def read_mapping(path: Path) -> Mapping:
    """Read and check a mapping.

    Raises:
        SourceError: the file is missing, is no TOML, or has a key that is unknown, missing or of a wrong form;
            the message names the file and each such key.
    """
    try:
        content = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SourceError(
            f"There is no file {path}: give the path of a mapping, such as examples/online_retail.toml."
        ) from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} can't be read as TOML: {error}.") from error
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_problem(each["type"], each["loc"], each["msg"]) for each in error.errors())
        raise SourceError(f"{path} is not a mapping as it should be: {problems}.") from error


def _problem(kind: str, place: tuple[int | str, ...], message: str) -> str:
    key = ".".join(map(str, place)) or "the file"
    if kind == "extra_forbidden":
        return f"the key {key} is unknown"
    if kind == "missing":
        return f"the key {key} is missing"
    return f"{key}: {message.removeprefix('Value error, ')}"
