"""A password, key or webhook is in no message, trace, log, event or file, whatever goes wrong with it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.console import Console

from shop_platform.cli.app import NAMED_ERROR, run
from shop_platform.definitions import build_defs, default_resources
from shop_platform.demo import conclude, materialise
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.settings import load_settings

SECRET = "c4n4ry"

#: What is wrong, the settings, and a command that meets it.
CASES = {
    "no URL": ({"DATABASE_URL": f"postgresql://u:{SECRET}@[x"}, "results"),
    "words that are none": ({"DATABASE_URL": f"host=127.0.0.1 password={SECRET} and more"}, "results"),
    "an open quote": ({"DATABASE_URL": f"host=127.0.0.1 password='{SECRET}"}, "results"),
    "a slash in the password": ({"DATABASE_URL": f"postgresql://u:{SECRET}/x@127.0.0.1/shop"}, "results"),
    "a part of it as the port": ({"DATABASE_URL": f"postgresql://127.0.0.1:{SECRET}@/shop"}, "results"),
    "an @ in the password": ({"DATABASE_URL": f"postgresql://u:p@{SECRET}@127.0.0.1:1/shop"}, "results"),
    "nobody there": ({"DATABASE_URL": f"postgresql://u:{SECRET}@127.0.0.1:1/shop"}, "results"),
    "nobody there, by words": ({"DATABASE_URL": f"host=127.0.0.1 port=1 password={SECRET}"}, "results"),
    "no TLS": ({"DATABASE_URL": f"postgresql://u:{SECRET}@db/shop?sslmode=require"}, "results"),
    "status of nobody": ({"DATABASE_URL": f"postgresql://u:{SECRET}@127.0.0.1:1/shop"}, "status"),
    "status of no URL": ({"DATABASE_URL": f"postgresql://u:{SECRET}@[x"}, "status"),
    "Elasticsearch: no URL": ({"ELASTICSEARCH_URL": f"https://u:{SECRET}@[x"}, "status"),
    "Elasticsearch: a slash": ({"ELASTICSEARCH_URL": f"https://u:{SECRET}/x@127.0.0.1:1"}, "status"),
    "Elasticsearch: nobody": ({"ELASTICSEARCH_URL": f"http://u:{SECRET}@127.0.0.1:1"}, "status"),
    "Elasticsearch: no TLS": ({"ELASTICSEARCH_URL": f"http://u:{SECRET}@es:1"}, "status"),
    "Elasticsearch: no user": (
        {"ELASTICSEARCH_URL": "http://u@127.0.0.1:1", "ELASTICSEARCH_API_KEY": "", "SHOP_ALERT_WEBHOOK": ""}, "status"
    ),
    "a webhook without a scheme": ({"SHOP_ALERT_WEBHOOK": SECRET}, "results"),
    "a webhook without TLS": ({"SHOP_ALERT_WEBHOOK": f"http://hooks.example/{SECRET}"}, "results"),
    "a short key": ({"SHOP_PSEUDONYM_KEY": SECRET}, "results"),
    "another setting": ({"SHOP_SEED": "x", "SHOP_ALERT_WEBHOOK": f"https://hooks.example/{SECRET}"}, "results"),
}  # fmt: skip


@pytest.mark.fault
@pytest.mark.parametrize("case", CASES)
def test_no_command_shows_it_not_even_with_its_trace(
    case: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, command = CASES[case]
    # The other server is nobody's either, so that none is started.
    nobody = {"DATABASE_URL": "postgresql://u@127.0.0.1:1/shop", "ELASTICSEARCH_URL": "http://127.0.0.1:1"}
    for name, value in (nobody | {"ELASTICSEARCH_API_KEY": SECRET} | settings).items():
        monkeypatch.setenv(name, value)
    code = run(["--debug", command])
    printed = "".join(capfd.readouterr()) + caplog.text
    # An error of ours each time, or an answer: never one that nobody thought of.
    assert code in (0, NAMED_ERROR), printed
    assert printed
    assert SECRET not in printed
    assert [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []


@pytest.fixture
def asked_for_its_password(postgres: PostgresResource) -> Iterator[str]:
    """The URL of the test's database for a user whom the server asks for a password, with a wrong one."""
    parts = {name: str(value) for name, value in conninfo_to_dict(os.environ["DATABASE_URL"]).items()}
    name = sql.Identifier("asked")
    with postgres.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'another'").format(name))
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
        path = Path(row[0])
        before = path.read_text()
        path.write_text(f"local all asked scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        yield make_conninfo(**(parts | {"user": "asked", "password": SECRET}))
        path.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


def refuses(address: str) -> bool:
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError:
        return True
    return False


@pytest.mark.fault
@pytest.mark.usefixtures("home")
def test_a_wrong_password_is_named_and_not_shown(
    asked_for_its_password: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", asked_for_its_password)
    while not refuses(asked_for_its_password):  # until the server has read its file again
        time.sleep(0.02)
    assert run(["--debug", "results"]) == NAMED_ERROR
    printed = "".join(capfd.readouterr())
    assert "it refuses the password" in printed
    assert SECRET not in printed


@pytest.mark.fault
@pytest.mark.usefixtures("postgres", "home")
def test_assets_that_fail_log_it_nowhere(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in {
        "SHOP_USERS": "20", "SHOP_EVENTS": "200", "SHOP_SEARCHES": "50",
        "DATABASE_URL": make_conninfo(os.environ["DATABASE_URL"], password=SECRET),
        "ELASTICSEARCH_URL": f"http://u:{SECRET}@127.0.0.1:1",
        "SHOP_ALERT_WEBHOOK": f"http://127.0.0.1:1/{SECRET}",
        "SHOP_SOURCE_DATABASE_URL": f"postgresql://u:{SECRET}@127.0.0.1:1/x",
        "SHOP_SOURCE_ELASTICSEARCH_API_KEY": SECRET,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv("DAGSTER_HOME")
    outcome = materialise(Console(), build_defs(default_resources()), ["users", "products", "events", "user_logs"])
    assert conclude(Console(stderr=True), outcome) == 1
    assert {"users", "events"} <= set(outcome.materialized)
    assert [failure.what for failure in outcome.failures] == ["user_logs"]
    printed = "".join(capfd.readouterr()) + caplog.text
    assert "Failed: user_logs" in printed
    assert SECRET not in printed
    files = {path: path.read_bytes() for path in load_settings().home.rglob("*") if path.is_file()}
    assert any(b"STEP_FAILURE" in content for content in files.values())
    assert [str(path) for path, content in files.items() if SECRET.encode() in content] == []


def test_what_holds_a_secret_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "SHOP_SOURCE_DATABASE_URL"):
        monkeypatch.setenv(name, f"postgresql://u:{SECRET}@127.0.0.1/x")
    for name in ("ELASTICSEARCH_URL", "SHOP_SOURCE_ELASTICSEARCH_URL", "SHOP_ALERT_WEBHOOK"):
        monkeypatch.setenv(name, f"https://u:{SECRET}@127.0.0.1/x")
    for name in ("ELASTICSEARCH_API_KEY", "ELASTICSEARCH_PASSWORD", "SHOP_SOURCE_ELASTICSEARCH_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("SHOP_PSEUDONYM_KEY", SECRET * 8)
    settings = load_settings()
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
    assert SECRET not in repr(ShopResource().shop())
    for resource in (PostgresResource(), ElasticsearchResource()):
        assert SECRET not in repr(resource) + str(resource.model_dump())
