"""The assets that show the published matrix: files in the shop's folder, whole, of this matrix, small in metadata."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from shop_platform.pictures import read_facts
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention import artefacts
from shop_platform.retention.assets import define_cohort_retention
from shop_platform.retention.stored import read_cells

SHOWN = [artefacts.retention_heatmap, artefacts.retention_curves, artefacts.retention_export]
START = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


def fill(connection: Connection) -> None:
    """Sixty users of three months, and somebody who looks at something every day."""
    connection.execute("ALTER TABLE users ADD COLUMN IF NOT EXISTS country text")
    connection.execute("INSERT INTO products VALUES ('p', 'P', 'C', 1)")
    connection.execute(
        "INSERT INTO users (user_id, signup_date, country)"
        " SELECT 'u' || n, %s + n * interval '36 hours', CASE n %% 3 WHEN 0 THEN '=CH' WHEN 1 THEN 'A/b' END"
        " FROM generate_series(0, 59) AS n",
        (START,),
    )
    connection.execute(
        "INSERT INTO events (user_id, product_id, event_type, timestamp)"
        " SELECT 'u0', 'p', 'viewed', %s + n * interval '1 day' FROM generate_series(0, 120) AS n",
        (START,),
    )


@pytest.fixture
def folder(postgres: PostgresResource, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files of a shop whose retention is broken down by country go."""
    monkeypatch.setenv("SHOP_RETENTION_BREAKDOWN", "country")
    with postgres.connect() as connection:
        fill(connection)
    return home / "shops" / "shop"


def run(postgres: PostgresResource) -> dg.ExecuteInProcessResult:
    """Count the matrix, then draw and write it."""
    counted = define_cohort_retention(by_segment=False)
    return dg.materialize(
        [counted, *SHOWN], resources={"postgres": postgres, "shop": ShopResource(), "engine": EngineResource()}
    )


def test_every_picture_and_file_of_the_matrix_is_written_whole(postgres: PostgresResource, folder: Path) -> None:
    result = run(postgres)
    assert {check.check_name for check in result.get_asset_check_evaluations() if not check.passed} <= {
        "data_end_is_past"
    }
    assert {path.name for path in folder.iterdir() if path.suffix in (".png", ".csv")} == {
        "retention_heatmap.png",
        "retention_heatmap_1_none.png",
        "retention_heatmap_2_ch.png",
        "retention_heatmap_3_a_b.png",
        "retention_curves.png",
        "cohort_retention.csv",
        "retention_matrix.csv",
    }
    for path in folder.glob("*.png"):
        assert read_facts(path.read_bytes()) == {"run": result.run_id, "cohorts": "3", "matrix": result.run_id}
    with postgres.connect() as connection:
        cells = read_cells(connection)
    frame = pd.read_csv(folder / "cohort_retention.csv", keep_default_na=False)
    assert len(frame) == len(cells)
    assert set(frame["breakdown"]) == {"", "(none)", "'=CH", "A/b"}


def test_each_asset_tells_its_rows_and_where_its_file_is(postgres: PostgresResource, folder: Path) -> None:
    result = run(postgres)
    for name, file, rows in [
        ("retention_heatmap", "retention_heatmap.png", 3),
        ("retention_curves", "retention_curves.png", 3),
        ("retention_export", "cohort_retention.csv", 3 * 8 * 4),
    ]:
        (materialization,) = result.asset_materializations_for_node(name)
        assert materialization.metadata["path"].value == str(folder / file)
        assert materialization.metadata["dagster/row_count"].value == rows


def test_pictures_of_groups_that_are_gone_go_too(postgres: PostgresResource, folder: Path) -> None:
    run(postgres)
    with postgres.connect() as connection:
        connection.execute("UPDATE users SET country = 'A/b'")
    run(postgres)
    assert {path.name for path in folder.glob("retention_heatmap_*")} == {"retention_heatmap_1_a_b.png"}


def test_a_picture_too_large_for_the_metadata_is_shown_plainer_or_not_at_all(
    postgres: PostgresResource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefacts, "MOST_BYTES", 100)
    result = run(postgres)
    for name, key in [("retention_heatmap", "heatmap"), ("retention_curves", "curves")]:
        (materialization,) = result.asset_materializations_for_node(name)
        assert materialization.metadata[key].value == "Too large to show here: open the file."
        assert (folder / f"{name}.png").stat().st_size > 100
