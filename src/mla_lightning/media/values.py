"""Values that are there already, such as features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.media.parts import ArrayPart, BadMedia, Extractor, Part


class Values(Extractor):
    """Passes the arrays of :class:`ArrayPart` on, checked.

    Attributes:
        shape: Shape of one sample.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: str = "float32", kind: str = "features"
    ) -> None:
        """Say what the arrays are like.

        Args:
            shape: Shape of one sample.
            dtype: Type they are stored as.
            kind: What they are: ``features``, ``image``, ``spectrogram``, ...
        """
        self.shape, self.dtype, self.kind = tuple(shape), dtype, kind  # type: ignore[misc]

    def __call__(self, raw: Path, part: Part) -> np.ndarray:
        """Check a part's values; see :class:`Extractor`."""
        if not isinstance(part, ArrayPart):
            raise TypeError(f"an array is needed here, not {type(part).__name__}")
        values = np.asarray(part.values)
        if values.shape != self.shape:
            raise BadMedia(f"shape {values.shape} instead of {self.shape}")
        return values.astype(self.dtype, copy=False)

    def options(self) -> dict[str, Any]:
        """Spell the options; the values themselves are part of the items."""
        return {"extractor": "values", "version": 1, "shape": list(self.shape), "dtype": self.dtype}
