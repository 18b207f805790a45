"""A shop in files: what is read, what is left out and why, and what is said when it can't be read."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shop_platform.commerce.loading import load_shop_tables
from shop_platform.errors import SourceError
from shop_platform.resources.postgres import PostgresResource
from shop_platform.settings import Settings
from shop_platform.sources.base import Extract, Shop
from shop_platform.sources.load import load_shop

Row = dict[str, Any]
Make = Callable[..., Shop]

TOML = """
[shop]
name = "corner_shop"
title = "The corner shop"
time_zone = "Europe/Berlin"
currency = "EUR"
notes = ["As it is."]

[files]
base = "data"
[files.tables]
users = "users.csv"
products = "products.parquet"
events = "events/*.jsonl"
searches = "searches.jsonl.gz"

[users]
from = "users"
[users.columns]
user_id = "id"
signup_date = "joined"
name = "name"

[products]
from = "SELECT * FROM products"
[products.columns]
product_id = "sku"
name = "label"
category = "shelf"
price = "price"

[events]
from = "events"
leave_out = [{ reason = "a robot's", where = "robot" }]
[events.columns]
user_id = "who"
product_id = "what"
event_type = "CASE did WHEN 'saw' THEN 'viewed' WHEN 'bought' THEN 'purchased' ELSE did END"
timestamp = "seen_at"

