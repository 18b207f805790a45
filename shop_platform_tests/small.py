"""A shop that is small enough for a test to run its whole demo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from elasticsearch import Elasticsearch

COMMAND = str(Path(sys.executable).with_name("shop-platform"))

SMALL = {
    "SHOP_USERS": "120",
    "SHOP_EVENTS": "4000",
    "SHOP_SEARCHES": "900",
    "SHOP_MEASURE_SECONDS": "0.1",
    "SHOP_ELASTICSEARCH_HEAP": "512m",
}


@contextmanager
def shop_after_demo(settings: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a small shop whose demo has run; its indexes, which are a demo's own, are removed at the end.

    Args:
        settings: its servers and home. The database must be new: in one that was measured, a demo does not measure.
    """
    environment = {
        **SMALL,
        # So many that the segments hold, with so few users.
        "SHOP_SEARCHES": "2000",
        # What is added later is a quarter of all events, which else would be measured again.
        "SHOP_REMEASURE_GROWTH": "1",
        **settings,
    }
    demo = [COMMAND, "--debug", "demo"]
    done = subprocess.run(demo, env=os.environ | environment, check=True, capture_output=True, timeout=240)
    printed_by(environment).write_bytes(done.stdout + done.stderr)
    yield environment
    with Elasticsearch(environment["ELASTICSEARCH_URL"]) as client:
        remove_demo_indexes(client)


def remove_demo_indexes(client: Elasticsearch) -> None:
    """Remove the indexes that a demo makes, which have no prefix that a test could call its own."""
    for alias in ("user_logs", "search_embeddings"):
        for index in client.options(ignore_status=404).indices.get(index=f"{alias}*"):
            client.indices.delete(index=index)


def printed_by(shop: Mapping[str, str]) -> Path:
    """The file with what the demo printed."""
    return Path(f"{shop['SHOP_HOME']}.printed")
