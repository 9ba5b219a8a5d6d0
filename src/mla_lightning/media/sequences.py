"""Extractor of feature sequences: one vector per frame or word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mla_lightning.media.base import ArrayInput, BadMedia, Extractor, MediaInput


class Sequences(Extractor):
    """Pads sequences (T, D) to one length with zeros at the end, which encoders ignore.

    Attributes:
        shape: (length, D) of one sample.

    Example:
        >>> from mla_lightning.media.base import ArrayInput
        >>> Sequences(3, width=2)(Path(), ArrayInput(np.ones((2, 2))))
        array([[1., 1.],
               [1., 1.],
               [0., 0.]], dtype=float32)
    """

    kind: ClassVar[str] = "features"

    def __init__(self, length: int, width: int, *, cut: bool = False) -> None:
        """Set the length.

        Args:
            length: Steps of a stored sequence.
            width: Features D of a step.
            cut: Whether to cut longer sequences at the end; otherwise they are errors.
        """
        self.shape, self.dtype, self.cut = (length, width), "float32", cut

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Pad a sequence; see :class:`Extractor`."""
        if not isinstance(media_input, ArrayInput):
            raise TypeError(f"an array is needed here, not {type(media_input).__name__}")
        values, (length, width) = np.asarray(media_input.values), self.shape
        if values.ndim != 2 or values.shape[1] != width or not len(values):
            raise BadMedia(f"shape {values.shape} instead of (steps, {width})")
        if len(values) > length and not self.cut:
            raise BadMedia(f"{len(values)} steps, more than {length}")
        padded = np.zeros(self.shape, dtype=self.dtype)
        padded[: len(values)] = values[:length]
        return padded

    def options(self) -> dict[str, Any]:
        """Return the options; the identity of the items includes the values themselves."""
        return {
            "extractor": "sequences",
            "version": 1,
            "shape": list(self.shape),
            "cut": self.cut,
        }
