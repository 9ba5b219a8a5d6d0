"""Extractor of arrays that are already in memory, such as features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.media.base import ArrayInput, BadMedia, Extractor, MediaInput


class Values(Extractor):
    """Checks the shape of an :class:`ArrayInput` and converts its type.

    Attributes:
        shape: Shape of the array of one sample.

    Example:
        >>> from mla_lightning.media.base import ArrayInput
        >>> Values((3,), "float16")(Path(), ArrayInput(np.arange(3)))
        array([0., 1., 2.], dtype=float16)
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: str = "float32", kind: str = "features"
    ) -> None:
        """Set shape, type and kind.

        Args:
            shape: Shape of the array of one sample.
            dtype: Type to store the values as.
            kind: ``features``, ``image``, ``spectrogram``, ...
        """
        self.shape, self.dtype, self.kind = tuple(shape), dtype, kind  # type: ignore[misc]

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Check and convert an array; see :class:`Extractor`."""
        if not isinstance(media_input, ArrayInput):
            raise TypeError(f"an array is needed here, not {type(media_input).__name__}")
        values = np.asarray(media_input.values)
        if values.shape != self.shape:
            raise BadMedia(f"shape {values.shape} instead of {self.shape}")
        return values.astype(self.dtype, copy=False)

    def options(self) -> dict[str, Any]:
        """Return the options; the identity of the items includes the values themselves."""
        return {"extractor": "values", "version": 1, "shape": list(self.shape), "dtype": self.dtype}
