"""`init` and `doctor` as a new user meets them: three shops, and messages that lead to the fix."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from shop_platform.cli import app
from shop_platform.commerce.loading import load_shop_tables
from shop_platform.resources.postgres import PostgresResource
from shop_platform.settings import Settings
from shop_platform.sources.diagnosing import Finding, diagnose
from shop_platform.sources.examining import patterns
from shop_platform.sources.hints import meaning_of
from shop_platform.sources.load import load_shop
from shop_platform.sources.mapping import read_mapping
from shop_platform_tests.sources.test_servers import theirs as theirs

RETAIL = Path(__file__).resolve().parents[3] / "shared" / "data" / "online_retail.parquet"


@pytest.fixture(autouse=True)
def _environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command hands its options on through the environment: whatever it sets goes after each test."""
    for name in ("SHOP_CONFIG", "SHOP_DATA"):
        monkeypatch.setenv(name, "")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def init(folder: Path, *arguments: str) -> tuple[Path, Result]:
    config = folder / "shop.toml"
    result = run("init", *arguments, "--output", str(config))
    return config, result


def found(config: Path, **settings: Any) -> list[Finding]:
    return diagnose(config, Settings(config=config, **settings))


def errors(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.level == "error"]


def load(config: Path, postgres: PostgresResource, **settings: Any) -> dict[str, int]:
    """Rows loaded, when every row is accounted for."""
    with postgres.connect() as connection:
        loads = load_shop_tables(connection, load_shop(Settings(config=config, **settings)))
    assert all(each.adds_up for each in loads.values())
    return {table: each.rows_loaded for table, each in loads.items()}


@pytest.mark.skipif(not RETAIL.exists(), reason="../shared/data/online_retail.parquet is not there")
def test_a_file_of_order_lines_becomes_a_shop(tmp_path: Path, postgres: PostgresResource) -> None:
    shutil.copy(RETAIL, tmp_path)
    config, result = init(tmp_path, str(tmp_path))
    assert (result.exit_code, "No search logs were found" in result.output) == (0, True)
    assert "# Please check: there is no table of users" in config.read_text()
    findings = found(config)
    assert errors(findings) == []
    texts = " ".join(finding.text for finding in findings)
    assert "397,924 of 541,909 rows for events can be loaded, 143,985 are left out on purpose." in texts
    assert "All products are of one category" in texts
    assert load(config, postgres) == {"users": 4_339, "products": 3_665, "events": 397_924}


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    with gzip.open(path, "wb") as file:
        file.write(text.encode(encoding))


