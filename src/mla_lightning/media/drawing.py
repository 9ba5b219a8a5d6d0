"""Extractor of drawings on a transparent background: PNG files, and SVG files with resvg."""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mla_lightning.errors import DataError, check_number, reason_of
from mla_lightning.media.base import MAX_SIZE, BadMedia, Extractor, MediaInput
from mla_lightning.media.files import media_file

if TYPE_CHECKING:
    from PIL import Image as PILImage

#: Width in pixels at which SVG files are rendered before they are resized.
_RENDERED_WIDTH = 256


class Drawing(Extractor):
    """A drawing without its transparent margins, in the middle of a white square.

    Attributes:
        shape: (3, size, size).

    Example:
        A black square of 10 pixels in a large transparent image fills the result:

        >>> import tempfile
        >>> from PIL import Image as pil
        >>> from mla_lightning.media.base import MAX_SIZE, FileInput
        >>> image = pil.new("RGBA", (100, 60))
        >>> image.paste((0, 0, 0, 255), (20, 30, 30, 40))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     image.save(Path(folder, "a.png"))
        ...     pixels = Drawing(16)(Path(folder), FileInput(Path("a.png")))
        >>> pixels.shape, int(pixels.max())
        ((3, 16, 16), 0)
    """

    kind = "image"
    dtype = "uint8"

    def __init__(self, size: int = 32, resvg: Path | None = None) -> None:
        """Set the size.

        Args:
            size: Height and width in pixels.
            resvg: Folder of the unpacked wheel resvg-py, for SVG files; None for the installed one.

        Raises:
            ConfigError: If the size is too small.
        """
        check_number("size", size, 1, MAX_SIZE)
        self.size, self.resvg = size, resvg
        self.shape = (3, size, size)

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read a PNG or SVG file; see :class:`Extractor`."""
        from PIL import Image as pil

        path = media_file(raw, media_input)
        file: Any = path
        if path.suffix.lower() == ".svg":
            try:
                png = self._renderer().svg_to_bytes(svg_path=str(path), width=_RENDERED_WIDTH)
                file = io.BytesIO(bytes(png))
            except ValueError as error:
                raise BadMedia(f"not drawn by resvg: {error}") from error
        try:
            with pil.open(file) as image:
                drawing = image.convert("RGBA")
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise BadMedia(f"truncated or damaged: {reason_of(error)}") from error
        return np.ascontiguousarray(np.asarray(self._squared(drawing)).transpose(2, 0, 1))

    def options(self) -> dict[str, Any]:
        """Return the options that change the result."""
        return {"extractor": "drawing", "version": 1, "size": self.size}

    def _squared(self, drawing: PILImage.Image) -> PILImage.Image:
        from PIL import Image as pil

        box = drawing.getchannel("A").getbbox()
        if box is None:
            raise BadMedia("blank: all of it is transparent")
        drawing = drawing.crop(box)
        side = max(drawing.size)
        square = pil.new("RGBA", (side, side), (255, 255, 255, 255))
        corner = ((side - drawing.width) // 2, (side - drawing.height) // 2)
        square.alpha_composite(drawing, corner)
        return square.convert("RGB").resize((self.size, self.size), pil.Resampling.BICUBIC)

    def _renderer(self) -> Any:
        """Import resvg_py, from the folder of its wheel if there is one."""
        if module := sys.modules.get("resvg_py"):
            return module
        if self.resvg is None:
            try:
                return importlib.import_module("resvg_py")
            except ImportError as error:
                raise BadMedia(
                    "an SVG file, which needs resvg-py: pip install 'mla_lightning[svg]'"
                ) from error
        path = self.resvg / "resvg_py" / "__init__.py"
        spec = importlib.util.spec_from_file_location("resvg_py", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise DataError(f"{self.resvg} does not hold resvg_py/__init__.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["resvg_py"] = module
        spec.loader.exec_module(module)
        return module
