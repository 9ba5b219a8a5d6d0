"""UPMC Food-101: photographs of 101 dishes and the titles of the pages they are from."""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.id_lists import IdLists, ListKind, read_lists, separated
from mla_lightning.data.sources.texts import (
    duplicate_groups,
    held,
    json_line,
    read_text,
    shown,
    text_of,
)
from mla_lightning.data.splits import TEST, TRAIN, NamedSplit, grouped, with_validation
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.base import Extractor, FileInput, MediaInput, TextInput
from mla_lightning.media.image import Image
from mla_lightning.media.text import Tokens

CLEANINGS = ("none", "mmbt")
#: What MMBT's script replaces by spaces.
_SIGNS = str.maketrans(dict.fromkeys(string.punctuation.replace("|", ""), " "))
LISTS = (
    ListKind(
        "paper", {"train": "my_train_food.txt", "test": "my_test_food.txt"}, separated(".jpg ")
    ),
    ListKind("qmf", {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"}, json_line),
)


class Food101(Source):
    """UPMC Food-101: about 90,700 photographs with page titles, text + image, 101 dishes.

    ``text``: (256,) int64 token ids. ``image``: (3, 256, 256) uint8, the shorter side to 256, then
    the centre. Not the data set of ETH of the same name. Photographs without a title, or with a
    blank one, are left out, as in the lists of MLA and QMF; their number is in the store.
    """

    name = "food101"
    class_names: tuple[str, ...] = ()
    modalities = ("text", "image")
    default_split = "clean"
    how_to_get: ClassVar[str] = (
        "UPMC Food-101 (Wang et al. 2015; the original site is offline, copies circulate): raw= "
        "holds images/train/<class>/*.jpg, images/test/<class>/*.jpg, and texts/train_titles.csv "
        "and texts/test_titles.csv or texts_txt/<class>/*.txt."
    )

    def __init__(
        self,
        raw: Path,
        tokenizer: Path | None = None,
        hashed: bool = False,
        lists: Path | None = None,
        cleaning: Literal["none", "mmbt"] = "none",
        encoding: str = "utf-8",
        length: int = 256,
        image_size: int = 256,
    ) -> None:
        """Choose what is computed.

        Args:
            raw: The folder.
            tokenizer: ``vocab.txt`` or model folder of WordPiece; the paper's is
                bert-base-uncased.
            hashed: Hashed words and trigrams instead, for networks from scratch.
            lists: Folder with the lists of MLA (``my_train_food.txt``, ...) or QMF
                (``train.jsonl``, ...): adds the splits ``paper`` and ``qmf``.
            cleaning: ``none`` as in MLA, or ``mmbt``: signs become spaces, lower case.
            encoding: How the titles are encoded.
            length: Tokens kept of a title.
            image_size: Height and width of the stored images.

        Raises:
            ConfigError: If neither or both of ``tokenizer`` and ``hashed`` are given, or a value is
                unknown.
        """
        super().__init__(raw)
        if cleaning not in CLEANINGS:
            raise ConfigError(
                f"cleaning {cleaning!r} is unknown.{near(cleaning, CLEANINGS)} "
                f"Known: {', '.join(CLEANINGS)}."
            )
        self.text = tokens(tokenizer, hashed=hashed, length=length)
        self.image = Image(image_size, resize="crop")
        self.cleaning, self.encoding = cleaning, encoding
        self.lists: list[IdLists] = read_lists(lists, LISTS) if lists else []
        self.left_out: dict[str, int] = {}
        self._labels: dict[str, str] = {}

    def items(self) -> list[Item]:
        """List the photographs that have a title.

        Returns:
            The photographs, sorted by name; :attr:`left_out` tells how many others there are.

        Raises:
            DataError: If folders or titles are missing, or a line is broken.
        """
        assert self.raw is not None
        folders = {part: self.raw / "images" / part for part in ("train", "test")}
        for folder in folders.values():
            if not folder.is_dir():
                raise DataError(
                    f"{folder} does not exist; {self.raw} holds {held(self.raw)}. {self.how_to_get}"
                )
        names = {path.name for f in folders.values() for path in f.iterdir() if path.is_dir()}
        self.class_names = tuple(sorted(names))
        items = []
        self.left_out = dict.fromkeys(("no title", "blank title"), 0)
        for part, folder in folders.items():
            titles = self._titles(part)
            for path in sorted(folder.glob("*/[!.]*.jpg")):
                label = path.parent.name
                title = self._title(titles, path.name, label)
                if title is None or not title.strip():
                    self.left_out["no title" if title is None else "blank title"] += 1
                    continue
                parts: dict[str, MediaInput] = {
                    "text": TextInput(title),
                    "image": FileInput(path.relative_to(self.raw)),
                }
                about = {"part": part, "text": shown(title)}
                items.append(Item(path.stem, label, parts, about))
        if not items:
            raise DataError(f"{self.raw}: no photograph has a title. {self.how_to_get}")
        self._labels = {item.id: item.label for item in items}
        return sorted(items, key=lambda item: item.id)

    def extractors(self) -> Mapping[str, Extractor]:
        """Tell how each modality is read."""
        return {"text": self.text, "image": self.image}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide without leaks, officially, and by the lists that are given.

        Args:
            items: The photographs.

        Returns:
            ``clean``, ``official``, and ``paper`` or ``qmf``.
        """
        labels = [item.label for item in items]
        groups = duplicate_groups([text_of(item) for item in items])
        codes = np.array([TRAIN if i.attributes["part"] == "train" else TEST for i in items])
        found = {
            "clean": NamedSplit(
                grouped(labels, groups, (0.7, 0.05, 0.25), seed=0),
                "Photographs with nearly equal titles are in one part; the official parts are "
                "mixed. Drawn by this project, not a published split.",
            ),
            "official": NamedSplit(
                with_validation(codes.astype(np.int8), labels, fraction=0.07355),
                "The official folders; validation is 5,000 of the official 67,972 training "
                "photographs, or their share. Titles recur between the parts.",
            ),
        }
        known = self._labels or {item.id: item.label for item in items}
        for lists in self.lists:
            found[lists.name] = lists.split([item.id for item in items], known)
        return found

    def options(self) -> dict[str, Any]:
        """Spell what changes the items, and how many photographs are none."""
        lists = {lists.name: dict(lists.sha256) for lists in self.lists}
        return {"cleaning": self.cleaning, "lists": lists, "left_out": self.left_out}

    def label_files(self) -> list[Path]:
        """Name the tables of titles."""
        assert self.raw is not None
        names = [Path("texts", f"{part}_titles.csv") for part in ("train", "test")]
        return [name for name in names if (self.raw / name).is_file()]

    def _titles(self, part: str) -> dict[str, tuple[str, str]] | None:
        """Read a table: file of a photograph -> title and class; None where texts are files."""
        assert self.raw is not None
        table = Path("texts", f"{part}_titles.csv")
        if not (self.raw / table).is_file():
            if (self.raw / "texts_txt").is_dir():
                return None
            raise DataError(
                f"{self.raw / table} does not exist, nor does {self.raw / 'texts_txt'}; "
                f"{self.raw} holds {held(self.raw)}. {self.how_to_get}"
            )
        reader = csv.reader(io.StringIO(read_text(self.raw, table, self.encoding)))
        titles = {}
        for row in reader:
            if not row or (reader.line_num == 1 and not row[0].endswith(".jpg")):
                continue
            if len(row) != 3 or not row[0].endswith(".jpg"):
                raise DataError(
                    f"{self.raw / table}, line {reader.line_num}: needs three columns, image file, "
                    f"title and class, got {row[:4]}"
                )
            titles[row[0]] = (row[1], row[2])
        return titles

    def _title(
        self, titles: Mapping[str, tuple[str, str]] | None, file: str, label: str
    ) -> str | None:
        assert self.raw is not None
        if titles is None:
            path = Path("texts_txt", label, f"{Path(file).stem}.txt")
            is_there = (self.raw / path).is_file() and (self.raw / path).stat().st_size > 0
            title = read_text(self.raw, path, self.encoding) if is_there else None
        else:
            if file in titles and titles[file][1].strip() != label:
                raise DataError(
                    f"{self.raw}: {file} is of class {titles[file][1]!r} in the titles and lies in "
                    f"the folder {label!r}"
                )
            title = titles[file][0] if file in titles else None
        if title is None or self.cleaning == "none":
            return title
        return " ".join(title.translate(_SIGNS).split()).lower()


def tokens(tokenizer: Path | None, *, hashed: bool, length: int) -> Tokens:
    """Choose how titles become numbers; which way must be said, since encoders differ by it.

    Args:
        tokenizer: A vocabulary or a model folder.
        hashed: Hashed words and trigrams.
        length: Tokens kept of a text.

    Returns:
        The extractor.

    Raises:
        ConfigError: If neither or both are given.
    """
    if (tokenizer is None) != hashed:
        both = "tokenizer and hashed exclude each other" if hashed else "tokenizer is missing"
        raise ConfigError(
            f"{both}: give tokenizer=vocab.txt (or a model folder) for pretrained encoders, such "
            "as made by `hf download bert-base-uncased vocab.txt --local-dir DIR`, or hashed=true "
            "for encoders from scratch"
        )
    return Tokens(tokenizer, length)
