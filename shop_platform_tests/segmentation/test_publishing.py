"""Models of the segments that are kept: the one in use, and the one that takes its place."""

from __future__ import annotations

from shop_platform.records import write_record
from shop_platform.resources.postgres import PostgresResource
from shop_platform.segmentation.publishing import read_model, store_model
from shop_platform.segmentation.segmenting import RECORD


def test_the_model_in_use_and_a_new_one_are_kept_and_none_before(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        for version in ("first", "second", "third"):
            store_model(connection, version, version.encode())
            kept = [row[0] for row in connection.execute("SELECT version FROM ops.segment_models ORDER BY made_at")]
            assert kept[-1] == version
            assert len(kept) <= 2
            write_record(connection, RECORD, "run", {"version": version})
        assert read_model(connection, "first") is None
        assert read_model(connection, "second") == b"second"
        assert read_model(connection, "third") == b"third"
