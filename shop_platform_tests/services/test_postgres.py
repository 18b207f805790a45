"""The embedded PostgreSQL is started once, found again, mended after a crash, and gone after `stop`."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from shop_platform.errors import ServiceError, SettingsError
from shop_platform.services import account, postgres
from shop_platform.settings import Settings
from shop_platform_tests.services.asking import alive, answers, ask, family, kill


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with a home for the tests of this module, which each leave it usable; stopped at their end."""
    found = Settings(home=tmp_path_factory.mktemp("postgres") / "home")
    yield found
    postgres.stop(found)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Settings]:
    """Settings with a home of the test's own, in which no server ever ran; stopped at its end."""
    found = Settings(home=tmp_path / "home")
    yield found
    postgres.stop(found)


def keep_a_row(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT 1")


def rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def computing(url: str) -> Iterator[psutil.Process]:
    """A backend in the middle of a query that has no end."""
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        before = backend.cpu_times().user
        connection.pgconn.send_query(b"DO 'BEGIN LOOP NULL; END LOOP; END'")
        while backend.cpu_times().user <= before + 0.02:
            time.sleep(0.01)
        try:
            yield backend
        finally:
            if alive([backend]):  # the test has failed
                backend.kill()


def pid_file(settings: Settings) -> Path:
    return settings.home / "postgres" / "data" / "postmaster.pid"


def test_it_is_version_18_and_listens_on_a_private_unix_socket_only(settings: Settings) -> None:
    url = postgres.url(settings)
    with psycopg.connect(url) as connection:
        assert connection.info.server_version // 10_000 == 18
    assert not psutil.Process(postgres.status(settings).pid).net_connections("inet")
    socket = Path(str(conninfo_to_dict(url)["host"])) / ".s.PGSQL.5432"
    assert socket.is_socket()
    for private in (settings.home, settings.home / "postgres", settings.home / "postgres" / "data", socket.parent):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_text_is_sorted_the_same_on_every_machine(settings: Settings) -> None:
    with psycopg.connect(postgres.url(settings)) as connection:
        row = connection.execute(
            "SELECT datlocprovider, datlocale, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'shop'"
        ).fetchone()
    assert row == ("b", "C.UTF-8", "UTF8")


def test_what_is_committed_is_on_disk(settings: Settings) -> None:
    with psycopg.connect(postgres.url(settings)) as connection:
        found = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]
    assert found == [("on",), ("on",)]


def test_psql_understands_the_url(settings: Settings) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("no psql on this machine")
    done = subprocess.run(
        [psql, postgres.url(settings), "-Atc", "SELECT 1"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_a_second_call_finds_the_same_server_and_makes_another_database(settings: Settings) -> None:
    first = postgres.url(settings)
    pid = postgres.status(settings).pid
    second = postgres.url(settings, "other")
    assert first != second
    assert postgres.status(settings).pid == pid


def test_eight_processes_that_ask_at_once_get_one_server(empty: Settings) -> None:
    assert len(answers([ask("postgres", empty) for _ in range(8)])) == 1


@pytest.mark.fault
def test_a_killed_server_comes_back_with_its_data(settings: Settings) -> None:
    keep_a_row(postgres.url(settings))
    kill(postgres.status(settings).pid)
    assert not postgres.status(settings).running
    assert rows(postgres.url(settings)) == 1


def test_a_query_that_outlives_a_killed_server_does_not_keep_it_from_coming_back(settings: Settings) -> None:
    url = postgres.url(settings)
    keep_a_row(url)
    with computing(url) as backend:
        kill(postgres.status(settings).pid)
        assert alive([backend])
        assert rows(postgres.url(settings)) == 1
        assert not alive([backend])


def test_a_pid_file_that_names_a_stranger_is_seen_through(settings: Settings) -> None:
    keep_a_row(postgres.url(settings))
    lines = pid_file(settings).read_text().splitlines()
    socket_lock = settings.home / "postgres" / "socket" / ".s.PGSQL.5432.lock"
    postgres.stop(settings)
    # A stranger under the server's own account: PostgreSQL itself would take it for the server, and refuse.
    user = account.account().pw_uid if account.needed() else None
    with subprocess.Popen(["sleep", "60"], user=user) as stranger:
        pid_file(settings).write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert not postgres.status(settings).running
        assert not postgres.stop(settings)
        pid_file(settings).write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        socket_lock.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert rows(postgres.url(settings)) == 1
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("content", ["", "no number\n", "99999999999999999999\n", "-1\n"])
def test_a_spoilt_pid_file_is_seen_through(settings: Settings, content: str) -> None:
    postgres.url(settings)
    postgres.stop(settings)
    pid_file(settings).write_text(content)
    assert not postgres.status(settings).running
    assert postgres.url(settings)


def half_made(home: Path) -> bool:
    return any((home / "postgres").glob("data.new.*/*"))


def starting(home: Path) -> bool:
    return (home / "postgres" / "data" / "postmaster.pid").exists()


@pytest.mark.parametrize("moment", [half_made, starting])
def test_whoever_starts_it_may_be_killed_meanwhile(empty: Settings, moment: Callable[[Path], bool]) -> None:
    starter = ask("postgres", empty)
    while not moment(empty.home):
        assert starter.poll() is None or moment(empty.home)
        time.sleep(0.005)
    starter.kill()
    starter.communicate()
    keep_a_row(postgres.url(empty))
    assert not half_made(empty.home)
    assert postgres.stop(empty)


def test_nothing_is_left_after_stop_though_a_client_holds_a_transaction(settings: Settings) -> None:
    connection = psycopg.connect(postgres.url(settings))
    connection.execute("SELECT 1")
    processes = family(postgres.status(settings).pid)
    assert len(processes) > 1
    assert postgres.stop(settings)
    assert not alive(processes)
    assert not pid_file(settings).exists()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    assert not postgres.stop(settings)


def test_what_a_killed_server_left_is_gone_after_stop(settings: Settings) -> None:
    with computing(postgres.url(settings)) as backend:
        processes = family(postgres.status(settings).pid)
        kill(postgres.status(settings).pid)
        assert alive([backend])
        assert postgres.stop(settings)
        assert not alive(processes)


@pytest.mark.fault
def test_a_backend_that_crashes_takes_no_one_with_it(settings: Settings) -> None:
    url = postgres.url(settings)
    keep_a_row(url)
    with psycopg.connect(url) as killed, psycopg.connect(url) as bystander:
        os.kill(killed.info.backend_pid, signal.SIGKILL)
        # The server ends all others before it starts anew: from then on, whoever asks is told to wait.
        with pytest.raises(psycopg.OperationalError):
            bystander.execute("SELECT pg_sleep(60)")
    assert rows(postgres.url(settings)) == 1


def test_a_setting_of_the_users_own_goes_before_ours(settings: Settings) -> None:
    postgres.url(settings)
    postgres.stop(settings)
    with (settings.home / "postgres" / "data" / "postgresql.conf").open("a") as file:
        file.write("max_connections = 42\n")
    with psycopg.connect(postgres.url(settings)) as connection:
        assert connection.execute("SHOW max_connections").fetchone() == ("42",)


def test_a_folder_with_something_else_in_it_is_named_and_kept(empty: Settings) -> None:
    data = empty.home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "thesis.txt").write_text("mine")
    with pytest.raises(ServiceError, match="holds no PostgreSQL data"):
        postgres.url(empty)
    assert (data / "thesis.txt").read_text() == "mine"


def test_a_start_that_fails_says_why(settings: Settings) -> None:
    postgres.url(settings)
    postgres.stop(settings)
    extra = settings.home / "postgres" / "data" / "postgresql.auto.conf"
    extra.write_text("shared_preload_libraries = 'nowhere'\n")
    try:
        with pytest.raises(ServiceError, match="could not access file"):
            postgres.url(settings)
    finally:
        extra.write_text("")


def test_a_home_whose_path_no_socket_and_no_shell_would_take_works_all_the_same(tmp_path: Path) -> None:
    odd = Settings(home=tmp_path / 'it\'s, "so" $odd' / ("d" * 60) / "home")
    try:
        url = postgres.url(odd)
        keep_a_row(url)
        socket_folder = Path(str(conninfo_to_dict(url)["host"]))
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    finally:
        postgres.stop(odd)
    assert not socket_folder.exists()


@pytest.mark.skipif(not account.needed(), reason="only root runs PostgreSQL under another account")
def test_a_folder_above_that_is_closed_meanwhile_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    above = tmp_path / "above"
    settings = Settings(home=above / "home")
    postgres.url(settings)
    above.chmod(0o700)
    assert postgres.stop(settings)


def test_a_url_in_the_environment_starts_nothing(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", database_url="postgresql://reader:hush@127.0.0.1:1/there")
    assert postgres.url(settings) == "postgresql://reader:hush@127.0.0.1:1/there"
    status = postgres.status(settings)
    assert (status.embedded, status.running, status.url) == (False, False, "postgresql://127.0.0.1:1/there")
    assert "hush" not in repr(status)
    assert not postgres.stop(settings)
    assert not settings.home.exists()


def test_the_status_of_a_server_of_ones_own_tells_its_version(settings: Settings, tmp_path: Path) -> None:
    own = Settings(home=tmp_path / "home", database_url=postgres.url(settings))
    status = postgres.status(own)
    assert (status.embedded, status.running) == (False, True)
    assert str(status.version).startswith("18.")


def test_a_malformed_url_is_refused_without_showing_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", database_url="postgres//reader:hush@there")
    with pytest.raises(SettingsError) as caught:
        postgres.status(settings)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_database_name_that_is_no_identifier_is_refused(empty: Settings) -> None:
    with pytest.raises(SettingsError, match="lower-case"):
        postgres.url(empty, "Robert'); DROP TABLE users")
    assert not empty.home.exists()
