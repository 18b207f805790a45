"""Real servers for the tests: started once, a clean database and an index prefix of its own for each test."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# No test reaches for the user's own servers, shop or Dagster home.
for name in list(os.environ):
    if name.startswith(("SHOP_", "DATABASE_URL", "ELASTICSEARCH_", "DAGSTER_")):
        del os.environ[name]
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
# The Java machines of tests live so briefly that optimising what they run costs more than it gains.
for name in ("SHOP_ELASTICSEARCH_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS"):
    os.environ[name] = "-XX:TieredStopAtLevel=1"

from shop_platform.resources.elasticsearch import ElasticsearchResource  # noqa: E402  after the environment is clean
from shop_platform.resources.postgres import PostgresResource  # noqa: E402
from shop_platform.services import elasticsearch as elasticsearch_service  # noqa: E402
from shop_platform.services import postgres as postgres_service  # noqa: E402
from shop_platform.settings import Settings  # noqa: E402
from shop_platform_tests.databases import clone_of  # noqa: E402

HERE = Path(__file__).parent
TEMPLATE = "shop_template"

#: Bytes of memory that must be free for the servers' files to lie there.
ROOM = 8 * 2**30

# How long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("without_deadline", deadline=None)
hypothesis.settings.load_profile("without_deadline")


#: What takes longest, from the longest on: begun first, so that no process waits for the other at the end.
LONGEST = (
    "acceptance/test_nothing_leaks.py", "acceptance/test_report_page.py", "acceptance/", "test_code_blocks.py",
    "test_cli.py", "test_planted_faults.py", "engines/", "segmentation/test_assets.py", "performance/test_assets.py",
    "test_package.py", "erasure/", "encoders/", "segmentation/",
)  # fmt: skip


def _rank(item: pytest.Item) -> int:
    place = item.path.relative_to(HERE).as_posix()
    return next((n for n, each in enumerate(LONGEST) if place.startswith(each)), len(LONGEST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=_rank)


def pytest_collection_finish() -> None:
    """Look for garbage no more in what was imported: a million objects, which stay."""
    gc.collect()
    gc.freeze()


class ByFixtures(LoadScopeScheduling):
    """Each module on whichever process is free; those that share one demo on the same, so that it runs once."""

    def _split_scope(self, nodeid: str) -> str:
        module = str(super()._split_scope(nodeid))
        return "acceptance" if "/acceptance/" in module else module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFixtures | None:
    """For `--dist loadscope`."""
    return ByFixtures(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def server_settings() -> Iterator[Settings]:
    """Settings under which this run's embedded servers live; whatever was started is stopped at the end."""
    with _folder_for_servers() as folder:
        settings = Settings(home=folder / "home", elasticsearch_heap="512m")
        # A port that hardly anybody else tries: a node that a test kills finds it free when it comes back.
        noted = settings.home / "elasticsearch" / "server.json"
        noted.parent.mkdir(parents=True)
        noted.write_text(json.dumps({"port": random.SystemRandom().randrange(15_000, 30_000)}), encoding="utf-8")
        yield settings
        elasticsearch_service.stop(settings)
        postgres_service.stop(settings)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """An empty folder in which a test may start servers of its own; it stops them itself."""
    with _folder_for_servers() as folder:
        yield folder


@contextmanager
def _folder_for_servers() -> Iterator[Path]:
    """A temporary folder outside of pytest's.

    As root, PostgreSQL runs under an account of its own, and a second pytest session that starts meanwhile takes the
    right to enter pytest's folder away from it. In memory, where there is room: a database is some hundred files, and
    to make and remove those of one takes a disk's file system several times as long.
    """
    memory = Path("/dev/shm")  # noqa: S108  a folder with a new name is made in it
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM
    with tempfile.TemporaryDirectory(prefix="shop_platform_tests_", dir=memory if roomy else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def template_url(server_settings: Settings) -> str:
    """URL of a migrated, empty database that each test's database is cloned from."""
    url = postgres_service.url(server_settings, TEMPLATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        PostgresResource().migrate()
    return url


@pytest.fixture
def postgres(template_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresResource]:
    """A clean, migrated database of the test's own, which `DATABASE_URL` names meanwhile."""
    with clone_of(template_url) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        yield PostgresResource()


@pytest.fixture(scope="session")
def elasticsearch_url(server_settings: Settings) -> str:
    """URL of this run's Elasticsearch."""
    return elasticsearch_service.url(server_settings)


@pytest.fixture
def elasticsearch(elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ElasticsearchResource]:
    """Elasticsearch with an index prefix of the test's own, which `ELASTICSEARCH_URL` names meanwhile."""
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    prefix = f"test_{uuid.uuid4().hex}_"
    resource = ElasticsearchResource(index_prefix=prefix)
    yield resource
    with resource.client() as client:
        for index in client.indices.get(index=f"{prefix}*", expand_wildcards="all"):
            client.indices.delete(index=index)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `SHOP_HOME` of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SHOP_HOME", str(folder))
    return folder
