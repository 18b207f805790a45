"""Any sentence-transformers model: the reference for the packaged one, and the way to another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shop_platform.encoders.packaged import NAME, packaged_model, sha256, verify
from shop_platform.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Texts a forward pass: more is slower, since every text is padded to the longest of its batch.
_BATCH = 64

#: Endings of the files that a model's vectors depend on.
_MATTERS = (".safetensors", ".bin", ".json", ".txt", ".model")


class ReferenceEncoder:
    """Encodes texts by sentence-transformers, on a GPU where there is one.

    Attributes:
        name: of the model and its weights.
        dimensions: components of a vector.
    """

    def __init__(self, model: Path | None = None) -> None:
        """Load the model of a folder, by default the packaged one.

        Raises:
            ModelError: it is missing, can't be loaded, or is not the published one.
        """
        folder = model or packaged_model()
        if model is None:
            verify(folder)
        self.name = model_name(model)
        # Read once, at import: no model hub is asked, nothing is sent.
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
        from torch import cuda
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it is untyped
        device = "cuda" if cuda.is_available() else "cpu"
        try:
            self._model: Any = SentenceTransformer(str(folder), device=device, local_files_only=True)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(
                f"{folder} holds no model that sentence-transformers can load: {error}. SHOP_ENCODER_MODEL takes the "
                "folder of one, as SentenceTransformer.save writes it."
            ) from error
        self.dimensions = len(self._model.encode(["a"], show_progress_bar=False)[0])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of the texts, in their order: (texts, dimensions), rows of length 1."""
        import numpy as np

        vectors = self._model.encode(
            list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, dtype=np.float32)


def model_name(model: Path | None) -> str:
    """Name of the model in a folder and of its files, by their content; of the packaged one for None.

    Raises:
        ModelError: there is no such folder, or it holds no weights.
    """
    if model is None:
        return NAME
    files = sorted(path for path in model.rglob("*") if path.suffix in _MATTERS and path.is_file())
    if not any(path.suffix in (".safetensors", ".bin") for path in files):
        raise ModelError(
            f"SHOP_ENCODER_MODEL is {model}, which holds no weights: name the folder of a sentence-transformers model, "
            "as SentenceTransformer.save writes it."
        )
    state = hashlib.sha256("".join(f"{path.relative_to(model)} {sha256(path)}\n" for path in files).encode())
    return f"{model.resolve().name}-{state.hexdigest()[:8]}"
