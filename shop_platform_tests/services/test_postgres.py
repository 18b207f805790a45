"""The embedded PostgreSQL is started once, found again, mended after a crash, and gone after `stop`."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from shop_platform.errors import ServiceError, SettingsError
from shop_platform.services import postgres
from shop_platform.settings import Settings


@pytest.fixture
def settings(server_folder: Path) -> Iterator[Settings]:
    """Settings with a home of the test's own, stopped at its end."""
    found = Settings(home=server_folder / "home")
    yield found
    postgres.stop(found)


def rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def keep_a_row(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1")


def test_it_is_version_18_and_listens_on_a_private_unix_socket_only(settings: Settings) -> None:
    url = postgres.url(settings)
    with psycopg.connect(url) as connection:
        assert connection.info.server_version // 10_000 == 18
    status = postgres.status(settings)
    assert status.pid is not None
    assert not [c for c in psutil.Process(status.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700
    assert stat.S_IMODE((settings.home / "postgres" / "data").stat().st_mode) == 0o700


def test_text_is_sorted_the_same_on_every_machine(settings: Settings) -> None:
    with psycopg.connect(postgres.url(settings)) as connection:
        row = connection.execute(
            "SELECT datlocprovider, datlocale, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'shop'"
        ).fetchone()
    assert row == ("b", "C.UTF-8", "UTF8")


def test_a_second_call_finds_the_same_server_and_makes_another_database(settings: Settings) -> None:
    first = postgres.url(settings)
    pid = postgres.status(settings).pid
    second = postgres.url(settings, "other")
    assert first != second
    assert postgres.status(settings).pid == pid


def test_eight_processes_that_ask_at_once_get_one_server(settings: Settings) -> None:
    program = "from shop_platform.services import postgres; from shop_platform.settings import load_settings as s; "
    command = [sys.executable, "-c", program + "postgres.url(s()); print(postgres.status(s()).pid)"]
    environment = os.environ | {"SHOP_HOME": str(settings.home)}
    asking = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    answers = [process.communicate(timeout=120)[0].strip() for process in asking]
    assert [process.returncode for process in asking] == [0] * 8
    assert len(set(answers)) == 1


def test_a_killed_server_comes_back_with_its_data(settings: Settings) -> None:
    url = postgres.url(settings)
    keep_a_row(url)
    pid = postgres.status(settings).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not postgres.status(settings).running
    assert rows(postgres.url(settings)) == 1


def test_a_pid_file_that_names_a_stranger_is_seen_through(settings: Settings) -> None:
    keep_a_row(postgres.url(settings))
    pid_file = settings.home / "postgres" / "data" / "postmaster.pid"
    content = pid_file.read_text().splitlines()
    postgres.stop(settings)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        # A stranger under the server's own account: PostgreSQL itself would take it for the server and refuse.
        pid_file.write_text("\n".join([str(stranger.pid), *content[1:]]) + "\n")
        assert not postgres.status(settings).running
        assert rows(postgres.url(settings)) == 1
        assert stranger.poll() is None
        stranger.kill()


def test_nothing_is_left_after_stop(settings: Settings) -> None:
    postgres.url(settings)
    pid = postgres.status(settings).pid
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert len(family) > 1
    assert postgres.stop(settings)
    assert not [process for process in family if process.is_running()]
    assert not postgres.stop(settings)


def test_clients_that_hold_a_transaction_do_not_keep_it_from_stopping(settings: Settings) -> None:
    connection = psycopg.connect(postgres.url(settings))
    connection.execute("SELECT 1")
    assert postgres.stop(settings)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


def test_an_initdb_that_was_interrupted_is_done_again(settings: Settings) -> None:
    half = settings.home / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    keep_a_row(postgres.url(settings))
    assert not half.exists()


def test_a_folder_with_something_else_in_it_is_named(settings: Settings) -> None:
    data = settings.home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "thesis.txt").write_text("mine")
    with pytest.raises(ServiceError, match="holds no PostgreSQL data"):
        postgres.url(settings)
    assert (data / "thesis.txt").read_text() == "mine"


def test_a_home_too_deep_for_a_socket_works_all_the_same(server_folder: Path) -> None:
    deep = Settings(home=server_folder / ("d" * 60) / ("e" * 60))
    try:
        keep_a_row(postgres.url(deep))
        socket = Path(psycopg.conninfo.conninfo_to_dict(postgres.url(deep))["host"])
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    finally:
        postgres.stop(deep)


def test_a_home_with_blanks_commas_and_apostrophes_works_all_the_same(server_folder: Path) -> None:
    odd = Settings(home=server_folder / "Zoë's shop, no. 1")
    try:
        keep_a_row(postgres.url(odd))
        assert postgres.status(odd).running
    finally:
        assert postgres.stop(odd)


def test_a_url_in_the_environment_starts_nothing(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", database_url="postgresql://reader:hush@127.0.0.1:1/there")
    assert postgres.url(settings) == "postgresql://reader:hush@127.0.0.1:1/there"
    status = postgres.status(settings)
    assert not status.running
    assert "hush" not in repr(status)
    assert not postgres.stop(settings)
    assert not settings.home.exists()


def test_a_malformed_url_is_refused_without_showing_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", database_url="postgres//reader:hush@there")
    with pytest.raises(SettingsError) as caught:
        postgres.status(settings)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_database_name_that_is_no_identifier_is_refused(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="lower-case"):
        postgres.url(settings, "Robert'); DROP TABLE users")


def test_a_server_that_is_still_starting_is_waited_for(settings: Settings) -> None:
    url = postgres.url(settings)
    started = time.monotonic()
    assert postgres.url(settings) == url
    assert time.monotonic() - started < 60
