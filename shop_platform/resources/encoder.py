"""The embedding model as a Dagster resource: verified, offline, loaded when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dagster import ConfigurableResource
from pydantic import PrivateAttr

from shop_platform.encoders.packaged import DIMENSIONS
from shop_platform.encoders.reference import model_name
from shop_platform.errors import ModelError
from shop_platform.settings import load_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Texts between two times that somebody is told how far it is.
_TOLD_EVERY = 1_024

#: There where NVIDIA's driver is; sentence-transformers then computes on the GPU.
_NVIDIA = Path("/proc/driver/nvidia/version")


class Encoder(Protocol):
    """What the resource gets vectors from; `dimensions` are the components of one."""

    dimensions: int

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of the texts, in their order: (texts, dimensions), rows of length 1."""
        ...


class EncoderResource(ConfigurableResource[Any]):
    """Encodes texts by the model of the settings. Importing and creating it costs nothing; the first `encode` does.

    By default all-MiniLM-L6-v2 in ONNX Runtime, which needs no torch. `SHOP_ENCODER=sentence-transformers` asks for the
    reference, which also computes where there is a GPU; `SHOP_ENCODER_MODEL` for another model, by the same.
    """

    _encoder: Encoder | None = PrivateAttr(default=None)
    _name: str | None = PrivateAttr(default=None)

    @property
    def model_name(self) -> str:
        """Name of the model and of its weights, which goes with every vector; known without loading it.

        Raises:
            ModelError: SHOP_ENCODER_MODEL names no model.
        """
        if self._name is None:
            self._name = model_name(load_settings().encoder_model)
        return self._name

    @property
    def dimensions(self) -> int:
        """Components of a vector; loads the model, unless it is the packaged one."""
        return self._loaded().dimensions if load_settings().encoder_model else DIMENSIONS

    def encode(self, texts: Sequence[str], done: Callable[[int], object] = lambda _: None) -> NDArray[np.float32]:
        """Vectors of the texts, in their order.

        Args:
            texts: texts; of each, all-MiniLM-L6-v2 reads 256 word pieces at most.
            done: told now and then how many more texts are encoded.

        Returns:
            (texts, dimensions), rows of length 1: a product of two rows is their cosine.

        Raises:
            ModelError: the model is missing, is not the published one, or gives something that is no vector.
        """
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        # Texts of like length together: hardly any padding, and batches that are full.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for first in range(0, len(order), _TOLD_EVERY):
            part = order[first : first + _TOLD_EVERY]
            vectors[part] = self._loaded().encode([texts[i] for i in part])
            done(len(part))
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
            raise ModelError(f"{self.model_name} gave vectors that are not of length 1: the installation is broken.")
        return vectors

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            settings = load_settings()
            if settings.encoder == "sentence-transformers" or settings.encoder_model or _NVIDIA.exists():
                from shop_platform.encoders.reference import ReferenceEncoder

                self._encoder = ReferenceEncoder(settings.encoder_model)
            else:
                from shop_platform.encoders.onnx import OnnxEncoder

                self._encoder = OnnxEncoder()
        return self._encoder
