"""Drawings with transparent surroundings, as small pictures: PNG files, and SVG files by resvg."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mla_lightning.errors import ConfigError, DataError
from mla_lightning.media.files import media_file
from mla_lightning.media.parts import BadMedia, Extractor, Part

if TYPE_CHECKING:
    from PIL import Image as PILImage

#: Width at which vector drawings are rendered before they are made small.
_RENDERED = 256


class Drawing(Extractor):
    """What is drawn, cut out along its transparency, in the middle of a white square.

    Attributes:
        shape: (3, size, size).
    """

    kind = "image"
    dtype = "uint8"

    def __init__(self, size: int = 32, resvg: Path | None = None) -> None:
        """Choose the size.

        Args:
            size: Height and width in pixels.
            resvg: The unpacked wheel of resvg-py, for SVG files; None if there are none.

        Raises:
            ConfigError: If the size is too small.
        """
        if size < 1:
            raise ConfigError(f"size must be at least 1, got {size}")
        self.size, self.resvg = size, resvg
        self.shape = (3, size, size)

    def __call__(self, raw: Path, part: Part) -> np.ndarray:
        """Read a drawing; see :class:`Extractor`."""
        from PIL import Image as pil

        path = media_file(raw, part)
        file: Any = path
        if path.suffix.lower() == ".svg":
            try:
                file = io.BytesIO(
                    bytes(self._renderer().svg_to_bytes(svg_path=str(path), width=_RENDERED))
                )
            except ValueError as error:
                raise BadMedia(f"not drawn by resvg: {error}") from error
        try:
            with pil.open(file) as opened:
                picture = opened.convert("RGBA")
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise BadMedia(f"truncated or damaged: {error}") from error
        return np.ascontiguousarray(np.asarray(self._squared(picture)).transpose(2, 0, 1))

    def options(self) -> dict[str, Any]:
        """Spell the options."""
        return {"extractor": "drawing", "version": 1, "size": self.size}

    def _squared(self, picture: PILImage.Image) -> PILImage.Image:
        from PIL import Image as pil

        box = picture.getchannel("A").getbbox()
        if box is None:
            raise BadMedia("blank: all of it is transparent")
        picture = picture.crop(box)
        side = max(picture.size)
        square = pil.new("RGBA", (side, side), (255, 255, 255, 255))
        corner = ((side - picture.width) // 2, (side - picture.height) // 2)
        square.alpha_composite(picture, corner)
        return square.convert("RGB").resize((self.size, self.size), pil.Resampling.BICUBIC)

    def _renderer(self) -> Any:
        """Import resvg_py from where it was unpacked."""
        if module := sys.modules.get("resvg_py"):
            return module
        if self.resvg is None:
            raise BadMedia("an SVG file, and there is no resvg-py to render it")
        place = self.resvg / "resvg_py" / "__init__.py"
        spec = importlib.util.spec_from_file_location("resvg_py", place)
        if spec is None or spec.loader is None or not place.is_file():
            raise DataError(f"{self.resvg} holds no resvg_py/__init__.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["resvg_py"] = module
        spec.loader.exec_module(module)
        return module
