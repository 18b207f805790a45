"""Embedding queries by ONNX Runtime against sentence-transformers: throughput, a whole log, cold start, memory."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Row, compare, in_turns
from shop_platform.encoders.onnx import OnnxEncoder
from shop_platform.encoders.packaged import packaged_model
from shop_platform.segmentation.queries import normalise
from shop_platform.sources.parameters import ShopParameters
from shop_platform.sources.synthetic import SyntheticSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Searches of both logs, and distinct queries of the one with many repeats.
SEARCHES, DISTINCT = 20_000, 3_000

#: Largest difference of a component from sentence-transformers' vectors.
TOLERANCE = 1e-5

_THEIRS, _OURS = "sentence-transformers", "ONNX"

#: Programs from their first line to a vector: of one text, or of all lines of the standard input.
_STARTS = {
    _THEIRS: (
        "import sys; from sentence_transformers import SentenceTransformer; "
        "print(SentenceTransformer(sys.argv[1], device='cpu').encode([sys.argv[2]]).shape)"
    ),
    _OURS: (
        "import sys; from shop_platform.encoders.onnx import OnnxEncoder; "
        "print(OnnxEncoder().encode([sys.argv[2]]).shape)"
    ),
}

# The kernel's VmHWM is of this program alone; ru_maxrss would start at the peak of the process that started it.
_MEMORY = """
import json, sys
from pathlib import Path
from shop_platform.encoders.onnx import OnnxEncoder
assert len(OnnxEncoder().encode(json.load(sys.stdin)))
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
"""


def encoding_rows(rounds: int = 10, log_rounds: int = 5) -> list[Row]:
    """All rows; the graph is exported before, where it is not in the user's cache."""
    return [distinct_row(rounds), log_row(log_rounds), start_row(rounds), memory_row()]


def distinct_row(rounds: int) -> Row:
    """Distinct queries, so that nothing but the two implementations differs."""
    queries = distinct_queries()
    ours, theirs = OnnxEncoder(), _reference()
    times = in_turns({_THEIRS: lambda: theirs(queries), _OURS: lambda: ours.encode(queries)}, rounds, agreeing())
    measure = "embed distinct queries: ONNX against sentence-transformers"
    return compare(f"{len(queries):,} queries", measure, times, _THEIRS, _OURS, at_least=3)


def log_row(rounds: int) -> Row:
    """A log of which 85 % are repeats: every document by itself against every distinct query once."""
    log = _log_with_repeats()
    ours, theirs = OnnxEncoder(), _reference()

    def once_each() -> NDArray[np.float32]:
        row_of: dict[str, int] = {}
        rows = [row_of.setdefault(normalise(query), len(row_of)) for query in log]
        return ours.encode(list(row_of))[rows]

    # Both warm up on the same texts: a whole round would take half a minute.
    for encode in (theirs, ours.encode):
        encode(distinct_queries())
    times = in_turns({"each document": lambda: theirs(log), "once each": once_each}, rounds, agreeing(), warm_ups=0)
    measure = f"embed a log of {DISTINCT:,} distinct queries: once each by ONNX against each document"
    return compare(f"{len(log):,} searches", measure, times, "each document", "once each", at_least=20)


def start_row(rounds: int) -> Row:
    """A new process to its first vector, as its parent waits for it."""
    parties = {name: lambda program=program: _run(program) for name, program in _STARTS.items()}

    def check(name: str, shape: str) -> None:
        if shape.strip() != "(1, 384)":
            raise RuntimeError(f"{name} gives no vector but {shape}")

    times = in_turns(parties, rounds, check)
    measure = "new process to its first vector: ONNX against sentence-transformers"
    return compare("1 query", measure, times, _THEIRS, _OURS, at_least=8)


def memory_row() -> Row:
    """Peak memory of a process that embeds the distinct queries by ONNX and does nothing else."""
    queries = distinct_queries()
    megabytes = int(_run(_MEMORY, json.dumps(queries))) * 1024 / 1e6
    measure = "peak memory of the process that embeds by ONNX"
    at = f"{len(queries):,} queries"
    return Row(at, measure, megabytes, megabytes, megabytes, 1, 300, at_least=False, unit="MB")


def _run(program: str, text: str | None = None) -> str:
    """What a new Python prints, which may ask no model hub."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(  # noqa: S603  our own program
        [sys.executable, "-c", program, str(packaged_model()), "gaming laptop"],
        check=True, capture_output=True, text=True, input=text, env=os.environ | offline,
    )  # fmt: skip
    return done.stdout


@cache
def distinct_queries() -> list[str]:
    """Distinct normalised queries of a synthetic shop's log, in the order of their first search."""
    batches = SyntheticSource(ShopParameters(searches=SEARCHES)).searches().batches
    queries = (query for batch in batches for query in batch.column("search_query").to_pylist())
    return list(dict.fromkeys(filter(None, map(normalise, queries))))


def _log_with_repeats() -> list[str]:
    """Each of the distinct queries once, the rest drawn with replacement from a long tail (Zipf), in random order."""
    import numpy as np

    rng = np.random.default_rng(1)
    distinct = np.array(distinct_queries(), dtype=object)[rng.permutation(len(distinct_queries()))[:DISTINCT]]
    shares = 1 / np.arange(1, DISTINCT + 1)
    drawn = rng.choice(DISTINCT, SEARCHES - DISTINCT, p=shares / shares.sum())
    log: list[str] = distinct[rng.permutation(np.concatenate([np.arange(DISTINCT), drawn]))].tolist()
    return log


def _reference() -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """sentence-transformers' `encode` of the same weights, with its defaults, on the processor."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it is untyped
    model: Any = SentenceTransformer(str(packaged_model()), device="cpu", local_files_only=True)
    return lambda texts: model.encode(list(texts))


def agreeing() -> Callable[[str, NDArray[np.float32]], None]:
    """A check that each result of one party has the vectors of the other's before it."""
    import numpy as np

    seen: dict[str, NDArray[np.float32]] = {}

    def check(name: str, vectors: NDArray[np.float32]) -> None:
        seen[name] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for first, second in itertools.combinations(seen.values(), 2):
            off = float(np.abs(first - second).max())
            if not off < TOLERANCE:
                raise RuntimeError(f"{name} gives other vectors: a component differs by {off:.2g}")

    return check