[searches]
from = "searches"
[searches.columns]
user_id = "user_id"
search_query = "search_query"
clicked_product_ids = "clicked_product_ids"
timestamp = "timestamp"
"""

USERS = [
    {"id": "abc123", "joined": "2025-01-01T08:00:00Z", "name": "Ada"},
    {"id": "def", "joined": "2025-01-02 09:00:00+01:00", "name": ""},
]
PRODUCTS = [
    {"sku": "p01", "label": "Headphones", "shelf": "Audio", "price": 99.9},
    {"sku": "p02", "label": "Speaker", "shelf": "Audio", "price": 20.0},
]
EVENTS = [
    {"who": "abc123", "what": "p02", "did": "bought", "seen_at": "2025-04-01T13:00:00Z", "robot": False},
    {"who": "abc123", "what": "p01", "did": "saw", "seen_at": "2025-04-01T12:30:00Z", "robot": False},
]
SEARCHES = [
    {
        "user_id": "abc123",
        "search_query": "wireless headphones",
        "clicked_product_ids": ["p01", "p02"],
        "timestamp": "2025-04-01T12:30:00Z",
    }
]


def write_shop(
    folder: Path,
    *,
    toml: str = TOML,
    users: Sequence[Row] = USERS,
    products: Sequence[Row] = PRODUCTS,
    events: Sequence[Row] = EVENTS,
    searches: Sequence[Row] = SEARCHES,
) -> Path:
    """A mapping and its files in a folder; returns the mapping's path."""
    data = folder / "data"
    (data / "events").mkdir(parents=True, exist_ok=True)
    with (data / "users.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "joined", "name"])
        writer.writeheader()
        writer.writerows(users)
    pq.write_table(pa.Table.from_pylist(list(products)), data / "products.parquet")
    half = len(events) // 2
    for number, part in enumerate((events[:half], events[half:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (data / "events" / f"{number}.jsonl").write_text(text, encoding="utf-8")
    text = "".join(json.dumps(row) + "\n" for row in searches)
    # Without the time, which would make another file of the same rows a second later.
    (data / "searches.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    config = folder / "shop.toml"
    config.write_text(toml, encoding="utf-8")
    return config


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(**changes: Any) -> Shop:
        return load_shop(Settings(config=write_shop(tmp_path, **changes)))

    return made


def rows_of(extract: Extract) -> list[Row]:
    rows = [row for batch in extract.batches for row in batch.to_pylist()]
    assert len(rows) + sum(extract.left_out.values()) + sum(extract.quarantined.values()) == extract.rows_read
    return rows


def quarantined_rows(extract: Extract) -> list[Row]:
    return [row for batch in extract.quarantine for row in batch.to_pylist()]


def at(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type,misc]


def test_csv_parquet_json_lines_and_gzipped_files_are_read_by_the_mapping(make: Make) -> None:
    shop = make()
    assert (shop.name, shop.title, shop.time_zone, shop.currency) == (
        "corner_shop", "The corner shop", "Europe/Berlin", "EUR",
    )  # fmt: skip
    assert (shop.index_prefix, shop.searchers_are_users, shop.notes) == ("corner_shop_", True, ("As it is.",))
    nobody = {"email": None, "city": None, "country": None}
    assert rows_of(shop.source.users()) == [
        {"user_id": "abc123", "signup_date": at(2025, 1, 1, 8), "name": "Ada", **nobody},
        {"user_id": "def", "signup_date": at(2025, 1, 2, 8), "name": None, **nobody},
    ]
    assert rows_of(shop.source.products()) == [
        {"product_id": "p01", "name": "Headphones", "category": "Audio", "price": Decimal("99.90")},
        {"product_id": "p02", "name": "Speaker", "category": "Audio", "price": Decimal("20.00")},
    ]
    assert rows_of(shop.source.searches()) == [SEARCHES[0] | {"timestamp": at(2025, 4, 1, 12, 30)}]
    assert shop.source.truth() is None


def test_events_of_several_files_are_numbered_in_the_order_of_time(make: Make) -> None:
    assert rows_of(make().source.events()) == [
        {"event_id": 1, "user_id": "abc123", "product_id": "p01", "event_type": "viewed",
         "timestamp": at(2025, 4, 1, 12, 30)},
        {"event_id": 2, "user_id": "abc123", "product_id": "p02", "event_type": "purchased",
         "timestamp": at(2025, 4, 1, 13)},
    ]  # fmt: skip


def test_columns_have_the_promised_types(make: Make) -> None:
    source = make().source
    assert next(source.products().batches).schema.field("price").type == pa.decimal128(12, 2)
    assert next(source.events().batches).schema.field("timestamp").type == pa.timestamp("us", "UTC")
    assert next(source.events().batches).schema.field("event_id").type == pa.int64()
    assert next(source.users().batches).schema.field("signup_date").type == pa.timestamp("us", "UTC")
    assert next(source.searches().batches).schema.field("clicked_product_ids").type.value_type == pa.string()


def test_the_time_zone_set_takes_the_place_of_the_mappings(tmp_path: Path) -> None:
    config = write_shop(tmp_path)
    assert load_shop(Settings(config=config, time_zone="Asia/Tokyo")).time_zone == "Asia/Tokyo"


def test_the_data_folder_set_takes_the_place_of_the_mappings(tmp_path: Path) -> None:
    config = write_shop(tmp_path)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    shop = load_shop(Settings(config=config, data=tmp_path / "elsewhere"))
    assert len(rows_of(shop.source.users())) == 2


USER_FAULTS = [
    ("no user_id", {"id": " "}),
    ("user_id of more than 1,000 bytes", {"id": "ü" * 501}),
    ("no usable signup_date", {"joined": "soon"}),
    ("no usable signup_date", {"joined": ""}),
    ("no usable signup_date", {"joined": "infinity"}),
    ("no usable signup_date", {"joined": "9999-12-31"}),
    ("user_id stands more than once", {"id": "abc123", "joined": "2025-01-05"}),
    ("NUL character in a text", {"name": "A\0da"}),
]


@pytest.mark.parametrize(("reason", "fault"), USER_FAULTS)
def test_a_user_who_can_not_be_is_quarantined_for_a_reason(make: Make, reason: str, fault: Row) -> None:
    users = [*USERS, {"id": "ghi", "joined": "2025-01-03", "name": "Ida"} | fault]
    extract = make(users=users).source.users()
    assert [row["user_id"] for row in rows_of(extract)] == ["abc123", "def"]
    assert extract.quarantined == {reason: 1}


def test_of_two_users_with_one_id_the_earlier_signup_is_kept(make: Make) -> None:
    extract = make(users=[*USERS, {"id": "def", "joined": "2024-12-31", "name": "Dora"}]).source.users()
    assert [row["name"] for row in rows_of(extract)] == ["Dora", "Ada"]
    assert extract.quarantined == {"user_id stands more than once": 1}


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("no product_id", {"sku": None}),
        ("product_id of more than 1,000 bytes", {"sku": "p" * 1_001}),
        ("no name", {"label": None}),
        ("no category", {"shelf": " "}),
        ("category of more than 1,000 bytes", {"shelf": "s" * 1_001}),
        ("no usable price", {"price": None}),
        ("no usable price", {"price": -0.01}),
        ("no usable price", {"price": float("nan")}),
        ("no usable price", {"price": 1e12}),
        ("product_id stands more than once", {"sku": "p01"}),
        ("NUL character in a text", {"label": "\0"}),
    ],
)
def test_a_product_that_can_not_be_is_quarantined_for_a_reason(make: Make, reason: str, fault: Row) -> None:
    extra = {"sku": "p03", "label": "Radio", "shelf": "Audio", "price": 30.0} | fault
    extract = make(products=[*PRODUCTS, extra]).source.products()
    assert [row["product_id"] for row in rows_of(extract)] == ["p01", "p02"]
    assert extract.quarantined == {reason: 1}


def test_a_product_is_not_lost_because_another_row_with_its_id_is_unusable(make: Make) -> None:
    broken = {"sku": "p01", "label": "A name that comes first", "shelf": "Audio", "price": None}
    extract = make(products=[broken, *PRODUCTS]).source.products()
    assert [row["name"] for row in rows_of(extract)] == ["Headphones", "Speaker"]
    assert extract.quarantined == {"no usable price": 1}


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("no user_id", {"who": None}),
        ("no product_id", {"what": ""}),
        ("no usable timestamp", {"seen_at": None}),
        ("no usable timestamp", {"seen_at": "yesterday"}),
        ("unknown event_type", {"did": "returned"}),
        ("unknown event_type", {"did": None}),
        ("unknown user", {"who": "stranger"}),
        ("unknown product", {"what": "p99"}),
        ("NUL character in a text", {"who": "abc\x00123"}),
    ],
)
def test_an_event_that_can_not_be_is_quarantined_for_a_reason(make: Make, reason: str, fault: Row) -> None:
    extract = make(events=[*EVENTS, EVENTS[0] | fault]).source.events()
    assert [row["product_id"] for row in rows_of(extract)] == ["p01", "p02"]
    assert extract.quarantined == {reason: 1}


@pytest.mark.parametrize("fault", [{"robot": True}, {"robot": True, "seen_at": "never"}])
def test_what_the_mapping_leaves_out_is_counted_apart_and_not_quarantined(make: Make, fault: Row) -> None:
    extract = make(events=[*EVENTS, EVENTS[0] | fault]).source.events()
    assert len(rows_of(extract)) == 2
    assert (extract.left_out, extract.quarantined) == ({"a robot's": 1}, {})
    assert quarantined_rows(extract) == []


def test_a_quarantined_row_is_given_as_the_source_has_it(make: Make) -> None:
    faults = [EVENTS[0] | {"seen_at": "never"}, EVENTS[0] | {"who": "a\0b"}]
    extract = make(events=[*EVENTS, *faults]).source.events()
    found = quarantined_rows(extract)
    assert [row["reason"] for row in found] == ["NUL character in a text", "no usable timestamp"]
    assert [json.loads(row["row"]) for row in found] == [faults[1] | {"who": "a␀b"}, faults[0]]
    # The events are of two files, the users of one.
    assert [row["origin"] for row in found] == [None, None]
    users = make(users=[*USERS, USERS[0]]).source.users()
    assert [row["origin"] for row in quarantined_rows(users)] == ["users.csv"]


def test_what_lies_in_the_future_has_not_happened_yet(make: Make) -> None:
    later = "2124-01-01T00:00:00Z"
    shop = make(
        users=[*USERS, {"id": "ghi", "joined": later, "name": "Ida"}],
        events=[*EVENTS, EVENTS[0] | {"seen_at": later}],
        searches=[*SEARCHES, SEARCHES[0] | {"timestamp": later}],
    )
    assert shop.source.users().quarantined == {"signup_date in the future": 1}
    assert shop.source.events().quarantined == {"timestamp in the future": 1}
    assert shop.source.searches().quarantined == {"timestamp in the future": 1}


def test_an_event_before_its_users_signup_is_quarantined_and_one_at_it_is_not(make: Make) -> None:
    before, then = "2025-01-01T07:59:59.999999Z", "2025-01-01T08:00:00Z"
    extract = make(events=[*EVENTS, *(EVENTS[0] | {"seen_at": time} for time in (before, then))]).source.events()
    assert extract.quarantined == {"before the user's signup": 1}
    assert rows_of(extract)[0]["timestamp"] == at(2025, 1, 1, 8)


def test_an_event_of_a_user_who_was_left_out_is_left_out_as_well(make: Make) -> None:
    extract = make(users=[USERS[1], USERS[0] | {"joined": "soon"}]).source.events()
    assert rows_of(extract) == []
    assert extract.quarantined == {"unknown user": 2}


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("no user_id", {"user_id": None}),
        ("user_id of more than 1,000 bytes", {"user_id": "u" * 1_001}),
        ("no search_query", {"search_query": "  "}),
        ("search_query of more than 1,000 characters", {"search_query": "q" * 1_001}),
        ("no usable timestamp", {"timestamp": "2025-02-30T00:00:00Z"}),
        ("clicked_product_ids is no list of ids", {"clicked_product_ids": "p01"}),
        ("clicked_product_ids is no list of ids", {"clicked_product_ids": ["p01", None]}),
        ("unknown user", {"user_id": "stranger"}),
        ("click on an unknown product", {"clicked_product_ids": ["p01", "p99"]}),
        ("NUL character in a text", {"search_query": "a\0b"}),
    ],
)
def test_a_search_that_can_not_be_is_quarantined_for_a_reason(make: Make, reason: str, fault: Row) -> None:
    extract = make(searches=[*SEARCHES, SEARCHES[0] | fault]).source.searches()
    assert [row["search_query"] for row in rows_of(extract)] == ["wireless headphones"]
    assert extract.quarantined == {reason: 1}


