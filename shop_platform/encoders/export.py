"""Writes the packaged model as an ONNX graph. A program of its own: it loads torch, its caller need not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Version of ONNX's operators. From 20 on Gelu is one of them; taken apart into five, encoding takes 5 % longer.
OPSET = 20


def export(folder: Path, target: Path) -> None:
    """Write the graph of a BERT-like sentence-transformers model: word pieces in, vectors of length 1 out.

    The graph takes texts of equal length, without padding: so there is no mask, and the mean is one of all pieces.

    Args:
        folder: the model's, with weights that were verified.
        target: file to write.
    """
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager")

        def forward(self, pieces: torch.Tensor) -> torch.Tensor:
            states = self.bert(input_ids=pieces, attention_mask=torch.ones_like(pieces)).last_hidden_state
            return torch.nn.functional.normalize(states.mean(dim=1), dim=1)

    texts, pieces = torch.export.Dim("texts", min=1), torch.export.Dim("pieces", min=2, max=512)
    program = torch.onnx.export(
        Pooled().eval(),
        (torch.ones((2, 7), dtype=torch.int64),),
        dynamo=True,
        input_names=["pieces"],
        output_names=["vectors"],
        dynamic_shapes=({0: texts, 1: pieces},),
        opset_version=OPSET,
    )
    if program is None:
        raise AssertionError("torch.onnx.export by dynamo returns a program")
    program.save(target)


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
