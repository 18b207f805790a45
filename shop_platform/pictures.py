"""PNG files of ours: small, and with the facts inside that tell what they were drawn from."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def small_png(figure: Figure, facts: Mapping[str, str]) -> bytes:
    """A figure as a PNG in 96 colours: a third of the bytes, since Dagster keeps it with every materialisation.

    Args:
        figure: what was drawn.
        facts: stored inside as texts, where `read_facts` finds them.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    texts = PngInfo()
    for name, fact in facts.items():
        texts.add_itxt(name, fact)
    small = io.BytesIO()
    Image.open(drawn).convert("RGB").quantize(96).save(small, format="png", optimize=True, pnginfo=texts)
    return small.getvalue()


def read_facts(png: bytes) -> dict[str, str]:
    """The facts that were stored inside a PNG; none where it is no PNG.

    The whole picture is decoded, so that a truncated one counts as none.
    """
    from PIL import Image, PngImagePlugin

    try:
        picture = Image.open(io.BytesIO(png), formats=["PNG"])
        picture.load()
    except (OSError, SyntaxError):  # what Pillow raises for something that is no whole PNG
        return {}
    return dict(picture.text) if isinstance(picture, PngImagePlugin.PngImageFile) else {}