def test_a_search_without_clicks_is_one(make: Make) -> None:
    searches = [SEARCHES[0] | {"clicked_product_ids": clicks} for clicks in (None, [])]
    assert [row["clicked_product_ids"] for row in rows_of(make(searches=searches).source.searches())] == [[], []]


def test_searchers_may_be_nobody_the_shop_knows(make: Make) -> None:
    toml = TOML.replace('currency = "EUR"', "searchers_are_users = false")
    shop = make(toml=toml, searches=[SEARCHES[0] | {"user_id": "stranger"}])
    assert not shop.searchers_are_users
    assert [row["user_id"] for row in rows_of(shop.source.searches())] == ["stranger"]


def test_one_row_of_another_type_does_not_spoil_the_others_in_json(make: Make) -> None:
    """DuckDB gives such a column the type JSON, whose texts would carry quotes."""
    extract = make(events=[*EVENTS, EVENTS[0] | {"who": 7}]).source.events()
    assert [row["user_id"] for row in rows_of(extract)] == ["abc123", "abc123"]
    assert extract.quarantined == {"unknown user": 1}


def test_semicolons_quotes_and_line_breaks_in_csv_stay_what_they_are(make: Make) -> None:
    name = 'O"Hara; "Jr.",\nand sons'
    assert rows_of(make(users=[USERS[0] | {"name": name}]).source.users())[0]["name"] == name


