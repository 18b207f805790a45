"""The packaged model in ONNX Runtime: the same vectors as sentence-transformers', without torch in the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from platformdirs import user_cache_path

from shop_platform.encoders.export import OPSET
from shop_platform.encoders.packaged import DIMENSIONS, LONGEST, NAME, WEIGHTS_SHA256, packaged_model, sha256, verify
from shop_platform.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

#: Word pieces of a forward pass: with more, what is between the layers outgrows a core's cache.
_PIECES = 256

#: Texts whose word pieces are held at a time.
_TEXTS = 16_384

#: Largest difference of a component from the reference vectors: float32 in another order of summation makes 1e-6.
_TOLERANCE = 1e-5

#: What sentence-transformers gives for a few texts.
REFERENCE = Path(__file__).with_name("reference_vectors.json")


class OnnxEncoder:
    """Encodes texts in batches of equal length, so that nothing is padded and a vector depends on its text alone."""

    name = NAME
    dimensions = DIMENSIONS

    def __init__(self, cache: Path | None = None) -> None:
        """Load graph and tokenizer, and compare a few vectors with stored ones.

        Args:
            cache: folder in which the graph is kept; by default one in the user's cache.

        Raises:
            ModelError: the model is missing, is not the published one, or does not give its vectors here.
        """
        folder = packaged_model()
        verify(folder, "tokenizer.json")
        self._graph = _graph(folder, cache or user_cache_path("shop_platform") / "onnx")
        self._session = _session(self._graph)
        self._tokenizer = _tokenizer(folder)
        self._threads = ThreadPoolExecutor(_processors())
        self._compare_with_reference()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of the texts, in their order: (texts, 384), rows of length 1."""
        import numpy as np

        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for first in range(0, len(texts), _TEXTS):
            part = [each.ids for each in self._tokenizer.encode_batch_fast(list(texts[first : first + _TEXTS]))]

            def run(rows: list[int], part: list[list[int]] = part, first: int = first) -> None:
                # A single text goes twice: alone, its pieces would be summed up in another order.
                pieces = np.array([part[row] for row in (rows if len(rows) > 1 else rows * 2)], dtype=np.int64)
                found = self._session.run(None, {"pieces": pieces})[0]
                vectors[np.array(rows) + first] = found[: len(rows)]

            # One thread a batch leaves less to wait for than all threads on each.
            for _ in self._threads.map(run, _batches([len(ids) for ids in part])):
                pass
        return vectors

    def _compare_with_reference(self) -> None:
        import numpy as np

        stored = json.loads(REFERENCE.read_text(encoding="utf-8"))
        found = self.encode(list(stored["vectors"]))
        off = float(np.abs(found - np.array(list(stored["vectors"].values()), dtype=np.float32)).max())
        if not off <= _TOLERANCE:
            # The next start exports it again: a reinstalled package may have mended it.
            self._graph.with_suffix(".json").unlink(missing_ok=True)
            raise ModelError(
                f"{NAME} in ONNX Runtime does not give the vectors of sentence-transformers here: a component differs "
                f"by {off:.2g}, more than {_TOLERANCE:.0e}. Set SHOP_ENCODER=sentence-transformers, and report it."
            )


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of texts of equal length, at most `_PIECES` word pieces together."""
    by_length: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        by_length.setdefault(length, []).append(number)
    for length, numbers in sorted(by_length.items()):
        size = max(1, _PIECES // length)
        for first in range(0, len(numbers), size):
            yield numbers[first : first + size]


def _graph(folder: Path, cache: Path) -> Path:
    """The graph in the cache, exported once from verified weights, and verified by its own hash ever after."""
    graph = cache / f"{NAME}.onnx"
    record = graph.with_suffix(".json")
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(graph.with_suffix(".lock")):
        if not _is_intact(graph, record):
            verify(folder)
            made = graph.with_suffix(".part")
            done = subprocess.run(  # noqa: S603  our own program and paths
                [sys.executable, "-m", "shop_platform.encoders.export", str(folder), str(made)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise ModelError(
                    f"{NAME} could not be exported for ONNX Runtime: {reason}. Set SHOP_ENCODER=sentence-transformers "
                    "to do without."
                )
            made.replace(graph)
            record.write_text(json.dumps(_record(graph)), encoding="utf-8")
    return graph


def _is_intact(graph: Path, record: Path) -> bool:
    """Whether the cached graph is the one that was exported, as this version exports it."""
    try:
        return bool(json.loads(record.read_text(encoding="utf-8")) == _record(graph))
    except (OSError, ValueError):
        return False


def _record(graph: Path) -> dict[str, object]:
    return {"weights": WEIGHTS_SHA256, "opset": OPSET, "graph": sha256(graph)}


def _processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session(graph: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # What goes beyond fuses layer normalisation with the addition before it, which takes nine times as long here.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # The file itself pads and cuts to 128, which is neither what the model was made for nor quick.
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer
