"""How many cases there are, and what every one of them must come to: taken, or refused by an error of ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from shop_platform.errors import ShopPlatformError
from shop_platform.sources.base import Extract

#: Cases of all tests here together; FUZZ_CASES=50000 for a long run.
TOTAL = int(os.environ.get("FUZZ_CASES", "500"))

#: The part of them that each test gets. What starts a server's work costs more than what is pure.
SHARES = {
    "csv": 0.12,
    "json": 0.12,
    "parquet": 0.1,
    "rows": 0.1,
    "loads": 0.02,
    "mapping bytes": 0.1,
    "mapping values": 0.1,
    "segments": 0.1,
    "settings": 0.1,
    "query bytes": 0.05,
    "query words": 0.07,
    "documents": 0.01,
    "searches": 0.01,
}

#: Text with everything that breaks programs: NUL, control characters, surrogates, right-to-left, beyond the plane 0.
TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        "",
        " ",
        "\0",
        "\ud800",
        "\ufeff",
        "é" * 600,
        "x" * 1_100,
        "NULL",
        "nan",
        "1e400",
        "9" * 5_000,
        "--",
        "'",
        '"',
        "\\",
    ]
)


def cases(test: str) -> Callable[[Any], Any]:
    """The number of cases of a test; a case that fails is made smaller, and found again from what is printed."""
    return hypothesis.settings(
        max_examples=max(1, round(SHARES[test] * TOTAL)),
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def taken(work: Callable[[], Any]) -> Any:
    """What some work on bad input gives, or None where it is refused; any other error fails the test.

    `--hypothesis-show-statistics` says which share of the cases was refused, and by what.
    """
    try:
        found = work()
    except ShopPlatformError as error:
        refused = error
    else:
        hypothesis.event("taken")
        return found
    assert str(refused).strip()
    hypothesis.event(f"refused: {type(refused).__name__}")
    return None


def count(extract: Extract) -> int:
    """Rows that were read, of which each must be given, left out or quarantined, and kept where it is the last."""
    given = sum(batch.num_rows for batch in extract.batches)
    kept = sum(batch.num_rows for batch in extract.quarantine)
    assert kept == sum(extract.quarantined.values())
    assert extract.rows_read == given + sum(extract.left_out.values()) + kept
    return extract.rows_read


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Sound bytes with up to three faults: bytes changed, cut out, put in, doubled, or the end cut off.

    One case in ten is of any bytes.
    """
    if draw(st.integers(0, 9)) == 9:
        return draw(st.binary())
    data = bytearray(sound)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 40))
        fault = draw(st.sampled_from(["change", "cut", "insert", "double", "end"]))
        if fault == "change":
            data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif fault == "cut":
            del data[place : place + length]
        elif fault == "insert":
            data[place:place] = draw(st.binary(max_size=8) | st.sampled_from(_SIGNS))
        elif fault == "double":
            data[place:place] = data[place : place + length]
        else:
            del data[place:]
    return bytes(data)


@st.composite
def reworded(draw: st.DrawFn, sound: list[str], words: st.SearchStrategy[str]) -> list[str]:
    """Sound words with up to four faults: one taken out, put in, changed, doubled, or two in each other's place."""
    found = list(sound)
    for _ in range(draw(st.integers(0, 4))):
        place, other = draw(st.integers(0, len(found) - 1)), draw(st.integers(0, len(found) - 1))
        fault = draw(st.sampled_from(["out", "in", "change", "double", "swap"]))
        if fault == "out" and len(found) > 1:
            del found[place]
        elif fault == "in":
            found.insert(place, draw(words))
        elif fault == "change":
            found[place] = draw(words)
        elif fault == "double":
            found[place:place] = found[place : place + 5]
        else:
            found[place], found[other] = found[other], found[place]
    return found


_SIGNS = [
    b'"', b"'", b"\0", b"\r", b"\n", b"\r\n", b",", b"\t", b"{", b"}", b"[", b"]", b"\\", b"\xff", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"\\ud800", b"#", b"=", b";", b"--", b"/*", b"$$", b"%", b"[" * 2_000, b"(" * 2_000,
]  # fmt: skip


def write(path: Path, content: bytes) -> Path:
    """Write a file, and give its path."""
    path.write_bytes(content)
    return path