def test_an_empty_shop_is_read_as_one(make: Make) -> None:
    shop = make(users=[])
    assert rows_of(shop.source.users()) == []
    assert shop.source.events().quarantined == {"unknown user": 2}


ANYTHING = st.sampled_from(
    [None, "", "abc123", "def", "p01", "viewed", "bought", "2025-04-01T12:30:00Z", "x\0", 3, 1.5]
)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(("who", "what", "did", "seen_at"), ANYTHING)), max_size=12))
def test_every_event_is_given_or_left_out_and_twice_the_same(
    tmp_path_factory: pytest.TempPathFactory, events: list[Row]
) -> None:
    rows = [*EVENTS, *({"robot": False} | row for row in events)]
    shop = load_shop(Settings(config=write_shop(tmp_path_factory.mktemp("shop"), events=rows)))
    first, second = shop.source.events(), shop.source.events()
    assert first.rows_read == len(rows)
    assert rows_of(first) == rows_of(second)
    assert dict(first.left_out) == dict(second.left_out)


def test_postgres_takes_whatever_is_not_left_out(make: Make, postgres: PostgresResource) -> None:
    nasty = 'quote " comma , \\N \\. \t tab \r\n line 🦊 NULL'
    ids = ["NULL", "\\N", "\\.", '"', ",", "a\nb", "ü" * 500, "a\0b", "x" * 1_001, " ", "dup", "dup"]
    times = ["1900-01-01", "2199-12-31T23:59:59.999999Z", "0001-01-01", "infinity", "2025-01-01", "31/12/2025"]
    users = [{"id": each, "joined": time, "name": nasty} for each in ids for time in times]
    products = [{"sku": each, "label": nasty, "shelf": "ü" * 500, "price": 9_999_999_999.99} for each in ids]
    events = [{"who": who, "what": what, "did": "saw", "seen_at": time, "robot": False}
              for who in ids for what in ids for time in times]  # fmt: skip
    shop = make(users=users, products=products, events=events)
    with postgres.connect() as connection:
        loads = load_shop_tables(connection, replace(shop, quarantine_at_most=1))
        stored = connection.execute("SELECT table_name, count(*) FROM ops.quarantine GROUP BY 1").fetchall()
    assert dict(stored) == {name: sum(load.quarantined.values()) for name, load in loads.items()}
    assert {name: (load.rows_read, load.adds_up) for name, load in loads.items()} == {
        "users": (72, True), "products": (12, True), "events": (864, True),
    }  # fmt: skip
    with postgres.connect() as connection:
        stored = connection.execute("SELECT user_id, name FROM users ORDER BY user_id").fetchall()
    assert stored == sorted((each, nasty) for each in {*ids[:7], "dup"})
    # "dup" stands twice among the ids that are kept, and two of the times can be.
    assert loads["events"].rows_loaded == 9 * 9 * 2


