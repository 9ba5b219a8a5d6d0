"""Base classes of the data sets of the papers: official files, and published lists as splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.id_lists import ListFormat, read_lists
from mla_lightning.data.sources.texts import list_folder
from mla_lightning.data.splits import NamedSplit
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.media.base import Extractor
from mla_lightning.media.image import Image
from mla_lightning.media.text import Tokens


class OfficialSource(Source):
    """Base class of data sets that users download, with published lists of ids as further splits.

    Attributes:
        lists: The lists of the user.
        labels: Id -> label of all items, readable or not; subclasses set it in ``items``.
        landmark: File or folder at the top of the official layout, by which ``raw`` is found if it
            is one level too high or too low; empty if the layout has none.
    """

    landmark: ClassVar[str] = ""

    def __init__(self, raw: Path, lists: Path | None, formats: Sequence[ListFormat]) -> None:
        """Read the lists.

        Args:
            raw: The folder of the official files.
            lists: Folder with lists of ids; None for none.
            formats: The formats of lists that are known for the data set.

        Raises:
            DataError: If the lists are missing or broken.
        """
        super().__init__(_folder_with(self.landmark, raw) if self.landmark else raw)
        self.lists = read_lists(lists, formats) if lists else []
        self.labels: dict[str, str] = {}

    @property
    def folder(self) -> Path:
        """The folder of the official files."""
        assert self.raw is not None
        return self.raw

    def layout_error(self, problem: str) -> DataError:
        """Return the error of a folder without the official layout, with what the folder holds."""
        content = list_folder(self.folder)
        return DataError(f"{problem}; {self.folder} holds {content}. {self.how_to_get}")

    def list_splits(
        self,
        items: Sequence[Item],
        *,
        rest_is_val: bool = False,
        groups: Sequence[str] | None = None,
    ) -> dict[str, NamedSplit]:
        """Return the splits of the user's lists; see :meth:`IdLists.split`."""
        ids = [item.id for item in items]
        labels = self.labels or {item.id: item.label for item in items}
        return {
            lists.name: lists.split(ids, labels, rest_is_val=rest_is_val, groups=groups)
            for lists in self.lists
        }

    def options(self) -> dict[str, Any]:
        """Return the hashes of the lists."""
        return {"lists": {lists.name: dict(lists.sha256) for lists in self.lists}}


class ClipSource(OfficialSource):
    """Base class of data sets of clips with the modalities ``audio`` and ``visual``.

    Attributes:
        audio: Extractor of the audio.
        visual: Extractor of the frames.
    """

    audio: Extractor
    visual: Extractor

    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractor of each modality."""
        return {"audio": self.audio, "visual": self.visual}


class TextImageSource(OfficialSource):
    """Base class of data sets with the modalities ``text`` and ``image``."""

    def __init__(
        self,
        raw: Path,
        lists: Path | None,
        formats: Sequence[ListFormat],
        text: Tokens,
        image_size: int,
    ) -> None:
        """Set the extractors and read the lists.

        Args:
            raw: The folder of the official files.
            lists: Folder with lists of ids; None for none.
            formats: The formats of lists that are known for the data set.
            text: Extractor of the texts.
            image_size: Height and width of the stored images.

        Raises:
            DataError: If the lists are missing or broken.
        """
        self.text, self.image = text, Image(image_size, resize="crop")
        super().__init__(raw, lists, formats)

    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractor of each modality."""
        return {"text": self.text, "image": self.image}


def _folder_with(landmark: str, raw: Path) -> Path:
    """Return the folder at, directly above or directly below ``raw`` that holds a landmark."""
    if (raw / landmark).exists() or not raw.is_dir():
        return raw
    inner = [path.parent for path in sorted(raw.glob(f"[!.]*/{landmark}"))]
    candidates = inner or [path for path in [raw.absolute().parent] if (path / landmark).exists()]
    if len(candidates) != 1:
        return raw
    print(f"{landmark} is in {candidates[0]}: that folder is read as raw=.")
    return candidates[0]


def default_frames(frames_per_segment: int | None, choice: str) -> int:
    """Return the number of stored frames per segment: by default 3, with ``released`` 1."""
    if frames_per_segment is None:
        return 1 if choice == "released" else 3
    return frames_per_segment


def text_extractor(tokenizer: Path | None, *, hashed: bool, length: int) -> Tokens:
    """Return the extractor of texts; users must choose its tokens, because encoders depend on it.

    Args:
        tokenizer: A vocabulary or a model folder.
        hashed: Whether to use hashed words and trigrams instead.
        length: Number of token ids per text.

    Returns:
        The extractor.

    Raises:
        ConfigError: If neither or both are given.
    """
    if (tokenizer is None) != hashed:
        problem = "tokenizer and hashed exclude each other" if hashed else "tokenizer is missing"
        raise ConfigError(
            f"{problem}: give tokenizer=vocab.txt (or a model folder) for pretrained encoders, "
            "such as made by `hf download bert-base-uncased vocab.txt --local-dir DIR`, or "
            "hashed=true for encoders from scratch"
        )
    return Tokens(tokenizer, length)
