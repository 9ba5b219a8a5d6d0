"""Extractor of images: RGB of a fixed size."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mla_lightning.errors import ConfigError, check_number, near, reason_of
from mla_lightning.media.base import MAX_SIZE, BadMedia, Extractor, MediaInput
from mla_lightning.media.files import media_file, wrong_ending

if TYPE_CHECKING:
    from PIL import Image as PILImage

RESIZES = ("stretch", "crop")
EXIFS = ("ignore", "apply")
#: Formats whose integers have 16 bits at most; some versions of Pillow read them as 32.
_AT_MOST_16_BITS = ("PNG", "PPM")
#: Tag of TIFF files: 1 for unsigned integers, the default, 2 for signed ones, 3 for floats.
_SAMPLE_FORMAT = 339
RESAMPLES = ("bilinear", "bicubic")


class Image(Extractor):
    """An image as RGB of a fixed size.

    Grey, palette and CMYK images are converted, and transparent ones are put on white. The result
    is the first frame of an animation; 16 bits become 8. Values of 32 bits have no fixed white:
    their lowest becomes black and their highest white, but 0 and 1 do for fractions within them.

    Attributes:
        shape: (3, size, size).

    Example:
        >>> import tempfile
        >>> from PIL import Image as pil
        >>> from mla_lightning.media.base import MAX_SIZE, FileInput
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pil.new("L", (40, 20), color=200).save(Path(folder, "grey.png"))
        ...     pixels = Image(size=8)(Path(folder), FileInput(Path("grey.png")))
        >>> pixels.shape, pixels[:, 0, 0].tolist()
        ((3, 8, 8), [200, 200, 200])
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
        """Set the size and the rules.

        Args:
            size: Height and width in pixels.
            resize: ``stretch`` to exactly that size without keeping the aspect ratio, the rule of
                MLA's ResNets in the test; or ``crop``: resize the shorter side to that size, then
                cut the centre, the rule of MLA's M3AE in the test.
            exif: Whether to rotate by the camera's orientation tag (``apply``) or not (``ignore``,
                as released code).
            resample: Filter, ``bilinear`` or ``bicubic``, both with antialiasing.

        Raises:
            ConfigError: If the size is too small or a rule is unknown.
        """
        check_number("size", size, 1, MAX_SIZE)
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

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read an image file; see :class:`Extractor`."""
        from PIL import Image as pil
        from PIL import ImageOps, UnidentifiedImageError

        path = media_file(raw, media_input)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about files that can be read nevertheless
                warnings.simplefilter("error", pil.DecompressionBombWarning)
                with pil.open(path) as file:
                    file.load()
                    image = rgb(file)
                    if self.exif == "apply":
                        image.info = file.info
                        image = ImageOps.exif_transpose(image)
                    image = self._resized(image)
        except UnidentifiedImageError as error:
            raise BadMedia(wrong_ending(path) or "not a picture, or damaged") from error
        except (pil.DecompressionBombWarning, pil.DecompressionBombError) as error:
            raise BadMedia(_too_large(path.name, error)) from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise BadMedia(f"truncated or damaged: {reason_of(error)}") from error
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def options(self) -> dict[str, Any]:
        """Return the options that change the result."""
        return {
            "extractor": "image",
            "version": 1,
            "size": self.size,
            "resize": self.resize,
            "exif": self.exif,
            "resample": self.resample,
        }

    def _resized(self, image: PILImage.Image) -> PILImage.Image:
        from PIL import Image as pil

        resampling = pil.Resampling[self.resample.upper()]
        size, (width, height) = (self.size, self.size), image.size
        if self.resize == "stretch":
            return image.resize(size, resampling)
        # Crop and resize in one step, so that no box is rounded to whole pixels.
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize(size, resampling, (left, top, left + side, top + side))


def rgb(image: PILImage.Image) -> PILImage.Image:
    """Convert an image of any mode to RGB.

    Args:
        image: The image.

    Returns:
        The image in RGB, with white where it is transparent.

    Example:
        >>> from PIL import Image as pil
        >>> rgb(pil.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    from PIL import Image as pil

    if image.mode == "F" or (image.mode == "I" and image.format not in _AT_MOST_16_BITS):
        image = pil.fromarray(_scaled(_values_of_32_bits(image)))
    elif image.mode.startswith("I"):  # 16 bits, also read as 32: Pillow would clip, not scale
        values = np.asarray(image).astype(np.int64) >> 8
        image = pil.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = pil.new("RGBA", image.size, (255, 255, 255, 255))
        image = pil.alpha_composite(white, image)
    return image.convert("RGB")


def _too_large(name: str, error: Exception) -> str:
    from PIL import Image as pil

    limit = f"{pil.MAX_IMAGE_PIXELS:,}"
    size = re.search(r"\d+", str(error))
    pixels = f"{int(size[0]):,}" if size else f"more than {limit}"
    return (
        f"too large for a picture: {pixels} pixels, and the limit is {limit}; save it smaller, "
        f"for example `magick mogrify -resize 4096x4096 {shlex.quote(name)}`"
    )


def _values_of_32_bits(image: PILImage.Image) -> np.ndarray:
    values = np.asarray(image)
    # Pillow reads unsigned integers of TIFF files as signed ones.
    sample_format = getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, (1,))
    if image.mode == "I" and image.format == "TIFF" and sample_format[0] == 1:
        values = values.astype(np.uint32)
    return values.astype(np.float64)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scale values of 32 bits to 0..255, as the class :class:`Image` describes."""
    if not np.isfinite(values).all():
        raise BadMedia("values that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return np.round((values - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)