DAY = dt.date(2025, 1, 1)


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Gzipped CSVs as they come: another encoding, German dates, wrong types, ids twice, the future, an empty file."""
    draw = random.Random(3)  # noqa: S311
    users = [f"C{number:04d}" for number in range(300)]
    write(
        tmp_path / "customers.csv.gz",
        "customer_id,registered,city\n"
        + "".join(f"{user},{DAY + dt.timedelta(days=n % 90):%d.%m.%Y},Zürich\n" for n, user in enumerate(users))
        + "C0001,01.04.2025,Bern\nC9998,soon,Bern\nC9999,01.01.2099,Bern\n",
        "latin-1",
    )
    articles = "".join(f"A{number:02d},Thing {number},D{number % 4},{number}.50\n" for number in range(40))
    write(tmp_path / "articles.csv.gz", f"sku,title,department,unit_price\n{articles}A01,Again,D1,3\nA98,Odd,D1,free\n")
    for month in (6, 7, 8):
        begin = dt.datetime(2025, month, 1, tzinfo=dt.UTC)
        rows = [
            f"{draw.choice(users)},A{draw.randrange(40):02d},{draw.choice(['page_view', 'basket_add', 'order_paid'])},"
            f"{begin + dt.timedelta(minutes=draw.randrange(40_000)):%Y-%m-%d %H:%M}\n"
            for _ in range(1_000)
        ]
        if month == 8:
            rows += ["C0001,A01,page_view,2099-01-01 10:00\n"] * 20 + ["C0001,A01,wink,2025-08-01 10:00\n"] * 30
            rows += ["c0001,A01,page_view,2025-08-01 10:00\n"] * 15 + ["C0001,A01,page_view\n"] * 5
        write(tmp_path / f"events-2025-{month:02d}.csv.gz", "customer_id,sku,action,occurred\n" + "".join(rows))
    (tmp_path / "events-2025-09.csv.gz").write_bytes(gzip.compress(b""))
    searches = "".join(f"{draw.choice(users)},thing {n % 40},2025-07-{1 + n % 28:02d} 10:00\n" for n in range(200))
    write(tmp_path / "searches.csv.gz", f"customer_id,search_term,searched_at\n{searches}")
    return tmp_path


def test_a_folder_of_faulty_files_is_mended_by_what_the_messages_say(messy: Path, postgres: PostgresResource) -> None:
    config, result = init(messy, str(messy))
    assert result.exit_code == 0
    text = config.read_text()
    assert 'events = "events-*.csv.gz"' in text
    assert "try_strptime(\\\"registered\\\", '%d.%m.%Y')" in text
    assert '"wink" = ""  # Please check: left out' in text

    first = found(config)
    assert any(each.startswith("customers.csv.gz is no UTF-8: 300 lines") for each in errors(first))
    assert any(finding.fix == '[files.encodings]\ncustomers = "latin-1"' for finding in first)
    assert any(finding.text == "events-2025-09.csv.gz holds nothing." for finding in first)
    assert any((finding.fix or "").startswith("Mend [users] first") for finding in first)

    config.write_text(text + '\n[files.encodings]\ncustomers = "latin-1"\n')
    second = found(config)
    assert errors(second) == []
    told = {finding.text.split("would be quarantined: ")[-1].split(".")[0]: finding for finding in second}
    assert 'registered = "soon"' in told["no usable signup_date"].text
    assert 'customer_id = "C0001"' in told["user_id stands more than once"].text
    assert "2099" in told["timestamp in the future"].text
    assert "events-2025-08.csv.gz, line 1067" in told["line with a wrong number of fields"].text
    assert "15 of them would fit, were user_id written alike" in (told["unknown user"].fix or "")
    assert 'unit_price = "free"' in told["no usable price"].text

    config.write_text(
        config.read_text().replace(
            "[events.columns]\nuser_id = '\"customer_id\"'", "[events.columns]\nuser_id = 'upper(customer_id)'"
        )
    )
    assert not any("unknown user" in finding.text for finding in found(config))
    # 3,000 events drawn, 15 that were written otherwise, less none: 30 winks are left out, 20 + 5 quarantined.
    assert load(config, postgres) == {"users": 300, "products": 40, "events": 3_015}


def test_unknown_names_of_events_come_with_lines_to_paste(messy: Path) -> None:
    config, _ = init(messy, str(messy))
    text = config.read_text() + '\n[files.encodings]\ncustomers = "latin-1"\n'
    start = text.index("[events.meaning]")
    config.write_text(text[:start] + text[text.index("[searches]") :])
    findings = found(config)
    (finding,) = [each for each in findings if "unknown event_type" in each.text]
    assert finding.level == "error"
    assert '"page_view" = "viewed"' in (finding.fix or "")
    assert '"wink" = ""' in (finding.fix or "")
    pasted = (finding.fix or "").replace("[events.meaning]", "[events.meaning]\n")
    config.write_text(config.read_text() + pasted)
    assert errors(found(config)) == []


def test_a_postgresql_of_somebody_elses_is_recognised_read_only(
    theirs: tuple[str, str], tmp_path: Path, postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(theirs[0]) as connection:
        connection.execute("DELETE FROM sales.log WHERE action = 'mystery' OR at < '2020-01-01'")
    monkeypatch.setenv("SHOP_SOURCE_DATABASE_URL", theirs[1])
    config, result = init(tmp_path, "--postgres")
    assert result.exit_code == 0, result.output
    mapping = read_mapping(config)
    assert mapping.postgres_tables == {
        "articles": "sales.articles", "clickstream": "sales.clickstream", "customers": 'sales."Customers"',
    }  # fmt: skip
    assert (mapping.users.source, mapping.products.source, mapping.events.source) == (
        "customers", "articles", "clickstream",
    )  # fmt: skip
    assert mapping.users.without_signup == "first event"
    assert mapping.events.meaning == {"page_view": "viewed", "basket": "add_to_cart", "order": "purchased", "login": ""}
    assert mapping.products.defaults == {"category": "uncategorised", "price": "0"}
    settings: dict[str, Any] = {"source_database_url": theirs[1]}
    assert errors(found(config, **settings)) == []
    assert load(config, postgres, **settings) == {"users": 2, "products": 2, "events": 4}
    # What was read by the same role, nobody wrote: it may not.
    with psycopg.connect(theirs[1]) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM sales.articles")


@pytest.mark.parametrize(
    ("spoil", "told", "fix"),
    [
        (
            lambda text: text.replace("customers.csv.gz", "custmers.csv.gz"),
            "There is no file custmers",
            "customers.csv.gz",
        ),
        (lambda text: text.replace('"title"', '"titel"'), "[products] of", "Correct the name"),
        (lambda text: text.replace("'\"occurred\"'", "'at'"), "[events] of", "double quotes"),
        (lambda text: text.replace("[users.columns]", "[users.colums]"), "users.colums is unknown", ""),
    ],
)
def test_what_keeps_a_mapping_from_working_is_an_error_with_the_way_out(
    messy: Path, spoil: Any, told: str, fix: str
) -> None:
    config, _ = init(messy, str(messy))
    config.write_text(spoil(config.read_text() + '\n[files.encodings]\ncustomers = "latin-1"\n'))
    assert any(each.level == "error" and told in each.text and fix in (each.fix or "") for each in found(config))


def test_no_file_is_written_over_and_nothing_found_is_told(messy: Path, tmp_path: Path) -> None:
    config, _ = init(messy, str(messy))
    before = config.read_text()
    _, again = init(messy, str(messy))
    assert again.exception is not None
    assert "There is a file" in str(again.exception)
    assert config.read_text() == before
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    _, poor = init(folder, str(folder))
    assert poor.exit_code == 1
    assert "what users did was not found" in poor.output
    empty = tmp_path / "empty"
    empty.mkdir()
    _, none = init(empty, str(empty))
    assert "holds no Parquet, CSV, TSV or JSON file" in str(none.exception)


def test_doctor_speaks_to_people_and_to_machines_and_ends_with_1_on_errors(messy: Path) -> None:
    config, _ = init(messy, str(messy))
    said = run("doctor", "--config", str(config))
    assert said.exit_code == 1
    assert said.output.startswith("error: ")
    machine = run("doctor", "--config", str(config), "--json")
    assert {each["level"] for each in json.loads(machine.stdout)} == {"error", "warning", "fine"}
    config.write_text(config.read_text() + '\n[files.encodings]\ncustomers = "latin-1"\n')
    assert run("doctor", "--config", str(config)).exit_code == 0


def test_odd_things_are_told(tmp_path: Path) -> None:
    day = dt.date(2025, 1, 1)
    users = "".join(f"u{number},2024-01-01,Secret Name{number}\n" for number in range(10))
    (tmp_path / "users.csv").write_text("user_id,signup_date,name\n" + users)
    (tmp_path / "products.csv").write_text("product_id,name,category,price\np,Thing,One,0\nq,Thing,One,0\n")
    events = "".join(f"u0,p,viewed,{day + dt.timedelta(days=n if n < 60 else n + 30)}\n" for n in range(120))
    (tmp_path / "events.csv").write_text("user_id,product_id,event_type,timestamp\n" + events)
    config, _ = init(tmp_path, str(tmp_path))
    config.write_text("\n".join(line for line in config.read_text().splitlines() if not line.startswith("time_zone")))
    told = " ".join(finding.text for finding in found(config))
    for sentence in (
        "The times of events carry no time zone",
        "Nearly all events happened at midnight",
        "days ago.",
        "for 31 days, there is no event at all",
        "9 of 10 users have no event.",
        "One user, 'u0', has 120 of 120 events",
        "Every product is free",
        "All products are of one category",
    ):
        assert sentence in told
    assert "Secret" not in told


def test_like_files_are_one_table_and_others_are_not(tmp_path: Path) -> None:
    for name in ("events/2025-01.csv.gz", "events/2025-02.csv.gz", "users.parquet", "users_old.parquet", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert patterns(tmp_path) == {
        "events": "events/*.csv.gz", "users": "users.parquet", "users_old": "users_old.parquet",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("PageView", "viewed"), ("product_detail", "viewed"), ("addToCart", "add_to_cart"), ("remove_from_cart", ""),
        ("ORDER_PLACED", "purchased"), ("checkout", "purchased"), ("refund", ""), ("wink", ""),
    ],
)  # fmt: skip
def test_names_of_events_are_guessed(name: str, meaning: str) -> None:
    assert meaning_of(name) == meaning
