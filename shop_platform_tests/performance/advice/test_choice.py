"""The choice of indexes: within the budget, about the best there is, whatever the order and what useless ones join."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from threading import Thread
from time import monotonic, sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_platform.performance.advice.candidates import Candidate
from shop_platform.performance.advice.choice import Trial, choose, lock_note
from shop_platform.performance.statistics import NEGLIGIBLE, Ratio
from shop_platform.resources.postgres import Connection, PostgresResource


def trial(name: str, size: int, **speedups: float) -> Trial:
    """A trial whose speedups are sure."""
    return Trial(
        name, size, 1.0, {query: Ratio(value, value * 0.99, value * 1.01) for query, value in speedups.items()}
    )


_RATIOS = st.tuples(st.floats(0.2, 20), st.floats(0.5, 1.0), st.floats(1.0, 2.0)).map(
    lambda parts: Ratio(parts[0], parts[0] * parts[1], parts[0] * parts[2])
)
_TRIALS = st.lists(
    st.builds(
        Trial,
        st.sampled_from("abcdefghij"),
        st.integers(1, 50),
        st.just(1.0),
        st.dictionaries(st.sampled_from(["one", "two", "three"]), _RATIOS),
    ),
    max_size=7,
    unique_by=lambda each: each.name,
)
_BUDGETS = st.integers(0, 120)


def gain(each: Trial, query: str) -> float:
    ratio = each.speedups.get(query)
    return math.log(ratio.value) if ratio and ratio.low > 1 and ratio.value > NEGLIGIBLE else 0.0


def worth(trials: tuple[Trial, ...]) -> float:
    return sum(max((gain(each, query) for each in trials), default=0.0) for query in ("one", "two", "three"))


@given(_TRIALS, _BUDGETS)
def test_the_budget_is_kept_and_nothing_within_it_is_better(trials: list[Trial], budget: int) -> None:
    chosen = tuple(each for each in trials if each.name in choose(trials, budget))
    assert sum(each.size_bytes for each in chosen) <= budget
    sets = [some for count in range(len(trials) + 1) for some in combinations(trials, count)]
    sized = [(some, sum(each.size_bytes for each in some)) for some in sets]
    best = max(worth(some) for some, size in sized if size <= budget)
    enough = best - math.log(NEGLIGIBLE)
    assert worth(chosen) >= enough - 1e-6
    # No smaller set, and so none with one of them left out, does about as much.
    size = sum(each.size_bytes for each in chosen)
    assert not [some for some, other in sized if other < size and worth(some) > enough + 1e-6]


@given(_TRIALS, _BUDGETS, st.randoms())
def test_the_order_of_trials_decides_nothing(trials: list[Trial], budget: int, random: object) -> None:
    shuffled = list(trials)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled, budget) == choose(trials, budget)


@given(
    _TRIALS,
    _BUDGETS,
    st.sampled_from([Ratio(1.0, 0.9, 1.1), Ratio(9.0, 0.99, 20.0), Ratio(1.04, 1.03, 1.05), Ratio(0.1, 0.1, 0.2)]),
)
def test_a_useless_trial_changes_nothing(trials: list[Trial], budget: int, useless: Ratio) -> None:
    for size in (0, 1, 1000):
        added = [Trial("0", size, 1.0, {"one": useless, "two": useless}), *trials]
        assert choose(added, budget) == choose(trials, budget)


@given(_TRIALS, _BUDGETS)
def test_a_larger_copy_of_a_trial_changes_nothing(trials: list[Trial], budget: int) -> None:
    for each in trials:
        copy = replace(each, name="0", size_bytes=each.size_bytes + 1)
        assert choose([copy, *trials], budget) == choose(trials, budget)


def test_two_that_serve_different_queries_are_both_chosen() -> None:
    assert choose([trial("b", 10, one=3.0), trial("a", 10, two=2.0)], 20) == ["a", "b"]


def test_where_both_do_not_fit_the_better_one_is_chosen() -> None:
    assert choose([trial("b", 10, one=3.0), trial("a", 10, two=2.0)], 19) == ["b"]


def test_two_small_ones_beat_one_large_one() -> None:
    trials = [trial("large", 10, one=5.0), trial("small_1", 5, two=3.0), trial("small_2", 5, three=3.0)]
    assert choose(trials, 10) == ["small_1", "small_2"]


def test_an_index_that_serves_no_query_better_than_a_chosen_one_is_left_out() -> None:
    trials = [
        trial("idx_events_user_id", 10, one=4.0),
        trial("idx_events_user_id_timestamp", 12, one=4.0, two=3.0),
    ]
    assert choose(trials, 100) == ["idx_events_user_id_timestamp"]
    assert choose(trials, 11) == ["idx_events_user_id"]


def test_of_two_alike_the_smaller_then_the_first_by_name_is_chosen() -> None:
    assert choose([trial("a", 11, one=4.0), trial("b", 10, one=4.0)], 100) == ["b"]
    assert choose([trial("b", 10, one=4.0), trial("a", 10, one=4.0)], 100) == ["a"]


def test_a_gain_within_the_noise_is_worth_no_byte() -> None:
    assert choose([trial("large", 100, one=4.1), trial("small", 10, one=4.0)], 1000) == ["small"]
    assert choose([trial("large", 100, one=4.3), trial("small", 10, one=4.0)], 1000) == ["large"]


@pytest.mark.parametrize("ratio", [Ratio(5.0, 1.0, 9.0), Ratio(1.05, 1.04, 1.06), Ratio(0.5, 0.4, 0.6)])
def test_only_sure_speedups_count(ratio: Ratio) -> None:
    assert choose([Trial("a", 1, 1.0, {"one": ratio})], 100) == []


def test_many_trials_are_chosen_from_in_a_moment() -> None:
    trials = [trial(f"t{n:02}", 1 + n % 5, **{f"q{n % 20}": 1.1 + n / 10}) for n in range(60)]
    chosen = choose(trials, 40)
    assert 0 < sum(each.size_bytes for each in trials if each.name in chosen) <= 40
    # The most useful one of the queries' last round.
    assert "t59" in chosen
    assert choose(trials[::-1], 40) == chosen


@pytest.mark.parametrize("name", ["idx_users_name", "Odd name"])
def test_the_statements_of_the_lock_note_work(postgres: PostgresResource, name: str) -> None:
    candidate = Candidate(name, "users", "composite", "USING btree (name)", "For the test.")
    note, create, drop = lock_note(candidate).splitlines()
    for said in ("SHARE lock", "writes waits", "SHARE UPDATE EXCLUSIVE", "twice", "older transactions", "invalid"):
        assert said in note
    with postgres.connect(autocommit=True) as connection:
        connection.execute(create)
        connection.execute(drop.partition(": ")[2])
        assert connection.execute("SELECT to_regclass(quote_ident(%s))", [name]).fetchone() == (None,)


@pytest.mark.parametrize(("concurrently", "lock"), [(False, "ShareLock"), (True, "ShareUpdateExclusiveLock")])
def test_a_build_takes_the_lock_that_the_note_tells(postgres: PostgresResource, concurrently: bool, lock: str) -> None:
    """Held up by a writer's open transaction, a plain build waits for its lock, a concurrent one holds its own."""
    candidate = Candidate("idx_users_name", "users", "composite", "USING btree (name)", "For the test.")
    with (
        postgres.connect(autocommit=True) as watcher,
        postgres.connect() as writer,
        postgres.connect(autocommit=True) as builder,
    ):
        writer.execute("INSERT INTO users (user_id, signup_date) VALUES ('a', now())")
        build = Thread(target=builder.execute, args=[candidate.create(concurrently=concurrently)])
        build.start()
        try:
            seen = _lock(watcher, builder.info.backend_pid, lock)
        finally:
            writer.rollback()
            build.join()
    assert seen == concurrently


def _lock(watcher: Connection, pid: int, mode: str) -> bool | None:
    """Whether a lock on users is held, once it is asked for; None where nobody asks for it within half a minute."""
    until = monotonic() + 30
    while monotonic() < until:
        row = watcher.execute(
            "SELECT granted FROM pg_locks WHERE relation = 'users'::regclass AND pid = %s AND mode = %s", [pid, mode]
        ).fetchone()
        if row is not None:
            return bool(row[0])
        sleep(0.02)
    return None
