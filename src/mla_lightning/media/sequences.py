"""Features of every step of a recording: frames, words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mla_lightning.media.parts import ArrayPart, BadMedia, Extractor, Part


class Sequences(Extractor):
    """Brings sequences (T, D) to one length: zeros at the end, which encoders take for nothing.

    Attributes:
        shape: (length, D) of one sample.
    """

    kind: ClassVar[str] = "features"

    def __init__(self, length: int, width: int, *, cut: bool = False) -> None:
        """Choose the length.

        Args:
            length: Steps of a stored sequence.
            width: Width D of a step.
            cut: Whether longer sequences lose their end; otherwise they are refused.
        """
        self.shape, self.dtype, self.cut = (length, width), "float32", cut

    def __call__(self, raw: Path, part: Part) -> np.ndarray:
        """Pad a sequence; see :class:`Extractor`."""
        if not isinstance(part, ArrayPart):
            raise TypeError(f"an array is needed here, not {type(part).__name__}")
        values, (length, width) = np.asarray(part.values), self.shape
        if values.ndim != 2 or values.shape[1] != width or not len(values):
            raise BadMedia(f"shape {values.shape} instead of (steps, {width})")
        if len(values) > length and not self.cut:
            raise BadMedia(f"{len(values)} steps, more than {length}")
        found = np.zeros(self.shape, dtype=self.dtype)
        found[: len(values)] = values[:length]
        return found

    def options(self) -> dict[str, Any]:
        """Spell the options; the values themselves are part of the items."""
        return {
            "extractor": "sequences",
            "version": 1,
            "shape": list(self.shape),
            "cut": self.cut,
        }
