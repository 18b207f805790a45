"""Machines that are not as one would like them: no room, no right to write, another locale, another time zone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from shop_platform.errors import StorageError
from shop_platform.files import write_atomically
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource

from .children import child, materialise, write_and_wait, write_file
from .twins import twins

#: Nobody in particular.
NOBODY = 65_534

MIB = 2**20


def test_a_full_disk_is_named_and_the_file_of_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with child(write_file, os.environ, str(path), 2 * MIB, MIB, os.getuid()) as writer:
        said = writer.hear()
    assert (
        said
        == f"{path} can't be written: File too large. Make room, or check whose folder it is; what was there stays."
    )
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("report.html", "old")]


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):  # noqa: S108  pytest's own
            folder.chmod(0o755)
    with child(write_file, os.environ, str(tmp_path / "report.html"), 1, MIB, NOBODY) as writer:
        assert str(writer.hear()).startswith(f"{tmp_path}/report.html can't be written: Permission denied.")


def test_what_a_killed_process_had_half_written_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with child(write_and_wait, os.environ, str(path)) as writer:
        assert writer.hear() == "half"
        write_atomically(path, b"while the other one still writes")
        assert len(list(tmp_path.iterdir())) == 2
        writer.kill()
    write_atomically(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("report.html", b"new")]


def test_a_database_without_room_is_named_and_keeps_what_it_had(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    with pytest.raises(StorageError, match="temp_file_limit"), postgres.connect() as connection:
        connection.execute(
            "SET temp_file_limit = '1MB'; SET work_mem = '64kB'; DELETE FROM kept;"
            "SELECT count(*) FROM (SELECT g FROM generate_series(1, 1000000) AS g ORDER BY -g) AS sorted"
        )
    with postgres.connect() as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


@pytest.mark.exhaustive
def test_a_home_that_can_not_be_written_ends_the_run_by_name(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, tmp_path: Path
) -> None:
    assert postgres
    home = tmp_path / "home"
    settings = {
        "SHOP_HOME": str(home), "SHOP_USERS": "40", "SHOP_EVENTS": "600",
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }  # fmt: skip
    (tmp_path / "dagster").mkdir()
    with child(
        materialise,
        os.environ | settings,
        elasticsearch.index_prefix,
        ["users", "products", "events", "cohort_retention"],
    ) as run:
        assert run.hear() == "ready"
        run.tell("begin")
        assert run.hear() == []
    # A folder in the place of the file can't be replaced by one, whoever asks.
    (home / "shops" / "shop" / "retention_matrix.csv" / "in the way").mkdir(parents=True)
    with child(materialise, os.environ | settings, elasticsearch.index_prefix, ["retention_export"]) as run:
        assert run.hear() == "ready"
        run.tell("begin")
        ((what, why),) = run.hear()  # type: ignore[misc]
    assert what == "retention_export"
    assert "retention_matrix.csv can't be written: Is a directory." in why


STEPS = (
    ("users", "products", "events"),
    ("activity_summaries", "cohort_retention", "retention_export"),
    ("user_logs",),
)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "TZ": "Pacific/Kiritimati"},
        {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "America/St_Johns"},
    ],
    ids=["C", "Turkish"],
)
def test_locale_and_time_zone_of_the_machine_change_nothing(
    template_url: str, elasticsearch_url: str, tmp_path: Path, variables: dict[str, str]
) -> None:
    ask = [sys.executable, "-c", "import locale; locale.setlocale(locale.LC_ALL, '')"]
    if subprocess.run(ask, env=os.environ | variables, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"there is no locale {variables['LC_ALL']}: localedef makes it, from Debian's package locales")
    with twins(template_url, elasticsearch_url, tmp_path) as (here, there):
        for twin in (here, there):
            twin.settings = {"SHOP_USERS": "60", "SHOP_EVENTS": "1500", "SHOP_SEARCHES": "300"}
        for assets in STEPS:
            here.run(assets)
        there.run_elsewhere([asset for assets in STEPS for asset in assets], **variables)
        assert there.state() == here.state()
        with psycopg.connect(here.url) as connection:
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (1_500,)
