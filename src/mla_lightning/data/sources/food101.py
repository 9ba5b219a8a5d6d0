"""UPMC Food-101: photographs of 101 dishes and the titles of their web pages."""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mla_lightning.data.sources.base import Item
from mla_lightning.data.sources.id_lists import ListFormat, separated_by
from mla_lightning.data.sources.official import TextImageSource, text_extractor
from mla_lightning.data.sources.texts import (
    duplicate_groups,
    item_text,
    parse_json_line,
    read_text,
    shorten_text,
)
from mla_lightning.data.splits import TEST, TRAIN, NamedSplit, grouped, with_validation
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.base import FileInput, MediaInput, TextInput

CLEANINGS = ("none", "mmbt")
#: Characters that MMBT's script replaces by spaces.
_SIGNS = str.maketrans(dict.fromkeys(string.punctuation.replace("|", ""), " "))
LISTS = (
    ListFormat(
        "paper", {"train": "my_train_food.txt", "test": "my_test_food.txt"}, separated_by(".jpg ")
    ),
    ListFormat(
        "qmf",
        {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"},
        parse_json_line,
    ),
)


class Food101(TextImageSource):
    """UPMC Food-101: about 90,700 photographs with page titles, text + image, 101 dishes.

    ``text``: (256,) int64 token ids. ``image``: (3, 256, 256) uint8, the shorter side resized to
    256, then the centre. This is not ETH's data set of the same name. Photographs without a title,
    or with a blank one, are left out, as in the lists of MLA and QMF; the store has their number.
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
        """Set the options.

        Args:
            raw: The folder.
            tokenizer: ``vocab.txt`` or model folder of WordPiece; the paper's is
                bert-base-uncased.
            hashed: Whether to use hashed words and trigrams instead, for encoders from scratch.
            lists: Folder with the lists of MLA (``my_train_food.txt``, ...) or QMF
                (``train.jsonl``, ...): adds the splits ``paper`` and ``qmf``.
            cleaning: ``none`` as in MLA, or ``mmbt``: punctuation becomes spaces, lower case.
            encoding: Encoding of the titles.
            length: Number of token ids per title.
            image_size: Height and width of the stored images.

        Raises:
            ConfigError: If neither or both of ``tokenizer`` and ``hashed`` are given, or a value is
                unknown.
            DataError: If the vocabulary or the lists are missing or broken.
        """
        if cleaning not in CLEANINGS:
            raise ConfigError(
                f"cleaning {cleaning!r} is unknown.{near(cleaning, CLEANINGS)} "
                f"Known: {', '.join(CLEANINGS)}."
            )
        text = text_extractor(tokenizer, hashed=hashed, length=length)
        super().__init__(raw, lists, LISTS, text, image_size)
        self.cleaning, self.encoding = cleaning, encoding
        self.left_out: dict[str, int] = {}

    def items(self) -> list[Item]:
        """List the photographs that have a title.

        Returns:
            The photographs, sorted by name; :attr:`left_out` has the numbers of all others.

        Raises:
            DataError: If folders or titles are missing, or a line is broken.
        """
        folders = {split: self.folder / "images" / split for split in ("train", "test")}
        for folder in folders.values():
            if not folder.is_dir():
                raise self.layout_error(f"{folder} does not exist")
        names = {path.name for f in folders.values() for path in f.iterdir() if path.is_dir()}
        self.class_names = tuple(sorted(names))
        items = []
        self.left_out = dict.fromkeys(("no title", "blank title"), 0)
        for split, folder in folders.items():
            titles = self._titles(split)
            for path in sorted(folder.glob("*/[!.]*.jpg")):
                label = path.parent.name
                title = self._title(titles, path.name, label)
                if title is None or not title.strip():
                    self.left_out["no title" if title is None else "blank title"] += 1
                    continue
                inputs: dict[str, MediaInput] = {
                    "text": TextInput(title),
                    "image": FileInput(path.relative_to(self.folder)),
                }
                attributes = {"part": split, "text": shorten_text(title)}
                items.append(Item(path.stem, label, inputs, attributes))
        if not items:
            raise DataError(f"{self.folder}: no photograph has a title. {self.how_to_get}")
        self.labels = {item.id: item.label for item in items}
        return sorted(items, key=lambda item: item.id)

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide without near-duplicates in two splits, officially, and by the user's lists.

        Args:
            items: The photographs.

        Returns:
            ``clean``, ``official``, and ``paper`` or ``qmf``.
        """
        labels = [item.label for item in items]
        groups = duplicate_groups([item_text(item) for item in items])
        codes = np.array([TRAIN if i.attributes["part"] == "train" else TEST for i in items])
        splits = {
            "clean": NamedSplit(
                grouped(labels, groups, (0.7, 0.05, 0.25), seed=0),
                "Photographs with nearly equal titles are in the same split; the official splits "
                "are mixed. Drawn by this project, not a published split.",
            ),
            "official": NamedSplit(
                with_validation(codes.astype(np.int8), labels, fraction=0.07355),
                "The official folders; validation is 5,000 of the official 67,972 training "
                "photographs, or that fraction of yours. Titles recur between the splits.",
            ),
        }
        return splits | self.list_splits(items)

    def options(self) -> dict[str, Any]:
        """Return the options that change the items, and the numbers of photographs left out."""
        return {"cleaning": self.cleaning, **super().options(), "left_out": self.left_out}

    def label_files(self) -> list[Path]:
        """Return the tables of titles."""
        paths = [Path("texts", f"{split}_titles.csv") for split in ("train", "test")]
        return [path for path in paths if (self.folder / path).is_file()]

    def _titles(self, split: str) -> dict[str, tuple[str, str]] | None:
        """Read a table: file of a photograph -> title and class; None if each title is a file."""
        table = Path("texts", f"{split}_titles.csv")
        if not (self.folder / table).is_file():
            if (self.folder / "texts_txt").is_dir():
                return None
            raise self.layout_error(
                f"{self.folder / table} does not exist, nor does {self.folder / 'texts_txt'}"
            )
        reader = csv.reader(io.StringIO(read_text(self.folder, table, self.encoding)))
        titles = {}
        for row in reader:
            if not row or (reader.line_num == 1 and not row[0].endswith(".jpg")):
                continue
            if len(row) != 3 or not row[0].endswith(".jpg"):
                raise DataError(
                    f"{self.folder / table}, line {reader.line_num}: needs three columns, image "
                    f"file, title and class, got {row[:4]}"
                )
            titles[row[0]] = (row[1], row[2])
        return titles

    def _title(
        self, titles: Mapping[str, tuple[str, str]] | None, file: str, label: str
    ) -> str | None:
        if titles is None:
            path = Path("texts_txt", label, f"{Path(file).stem}.txt")
            exists = (self.folder / path).is_file() and (self.folder / path).stat().st_size > 0
            title = read_text(self.folder, path, self.encoding) if exists else None
        else:
            if file in titles and titles[file][1].strip() != label:
                raise DataError(
                    f"{self.folder}: {file} is of class {titles[file][1]!r} in the titles and is "
                    f"in the folder {label!r}"
                )
            title = titles[file][0] if file in titles else None
        if title is None or self.cleaning == "none":
            return title
        return " ".join(title.translate(_SIGNS).split()).lower()
