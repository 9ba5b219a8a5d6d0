"""A data set as its makers hand it out: items, what they are made of, and how they are divided."""

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
        id: Unique name, stable between machines.
        label: Name of its class.
        inputs: Modality -> its file, text or array. Absent modalities are left out.
        attributes: What splits and people want to know: speaker, session, title, ...
    """

    id: str
    label: str
    inputs: Mapping[str, MediaInput]
    attributes: Mapping[str, str] = field(default_factory=dict)


class Source(ABC):
    """A data set as its makers hand it out.

    A data set is a subclass in ``mla_lightning/data/<name>.py`` named as in papers; its options are
    keyword arguments of its constructor, which ``mla data prepare NAME key=value`` passes on.

    Attributes:
        name: What it is called in commands, files and tables.
        class_names: The classes, in the order of the labels.
        modalities: Its modalities, in order.
        how_to_get: One or two sentences: who hands it out, under which terms, what must be in raw.
        known_bad: Id -> reason, for items that the makers themselves call broken.
        default_split: The split that is used unless another one is chosen.
    """

    name: ClassVar[str]
    class_names: tuple[str, ...]
    modalities: ClassVar[tuple[str, ...]]
    how_to_get: ClassVar[str]
    known_bad: ClassVar[Mapping[str, str]] = {}
    default_split: str

    def __init__(self, raw: Path | None) -> None:
        """Remember where the files are.

        Args:
            raw: The folder of the official files; None for data sets that fetch their own.
        """
        self.raw = raw

    @abstractmethod
    def items(self) -> list[Item]:
        """List the samples, from names and label files alone; no media is opened.

        Returns:
            The items, sorted by id.

        Raises:
            DataError: If ``raw`` is not the official layout, naming the file that was looked for,
                what was found instead, and what to do; or if a label file is broken, with the line.
        """

    @abstractmethod
    def extractors(self) -> Mapping[str, Extractor]:
        """Tell how each modality is read."""

    @abstractmethod
    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide the items that could be read.

        Args:
            items: The items that are in the store, in its order.

        Returns:
            Name -> split, each with a validation part taken from train.

        Raises:
            DataError: If a list file that the user gave does not fit.
        """

    def options(self) -> dict[str, Any]:
        """Spell the options that change the items, JSON-able; part of the store's identity."""
        return {}

    def label_files(self) -> list[Path]:
        """Name further files that items and splits come from, relative to ``raw``.

        Returns:
            Existing files, such as lists and tables of labels; their hashes are kept in the store.
        """
        return []
