"""Models by sentence-transformers: the packaged one, and any other's folder."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from shop_platform.encoders.packaged import NAME
from shop_platform.encoders.reference import ReferenceEncoder, model_name
from shop_platform.errors import ModelError
from shop_platform.resources.encoder import EncoderResource


def test_the_packaged_model_is_the_default(reference: ReferenceEncoder) -> None:
    assert (reference.name, reference.dimensions) == (NAME, 384)


def test_another_model_gives_vectors_of_its_own_dimensions(tiny_model: Path) -> None:
    encoder = ReferenceEncoder(tiny_model)
    vectors = encoder.encode(["yoga mat", "a much longer query", ""])
    assert encoder.dimensions == 32
    assert vectors.shape == (3, 32)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_its_name_is_that_of_its_folder_and_of_what_is_in_it(tiny_model: Path) -> None:
    name = model_name(tiny_model)
    assert re.fullmatch(r"tiny-[0-9a-f]{8}", name)
    assert ReferenceEncoder(tiny_model).name == name == model_name(tiny_model)
    with (tiny_model / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"X")
    assert re.fullmatch(r"tiny-[0-9a-f]{8}", model_name(tiny_model))
    assert model_name(tiny_model) != name


@pytest.mark.parametrize("changed", ["config.json", "tokenizer.json", "1_Pooling/config.json"])
def test_another_configuration_gives_another_name_and_another_readme_does_not(changed: str, tiny_model: Path) -> None:
    name = model_name(tiny_model)
    (tiny_model / "README.md").write_text("another")
    assert model_name(tiny_model) == name
    with (tiny_model / changed).open("a") as file:
        file.write("\n")
    assert model_name(tiny_model) != name


def test_the_resource_uses_the_model_of_the_setting(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_ENCODER_MODEL", str(tiny_model))
    encoder = EncoderResource()
    vectors = encoder.encode(["yoga mat", "rug"])
    assert encoder.model_name == model_name(tiny_model)
    assert encoder.dimensions == 32
    assert np.abs(vectors - ReferenceEncoder(tiny_model).encode(["yoga mat", "rug"])).max() < 1e-5


def test_a_folder_without_weights_is_refused_by_the_name_of_the_setting(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_model / "model.safetensors").unlink()
    _is_refused(tiny_model, monkeypatch)


def test_a_folder_that_is_not_there_is_refused_by_the_name_of_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _is_refused(tmp_path / "nowhere", monkeypatch)


def _is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_ENCODER_MODEL", str(model))
    for use in (lambda: EncoderResource().model_name, lambda: EncoderResource().encode(["yoga mat"])):
        with pytest.raises(ModelError, match=rf"SHOP_ENCODER_MODEL is {re.escape(str(model))}, which holds no weights"):
            use()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "modules.json"])
def test_a_model_that_can_t_be_loaded_is_refused_by_the_name_of_the_setting(file: str, tiny_model: Path) -> None:
    content = (tiny_model / file).read_bytes()
    (tiny_model / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"(?s)tiny holds no model.*SHOP_ENCODER_MODEL"):
        ReferenceEncoder(tiny_model)
