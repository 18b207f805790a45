"""Every asset, killed at random moments of its run, or with a server killed under it: one more run, and all is well.

Each of two shops gets the same data, round by round: one is never killed, the other one always. After each step both
hold the same rows, documents and files. The first round loads and builds everything, the second takes in what changed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from shop_platform.definitions import build_defs
from shop_platform.demo import all_assets
from shop_platform.services import elasticsearch as elasticsearch_service
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import Settings

from ..conftest import TEMPLATE
from ..services.asking import kill
from .children import Child
from .twins import STEPS, Twin, twins

#: Rounds of the whole matrix, by how often each asset is killed in it, one time after the other: five times in all.
ROUNDS = (2, 3)

EVERYTHING = tuple(step[0] for step in STEPS)

IN_ELASTICSEARCH = ("user_logs", "search_embeddings", "user_segments", "segmented_user_logs", "segment_profiles")

#: All that these are made from.
TOWARDS_ELASTICSEARCH = ("users", *IN_ELASTICSEARCH)

#: What `make test` tries: of each kind of store one or two.
SOME = ("users", "activity_summaries", "user_logs")

#: Kills something that a run needs, or the run itself.
Kill = Callable[[Child, Settings], None]


def kill_run(run: Child, _servers: Settings) -> None:
    """The process of the run."""
    run.kill()


def kill_postgres(_run: Child, servers: Settings) -> None:
    """PostgreSQL, which somebody starts again at once."""
    kill(postgres_service.status(servers).pid)
    postgres_service.url(servers, TEMPLATE)


def kill_elasticsearch(_run: Child, servers: Settings) -> None:
    """Elasticsearch, which somebody starts again at once."""
    kill(elasticsearch_service.status(servers).pid)
    elasticsearch_service.url(servers)


def test_every_asset_is_in_the_matrix() -> None:
    assert sorted(asset for step in STEPS for asset in step) == all_assets(build_defs())


def source(number: int) -> dict[str, str]:
    """Settings of the shop's source in a round: each has other users, events and searches."""
    return {
        "SHOP_USERS": str(80 + number),
        "SHOP_EVENTS": str(1_500 + 150 * number),
        "SHOP_SEARCHES": str(700 + 40 * number),
    }


def strike(twin: Twin, assets: tuple[str, ...], moment: float, victim: Kill, servers: Settings) -> str:
    """Run assets, and kill after so many seconds; returns how that ended."""
    with twin.beginning(assets) as run:
        if run.pipe.poll(moment):
            return "was over before"
        victim(run, servers)
        if victim is kill_run:
            return "was killed"
        failures = run.hear(240)
    # An outage that is survived, or one that is named: nothing else.
    for _, why in failures:  # type: ignore[attr-defined]
        assert "PostgreSQL" in why or "Elasticsearch" in why, why
    return "failed by name" if failures else "survived"


def compare(
    pair: tuple[Twin, Twin],
    steps: Iterable[tuple[str, ...]],
    victim: Kill,
    killed: tuple[str, ...],
    servers: Settings,
    times: int = 1,
) -> None:
    """Take both shops through the steps, and one of them through the kills; all they hold is the same after each."""
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(10**6))
    print(f"FAULT_SEED={seed}")  # noqa: T201  pytest shows it where the test fails
    draw = random.Random(seed)  # noqa: S311  no secret
    spared, struck = pair
    for step in steps:
        seconds = spared.run(step)
        for _ in range(times if step[0] in killed else 0):
            moment = draw.uniform(0, seconds)
            how = strike(struck, step, moment, victim, servers)
            print(f"{step[0]}: {how} after {moment:.2f} of {seconds:.2f} s")  # noqa: T201
        struck.run(step)
        expected, found = spared.state(), struck.state()
        differing = {key: (expected.get(key), found.get(key)) for key in expected.keys() | found.keys()}
        assert {key: both for key, both in differing.items() if both[0] != both[1]} == {}, step


@pytest.fixture
def pair(servers: Settings, template_url: str, elasticsearch_url: str, tmp_path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN201  a generator of twins
    """Both shops."""
    assert servers
    with twins(template_url, elasticsearch_url, tmp_path) as made:
        yield made


def take(pair: tuple[Twin, Twin], number: int) -> None:
    """Give both the data of a round."""
    for twin in pair:
        twin.settings = source(number)


def test_some_assets_that_are_killed_at_a_random_moment_and_run_again_leave_what_a_run_never_killed_leaves(
    pair: tuple[Twin, Twin], servers: Settings
) -> None:
    steps = [step for step in STEPS if step[0] in SOME]
    take(pair, 0)
    compare(pair, steps, kill_run, SOME, servers)


def test_a_load_under_which_postgresql_is_killed_and_that_is_run_again_leaves_what_one_never_disturbed_leaves(
    pair: tuple[Twin, Twin], servers: Settings
) -> None:
    take(pair, 0)
    compare(pair, STEPS[:1], kill_postgres, ("users",), servers)


@pytest.mark.exhaustive
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize(
    ("victim", "made", "killed"),
    [
        (kill_run, EVERYTHING, EVERYTHING),
        (kill_postgres, EVERYTHING, EVERYTHING),
        (kill_elasticsearch, TOWARDS_ELASTICSEARCH, IN_ELASTICSEARCH),
    ],
    ids=["the run", "PostgreSQL", "Elasticsearch"],
)
def test_every_asset_that_is_killed_and_run_again_leaves_what_a_run_never_killed_leaves(
    pair: tuple[Twin, Twin], servers: Settings, victim: Kill, made: tuple[str, ...], killed: tuple[str, ...]
) -> None:
    steps = [step for step in STEPS if step[0] in made]
    for number, times in enumerate(ROUNDS):
        take(pair, number)
        compare(pair, steps, victim, killed, servers, times)