def test_the_fingerprint_is_that_of_the_mapping_and_of_what_the_files_hold(tmp_path: Path) -> None:
    def fingerprint(**changes: Any) -> str:
        return load_shop(Settings(config=write_shop(tmp_path, **changes))).source.fingerprint()

    first = fingerprint()
    assert fingerprint(toml="# Only a remark.\n" + TOML) == first
    assert fingerprint(toml=TOML.replace("'bought'", "'paid'")) != first
    assert fingerprint(users=USERS[:1]) != first
    assert fingerprint() == first


def test_a_missing_file_is_named_with_the_folder_and_what_to_set(tmp_path: Path) -> None:
    config = write_shop(tmp_path)
    (tmp_path / "data" / "users.csv").unlink()
    source = load_shop(Settings(config=config)).source
    for read in (source.users, source.fingerprint):
        with pytest.raises(SourceError) as raised:
            read()
        for part in ("users.csv", str(tmp_path / "data"), "SHOP_DATA", f"make demo CONFIG={config} DATA="):
            assert part in str(raised.value)


def fault(source_error: pytest.ExceptionInfo[SourceError]) -> str:
    """All that a log would show of an error, its causes included."""
    return "".join(traceback.format_exception(source_error.value, limit=0))


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[str, bytes], str]:
    def read(name: str, content: bytes) -> str:
        config = write_shop(tmp_path)
        (tmp_path / "data" / name).write_bytes(content)
        with pytest.raises(SourceError) as raised:
            load_shop(Settings(config=config)).source.events()
        return fault(raised)

    return read


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("users.csv", "id,joined,canary-é\n".encode("latin-1"), "line 1 is a line that is no UTF-8"),
        ("users.csv", b" \n", "holds nothing"),
        ("products.parquet", b"canary", "products.parquet"),
        ("searches.jsonl.gz", b"canary", "searches.jsonl.gz"),
    ],
)
def test_a_file_that_is_none_of_its_kind_is_named_and_not_quoted(
    broken: Callable[[str, bytes], str], name: str, content: bytes, told: str
) -> None:
    message = broken(name, content)
    assert told in message
    assert Path(name).suffix in message
    assert "canary" not in message


BAD_LINES = [
    ("users.csv", "eve,2025-01-01,Zoë\n".encode("latin-1"), "line that is no UTF-8", "eve,2025-01-01,Zo�"),
    ("users.csv", b"eve,2025-01-01\n", "line with a wrong number of fields", "eve,2025-01-01"),
    ("users.csv", b"eve,2025-01-01,Eve,a,b\n", "line with a wrong number of fields", "eve,2025-01-01,Eve,a,b"),
    ("users.csv", b'eve,2025-01-01,"Eve\n', "line with a quote that is not closed, or in a wrong place",
     'eve,2025-01-01,"Eve'),
    ("users.csv", b'eve,2025-01-01,"Eve"x\n', "line with a quote that is not closed, or in a wrong place",
     'eve,2025-01-01,"Eve"x'),
    ("events/0.jsonl", b'{"who":\n', "line that is no JSON object", '{"who":'),
    ("events/0.jsonl", b'{"who": "\\ud800"}\n', "line that is no JSON object", '{"who": "\\ud800"}'),
    ("events/0.jsonl", b'{"who": "\xff"}\n', "line that is no UTF-8", '{"who": "�"}'),
]  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("name", "line", "reason", "text"), BAD_LINES)
@pytest.mark.parametrize("before", [0, 40_000])
def test_a_line_that_can_not_be_read_is_quarantined_with_its_place_and_costs_no_other(
    tmp_path: Path, name: str, line: bytes, reason: str, text: str, *, zipped: bool, before: int
) -> None:
    config = write_shop(tmp_path, toml=TOML.replace("users.csv", "users.csv*").replace("*.jsonl", "*.jsonl*"))
    path = tmp_path / "data" / name
    *head, last = path.read_bytes().splitlines(keepends=True)
    content = b"".join([*head, *[last] * before, line, last])
    path.write_bytes(content)
    if zipped:
        name = f"{name}.gz"
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
        path.unlink()
    source = load_shop(Settings(config=config)).source
    extract = source.users() if "users" in name else source.events()
    place = len(head) + before + 1
    assert [row for row in quarantined_rows(extract) if row["reason"] == reason] == [
        {"reason": reason, "origin": f"{name}, line {place}", "row": json.dumps({"line": text})}
    ]
    assert sum(extract.quarantined.values()) == extract.rows_read - 2 - ("events" in name) * before


