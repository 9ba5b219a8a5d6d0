"""Base class of a data set in its official files: items, their inputs, and their splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mla_lightning.data.splits import NamedSplit
from mla_lightning.media.base import Extractor, MediaInput


@dataclass(frozen=True)
class Item:
    """One sample.

    Attributes:
        id: Unique name, equal on all machines.
        label: Name of its class.
        inputs: Modality -> its file, text or array. Absent modalities are left out.
        attributes: Properties for splits and for people: speaker, session, title, ...
    """

    id: str
    label: str
    inputs: Mapping[str, MediaInput]
    attributes: Mapping[str, str] = field(default_factory=dict)


class Source(ABC):
    """Base class of a data set in its official files.

    A data set is a subclass in ``mla_lightning/data/sources/<name>.py``, named as in papers. Its
    options are keyword arguments of its constructor: ``mla data prepare NAME key=value``.

    Attributes:
        name: Its name in commands, files and tables.
        class_names: The classes, in the order of the labels.
        modalities: Its modalities, in order.
        how_to_get: One or two sentences: its publisher, its terms, and the content of ``raw``.
        known_bad: Id -> reason, for items that the authors themselves call broken.
        default_split: The split that is used unless another one is chosen.
        skipped_items: Samples that are left out before files are read, for the manifest.
        stays_in_raw: Whether all files must be below ``raw``; false for a user's own list.
        scale: How runs scale the columns of its features; None to leave them as they are.
        defaults: Version of the encoders and epochs of runs that name none.
    """

    name: ClassVar[str]
    class_names: tuple[str, ...]
    modalities: ClassVar[tuple[str, ...]]
    how_to_get: ClassVar[str]
    known_bad: ClassVar[Mapping[str, str]] = {}
    default_split: str
    stays_in_raw: ClassVar[bool] = True
    skipped_items: Sequence[Mapping[str, str]] = ()
    scale: ClassVar[str | None] = None
    defaults: ClassVar[int] = 1

    def __init__(self, raw: Path | None) -> None:
        """Set the folder.

        Args:
            raw: The folder of the official files; None for data sets that download their own.
        """
        self.raw = raw

    @abstractmethod
    def items(self) -> list[Item]:
        """List the samples, only from file names and label files; no media are opened.

        Returns:
            The items, sorted by id.

        Raises:
            DataError: If ``raw`` does not have the official layout; the message has the expected
                file, the actual files, and what to do. If a label file is broken; with the line.
        """

    @abstractmethod
    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractor of each modality."""

    @abstractmethod
    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide the items that could be read.

        Args:
            items: The items that are in the store, in its order.

        Returns:
            Name -> split; each has validation samples, which are taken from train if necessary.

        Raises:
            DataError: If a list file of the user does not fit.
        """

    def options(self) -> dict[str, Any]:
        """Return the options that change the items, JSON-able; they identify the store."""
        return {}

    def label_files(self) -> list[Path]:
        """Return the files of labels and lists, relative to ``raw``.

        Returns:
            Existing files; the store records their hashes.
        """
        return []
