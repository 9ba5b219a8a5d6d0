"""What media are: parts of an official distribution, and how a part becomes an array."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np


class BadMedia(Exception):
    """A part that cannot be read: missing, empty, truncated, without the stream that is needed.

    The message is the reason alone, such as ``no audio stream``; who catches it knows the file.
    """


@dataclass(frozen=True)
class FilePart:
    """A file, or a stretch of one.

    Attributes:
        path: The file, relative to the raw folder.
        start_s: Where the stretch starts, in seconds; None for the file's start.
        end_s: Where it ends; None for the file's end.
    """

    path: Path
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class TextPart:
    """A text that the label files hold.

    Attributes:
        text: The text.
    """

    text: str


@dataclass(frozen=True)
class ArrayPart:
    """Values that are there already, such as features.

    Attributes:
        values: The array, of the shape that every item's has.
    """

    values: np.ndarray


Part = FilePart | TextPart | ArrayPart


class Extractor(ABC):
    """Reads one part into an array of a fixed shape; runs in worker processes, so it pickles.

    Attributes:
        kind: ``frames``, ``image``, ``spectrogram``, ``tokens`` or ``features``.
        shape: Shape of one sample.
        dtype: Type of the values, as numpy names it.
    """

    kind: ClassVar[str]
    shape: tuple[int, ...]
    dtype: str

    @abstractmethod
    def __call__(self, raw: Path, part: Part) -> np.ndarray:
        """Read a part.

        Args:
            raw: The raw folder.
            part: The part.

        Returns:
            Array of ``shape`` and ``dtype``.

        Raises:
            BadMedia: If it cannot be read.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Spell everything that changes the result, JSON-able; part of the store's identity."""
