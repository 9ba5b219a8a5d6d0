"""Pictures as RGB of a fixed size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mla_lightning.errors import ConfigError, near
from mla_lightning.media.files import media_file
from mla_lightning.media.parts import BadMedia, Extractor, Part

if TYPE_CHECKING:
    from PIL import Image as PILImage

RESIZES = ("stretch", "crop")
EXIFS = ("ignore", "apply")
RESAMPLES = ("bilinear", "bicubic")


class Image(Extractor):
    """A picture as RGB: grey, palette and CMYK pictures are converted, transparency laid on white.

    Of animated pictures the first one is taken; 16 bits become 8.

    Attributes:
        shape: (3, size, size).
    """

    kind = "image"
    dtype = "uint8"

    def __init__(
        self,
        size: int = 256,
        resize: Literal["stretch", "crop"] = "stretch",
        exif: Literal["ignore", "apply"] = "ignore",
        resample: Literal["bilinear", "bicubic"] = "bicubic",
    ) -> None:
        """Choose size and rules.

        Args:
            size: Height and width in pixels.
            resize: ``stretch`` to exactly that size, the aspect not kept, the rule of MLA's ResNets
                in the test; or ``crop``: the shorter side to that size, then the centre, the rule
                of its M3AE in the test.
            exif: Whether the camera's note on what is up is followed (``apply``). Public code does
                not (``ignore``).
            resample: Filter, both with antialiasing.

        Raises:
            ConfigError: If the size is too small or a rule is unknown.
        """
        if size < 1:
            raise ConfigError(f"size must be at least 1, got {size}")
        for name, value, known in (
            ("resize", resize, RESIZES),
            ("exif", exif, EXIFS),
            ("resample", resample, RESAMPLES),
        ):
            if value not in known:
                raise ConfigError(
                    f"{name} {value!r} is unknown.{near(value, known)} Known: {', '.join(known)}."
                )
        self.size, self.resize, self.exif, self.resample = size, resize, exif, resample
        self.shape = (3, size, size)

    def __call__(self, raw: Path, part: Part) -> np.ndarray:
        """Read a picture; see :class:`Extractor`."""
        from PIL import Image as pil
        from PIL import ImageOps, UnidentifiedImageError

        path = media_file(raw, part)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on oddities of a file that is read all the same
                warnings.simplefilter("error", pil.DecompressionBombWarning)
                with pil.open(path) as file:
                    file.load()
                    picture = ImageOps.exif_transpose(file) if self.exif == "apply" else file
                    picture = self._resized(rgb(picture))
        except UnidentifiedImageError as error:
            raise BadMedia("not a picture, or damaged") from error
        except (pil.DecompressionBombWarning, pil.DecompressionBombError) as error:
            raise BadMedia(f"too large for a picture: {error}") from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise BadMedia(f"truncated or damaged: {error}") from error
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))

    def options(self) -> dict[str, Any]:
        """Spell the options."""
        return {
            "extractor": "image",
            "version": 1,
            "size": self.size,
            "resize": self.resize,
            "exif": self.exif,
            "resample": self.resample,
        }

    def _resized(self, picture: PILImage.Image) -> PILImage.Image:
        from PIL import Image as pil

        how = pil.Resampling[self.resample.upper()]
        width, height = picture.size
        if self.resize == "stretch":
            return picture.resize((self.size, self.size), how)
        # The box of the source that becomes the square: one step, no rounding in between.
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return picture.resize((self.size, self.size), how, (left, top, left + side, top + side))


def rgb(picture: PILImage.Image) -> PILImage.Image:
    """Convert a picture of any mode to RGB.

    Args:
        picture: The picture.

    Returns:
        The same in RGB; what is transparent becomes white.
    """
    from PIL import Image as pil

    if picture.mode.startswith("I"):  # 16 bits, also when read as 32: Pillow would clip, not scale
        values = np.asarray(picture).astype(np.int64) >> 8
        picture = pil.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = pil.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = pil.alpha_composite(white, picture)
    return picture.convert("RGB")
