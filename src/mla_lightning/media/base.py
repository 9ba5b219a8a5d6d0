"""Inputs of one sample and modality, and the base class of the extractors that read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np

#: Largest height and width of images and frames, in pixels.
MAX_SIZE = 8192


class BadMedia(Exception):
    """Error of an input that cannot be read: missing, empty, truncated, or without its stream.

    The message is the reason alone, such as ``no audio stream``. The code that catches it adds the
    file's name.
    """


@dataclass(frozen=True)
class FileInput:
    """A file, or a time range of one.

    Attributes:
        path: The file, relative to the raw folder.
        start_s: Start of the time range in seconds; None for the start of the file.
        end_s: End of the time range in seconds; None for the end of the file.

    Example:
        >>> FileInput(Path("dialog.avi"), start_s=2.0).end_s is None  # to the end of the file
        True
    """

    path: Path
    start_s: float | None = None
    end_s: float | None = None

    @property
    def place(self) -> str:
        """Where the content is, for messages: the path."""
        return self.path.as_posix()


@dataclass(frozen=True)
class TextInput:
    """A text from the label files of a data set.

    Attributes:
        text: The text.
    """

    text: str


@dataclass(frozen=True)
class ArrayInput:
    """An array that is already in memory, such as features.

    Attributes:
        values: The array. All samples of a modality have the same shape.
    """

    values: np.ndarray


MediaInput = FileInput | TextInput | ArrayInput


class Extractor(ABC):
    """Base class of functions from one input to an array of a fixed shape.

    Extractors run in worker processes, so they must pickle.

    Attributes:
        kind: ``frames``, ``image``, ``spectrogram``, ``tokens`` or ``features``.
        shape: Shape of the array of one sample.
        dtype: Type of the values, as NumPy names it.

    Example:
        A subclass declares its kind, shape and type, reads one input, and lists its options:

        >>> import numpy as np
        >>> class NumCharacters(Extractor):
        ...     kind, shape, dtype = "features", (1,), "float32"
        ...     def __call__(self, raw, media_input):
        ...         return np.array([len(media_input.text)], dtype=self.dtype)
        ...     def options(self):
        ...         return {"extractor": "num_characters", "version": 1}
        >>> NumCharacters()(Path(), TextInput("a dog"))
        array([5.], dtype=float32)
    """

    kind: ClassVar[str]
    shape: tuple[int, ...]
    dtype: str

    @abstractmethod
    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read an input.

        Args:
            raw: The raw folder, which paths of files are relative to.
            media_input: The file, text or array to read.

        Returns:
            Array of ``shape`` and ``dtype``.

        Raises:
            BadMedia: If it cannot be read.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return everything that changes the result, JSON-able; it identifies a store."""
