"""Both encoders, loaded once, and texts of all kinds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shop_platform.encoders.onnx import OnnxEncoder
from shop_platform.encoders.packaged import packaged_model
from shop_platform.encoders.reference import ReferenceEncoder

_WORDS = """
    gaming laptop wireless headphones rug yoga leggings cheap under 50 usb-c größe günstig naïve café коврик для йоги
    瑜伽垫 ヨガマット سجادة 👟 🎧🎁 e\u0301clair ﬁne \u200bhidden x y z internationalisation, (new!) 4k €19.99 #sale C++
"""


@pytest.fixture(scope="session")
def onnx() -> OnnxEncoder:
    return OnnxEncoder()


@pytest.fixture(scope="session")
def reference() -> ReferenceEncoder:
    return ReferenceEncoder()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """300 of 1 to 400 words, most of them short, as searches are; some are read up to word piece 256 only."""
    rng = np.random.default_rng(1)
    lengths = [*rng.integers(1, 13, 280), *rng.integers(13, 400, 9), 400]
    odd = ["", " ", "\0", "a\0b", "👩‍👩‍👧‍👦", "[SEP] [MASK]", "\ufffd", "\t\n", "word " * 400, "x" * 3_000]
    return odd + [" ".join(rng.choice(_WORDS.split(), length)) for length in lengths]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for copies of the model, of which pytest would keep those of the last runs."""
    path = tmp_path / "copies"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def tiny_model(folder: Path) -> Path:
    """The folder of a sentence-transformers model with random weights, in 32 dimensions."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel

    bert, path = folder / "bert", folder / "tiny"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        bert.mkdir(exist_ok=True)
        shutil.copyfile(packaged_model() / name, bert / name)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(bert)
    SentenceTransformer(modules=[Transformer(str(bert)), Pooling(32)], device="cpu").save(str(path))
    return path
