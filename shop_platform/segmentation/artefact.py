"""A model as bytes and back: safetensors, arrays and a JSON header, which can't execute anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from shop_platform.errors import DataError
from shop_platform.segmentation.model import VERSION, Model
from shop_platform.segmentation.reader import Reader

_ARRAYS = ("weights", "intercepts", "query_shares", "user_shares")


def pack(model: Model, about: Mapping[str, Any]) -> bytes:
    """The model, with what it was made from and with (JSON-able), as a safetensors file."""
    from safetensors.numpy import save

    header = {
        "method": VERSION,
        "supported": model.supported,
        "margins": model.margins,
        "fitted": model.fitted,
        "about": dict(about),
    }
    arrays = {name: getattr(model.reader, name) for name in _ARRAYS}
    return bytes(save(arrays, metadata={"shop_platform": json.dumps(header, sort_keys=True)}))


def version_of(data: bytes) -> str:
    """Hash of the bytes, by which a model is known; the first 8 digits stand on documents."""
    return hashlib.sha256(data).hexdigest()


def unpack(data: bytes, version: str, dimensions: int | None = None) -> Model:
    """The model of the bytes.

    Args:
        data: as `pack` made them.
        version: hash that they should have.
        dimensions: of the embeddings that it should read; None for any.

    Raises:
        DataError: these are other bytes, or no model of ours.
    """
    if version_of(data) != version:
        raise DataError(_refused(f"its bytes have the SHA-256 {version_of(data)[:12]}... instead of {version[:12]}..."))
    try:
        header, arrays = _read(data)
        model = Model(
            tuple(int(each) for each in header["supported"]),
            None if header["margins"] is None else tuple(float(each) for each in header["margins"]),
            Reader(**{name: arrays[name] for name in _ARRAYS}),
            bool(header["fitted"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(_refused(f"it can't be read ({type(error).__name__}: {error})")) from error
    if header.get("method") != VERSION:
        raise DataError(_refused(f"it was made by method {header.get('method')}, not {VERSION}"))
    _require_shape(model.reader, dimensions)
    return model


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["shop_platform"]), arrays


def _require_shape(reader: Reader, dimensions: int | None) -> None:
    import numpy as np

    arrays = [getattr(reader, name) for name in _ARRAYS]
    count = len(reader.intercepts)
    wanted = [(count, dimensions or reader.weights.shape[-1]), (count,), (count,), (count,)]
    if [array.shape for array in arrays] != wanted or any(array.dtype != np.float64 for array in arrays):
        found = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in zip(_ARRAYS, arrays, strict=True))
        raise DataError(_refused(f"its arrays are {found}, where float64 of {wanted} are needed"))
    if not all(np.isfinite(array).all() for array in arrays) or reader.query_shares.min() <= 0:
        raise DataError(_refused("it holds numbers that are none, or shares of nothing"))


def _refused(why: str) -> str:
    return (
        f"The stored model of the segments is refused: {why}. Delete it from ops.segment_models; the next run of "
        "user_segments learns another."
    )
