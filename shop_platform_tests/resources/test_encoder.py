"""The embedding model as a resource: what it gives, and which one the settings choose."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from shop_platform.encoders.onnx import OnnxEncoder
from shop_platform.encoders.reference import ReferenceEncoder
from shop_platform.resources import encoder as module
from shop_platform.resources.encoder import EncoderResource


@pytest.fixture(scope="module")
def encoder() -> EncoderResource:
    return EncoderResource()


def test_vectors_are_of_length_one_in_the_order_of_the_texts(encoder: EncoderResource) -> None:
    texts = ["a much longer query about wireless headphones for travelling", "rug", "wireless headphones", "rug"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (4, encoder.dimensions)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert np.abs(vectors[1] - vectors[3]).max() < 1e-6
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1] + 0.2


def test_like_searches_are_nearer_than_unlike_ones(encoder: EncoderResource) -> None:
    laptop, notebook, leggings = encoder.encode(["gaming laptop", "notebook computer for games", "yoga leggings"])
    assert laptop @ notebook > 0.6 > 0.3 > laptop @ leggings


def test_no_text_gives_no_vector_and_loads_nothing() -> None:
    assert EncoderResource().encode([]).shape == (0, 384)


def test_progress_is_told_up_to_the_end(encoder: EncoderResource) -> None:
    told: list[int] = []
    encoder.encode(["a", "b"] * 550, done=told.append)
    assert told == [1_024, 76]


def test_a_text_of_any_length_is_taken(encoder: EncoderResource) -> None:
    assert np.isfinite(encoder.encode(["word " * 5_000, "", "\0"])).all()


def test_the_name_tells_the_weights_and_needs_no_model() -> None:
    assert EncoderResource().model_name == "all-MiniLM-L6-v2-53aa5117"


def test_no_network_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the encoder reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert EncoderResource().encode(["offline"]).shape == (1, 384)


def test_sentence_transformers_gives_the_same_vectors_under_the_same_name(
    encoder: EncoderResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["yoga mat", "größe 42", "", "a much longer query about wireless headphones for travelling"]
    expected, name = encoder.encode(texts), encoder.model_name
    monkeypatch.setenv("SHOP_ENCODER", "sentence-transformers")
    other = EncoderResource()
    assert np.abs(other.encode(texts) - expected).max() < 1e-5
    assert isinstance(other._loaded(), ReferenceEncoder)  # noqa: SLF001  which one it is
    assert other.model_name == name


def test_the_reference_is_chosen_where_nvidia_s_driver_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_NVIDIA", tmp_path / "version")
    assert isinstance(EncoderResource()._loaded(), OnnxEncoder)  # noqa: SLF001  which one it is
    (tmp_path / "version").touch()
    assert isinstance(EncoderResource()._loaded(), ReferenceEncoder)  # noqa: SLF001  which one it is