def test_an_appended_part_with_other_line_ends_is_read(tmp_path: Path) -> None:
    config = write_shop(tmp_path)
    with (tmp_path / "data" / "users.csv").open("ab") as file:
        file.write(b'ghi,2025-01-03,"I\r\nda"\njkl,2025-01-04,\r\n')
    extract = load_shop(Settings(config=config)).source.users()
    assert [row["name"] for row in rows_of(extract)] == ["Ada", None, "I\r\nda", None]
    assert extract.quarantined == {}


@pytest.mark.parametrize("content", ["", "\n", "who,what,did,seen_at,robot\n"])
def test_a_file_of_a_pattern_may_hold_nothing(tmp_path: Path, content: str) -> None:
    config = write_shop(tmp_path, toml=TOML.replace("*.jsonl", "*.csv").replace('where = "robot"', 'where = "false"'))
    folder = tmp_path / "data" / "events"
    (folder / "1.csv").write_text("did,who,seen_at,what,robot\nsaw,abc123,2025-04-01,p01,\n")
    (folder / "2.csv").write_text(content)
    extract = load_shop(Settings(config=config)).source.events()
    assert [row["product_id"] for row in rows_of(extract)] == ["p01"]
    assert extract.rows_read == 1


def test_a_json_file_of_a_pattern_may_hold_nothing(tmp_path: Path) -> None:
    config = write_shop(tmp_path)
    (tmp_path / "data" / "events" / "2.jsonl").write_text("")
    assert len(rows_of(load_shop(Settings(config=config)).source.events())) == 2


def test_a_line_that_can_not_be_read_is_in_the_quarantine_of_every_kind_that_reads_the_file(tmp_path: Path) -> None:
    toml = TOML.replace('from = "events"', 'from = "SELECT e.* FROM events AS e JOIN users AS u ON e.who = u.id"')
    config = write_shop(tmp_path, toml=toml)
    with (tmp_path / "data" / "users.csv").open("a") as file:
        file.write("too few\n")
    source = load_shop(Settings(config=config)).source
    for extract in (source.users(), source.events()):
        assert extract.quarantined == {"line with a wrong number of fields": 1}
        assert len(rows_of(extract)) == 2
    assert source.searches().quarantined == {}


def test_files_of_several_formats_are_not_read_as_one(tmp_path: Path) -> None:
    config = write_shop(tmp_path, toml=TOML.replace("events/*.jsonl", "events/*"))
    (tmp_path / "data" / "events" / "2.csv").write_text("who\n")
    with pytest.raises(SourceError, match="not all of one format"):
        load_shop(Settings(config=config)).source.events()


def test_a_file_of_an_unknown_format_is_refused(tmp_path: Path) -> None:
    config = write_shop(tmp_path, toml=TOML.replace("users.csv", "users.xlsx"))
    (tmp_path / "data" / "users.xlsx").write_text("")
    with pytest.raises(SourceError, match="neither Parquet, CSV, TSV nor JSON"):
        load_shop(Settings(config=config)).source.users()


def test_an_expression_that_names_no_column_is_shown_with_its_section(make: Make) -> None:
    with pytest.raises(SourceError, match=r"\[users\] of .*joinde"):
        make(toml=TOML.replace('"joined"', '"joinde"')).source.users()


def test_an_expression_that_fails_on_a_value_is_refused_without_the_value(make: Make) -> None:
    for expression in ("CAST(name AS INTEGER)", "strptime(name, '%Y')"):
        with pytest.raises(SourceError) as raised:
            make(toml=TOML.replace('"joined"', f'"{expression}"')).source.users()
        assert "[users]" in fault(raised)
        assert "TRY_CAST" in fault(raised)
        assert "Ada" not in fault(raised)
