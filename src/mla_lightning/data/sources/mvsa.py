"""MVSA-Single: tweets with a picture, and whether they are cheerful (Niu et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.food101 import tokens
from mla_lightning.data.sources.id_lists import IdLists, ListKind, read_lists, separated
from mla_lightning.data.sources.texts import (
    duplicate_groups,
    held,
    json_line,
    read_text,
    shown,
    text_of,
)
from mla_lightning.data.splits import NamedSplit, grouped, stratified
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.base import Extractor, FileInput, MediaInput, TextInput
from mla_lightning.media.image import Image

TABLE = Path("labelResultAll.txt")
LABELS = ("negative", "neutral", "positive")
RULES = ("agree", "multisentinet")
LISTS = (
    ListKind(
        "paper",
        {"train": "my_train_mvsa.txt", "val": "my_dev_mvsa.txt", "test": "my_test_mvsa.txt"},
        separated(".jpg "),
    ),
    ListKind("qmf", {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"}, json_line),
)


def merged(text: str, image: str, rule: str) -> str | None:
    """Make one label of those of the text and of the image.

    Args:
        text: The text's label.
        image: The image's label.
        rule: ``agree``: both must be equal, which gives MLA's and QMF's 2,592 samples; or
            ``multisentinet``: of neutral and another the other, and only positive beside negative
            is dropped, which gives 4,511.

    Returns:
        The label, None to drop the sample.
    """
    if text == image:
        return text
    if rule == "agree" or "neutral" not in (text, image):
        return None
    return image if text == "neutral" else text


class MVSA(Source):
    """MVSA-Single: 2,592 tweets with a picture, text + image, 3 sentiments.

    ``text``: (256,) int64 token ids. ``image``: (3, 256, 256) uint8, the shorter side to 256, then
    the centre.
    """

    name = "mvsa"
    class_names = LABELS
    modalities = ("text", "image")
    default_split = "clean"
    how_to_get: ClassVar[str] = (
        "MVSA-Single of the Multimedia Computing Research Laboratory (free for research): raw= "
        "holds labelResultAll.txt and the folder data with <id>.jpg and <id>.txt."
    )

    def __init__(
        self,
        raw: Path,
        tokenizer: Path | None = None,
        hashed: bool = False,
        lists: Path | None = None,
        labels: Literal["agree", "multisentinet"] = "agree",
        encoding: str = "latin-1",
        length: int = 256,
        image_size: int = 256,
    ) -> None:
        """Choose what is computed.

        Args:
            raw: The folder.
            tokenizer: ``vocab.txt`` or model folder of WordPiece; the paper's is
                bert-base-uncased.
            hashed: Hashed words and trigrams instead, for networks from scratch.
            lists: Folder with the lists of MLA (``my_train_mvsa.txt``, ...) or QMF
                (``train.jsonl``, ...): adds the splits ``paper`` and ``qmf``.
            labels: How the two labels become one, see :func:`merged`.
            encoding: How the tweets are encoded.
            length: Tokens kept of a tweet.
            image_size: Height and width of the stored images.

        Raises:
            ConfigError: If neither or both of ``tokenizer`` and ``hashed`` are given, or a value is
                unknown.
        """
        super().__init__(raw)
        if labels not in RULES:
            raise ConfigError(
                f"labels {labels!r} is unknown.{near(labels, RULES)} Known: {', '.join(RULES)}."
            )
        self.text = tokens(tokenizer, hashed=hashed, length=length)
        self.image = Image(image_size, resize="crop")
        self.rule, self.encoding = labels, encoding
        self.lists: list[IdLists] = read_lists(lists, LISTS) if lists else []
        self.left_out = 0
        self._labels: dict[str, str] = {}

    def items(self) -> list[Item]:
        """List the tweets that have a label.

        Returns:
            2,592 tweets of the whole distribution (``agree``), sorted by name;
            :attr:`left_out` tells how many have none.

        Raises:
            DataError: If the table is missing or a line of it is broken, or a tweet's file is.
        """
        assert self.raw is not None
        if not (self.raw / TABLE).is_file():
            raise DataError(
                f"{self.raw / TABLE} does not exist; {self.raw} holds {held(self.raw)}. "
                f"{self.how_to_get}"
            )
        items: dict[str, Item] = {}
        self.left_out = 0
        for number, line in enumerate(read_text(self.raw, TABLE, "utf-8").splitlines(), start=1):
            if not line.strip() or (number == 1 and line.upper().startswith("ID")):
                continue
            name, both = self._parsed(line, number)
            if f"{int(name):05d}" in items:
                raise DataError(f"{self.raw / TABLE}, line {number}: {name} is there twice")
            label = merged(*both, self.rule)
            if label is None:
                self.left_out += 1
                continue
            text = self._text(name)
            parts: dict[str, MediaInput] = {
                "text": TextInput(text),
                "image": FileInput(Path("data", f"{name}.jpg")),
            }
            about = {"text": shown(text), "tweet": name}
            items[f"{int(name):05d}"] = Item(f"{int(name):05d}", label, parts, about)
        if not items:
            raise DataError(f"{self.raw / TABLE} holds no tweet whose labels fit together")
        self._labels = {item.id: item.label for item in items.values()}
        return [items[name] for name in sorted(items)]

    def extractors(self) -> Mapping[str, Extractor]:
        """Tell how each modality is read."""
        return {"text": self.text, "image": self.image}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide without leaks, at random, and by the lists that are given.

        Args:
            items: The tweets.

        Returns:
            ``clean`` and ``random`` (60/20/20 each), and ``paper`` or ``qmf``.
        """
        labels = [item.label for item in items]
        groups = duplicate_groups([text_of(item) for item in items])
        found = {
            "clean": NamedSplit(
                grouped(labels, groups, (0.6, 0.2, 0.2), seed=0),
                "Tweets with nearly equal texts are in one part; drawn by this project, not a "
                "published split.",
            ),
            "random": NamedSplit(
                stratified(labels, (0.6, 0.2, 0.2), seed=0),
                "At random, as in MLA's and QMF's code, whose own parts cannot be drawn again; "
                "retweets are in several parts.",
            ),
        }
        names = [item.id for item in items]
        for lists in self.lists:
            found[lists.name] = _padded(lists).split(
                names, self._labels, rest_is_val=lists.name == "paper"
            )
        return found

    def options(self) -> dict[str, Any]:
        """Spell what changes the items, and how many tweets are none."""
        lists = {lists.name: dict(lists.sha256) for lists in self.lists}
        return {
            "labels": self.rule,
            "encoding": self.encoding,
            "lists": lists,
            "left_out": {"labels differ": self.left_out},
        }

    def label_files(self) -> list[Path]:
        """Name the table of labels and the files of the tweets."""
        assert self.raw is not None
        texts = sorted(path.relative_to(self.raw) for path in (self.raw / "data").glob("*.txt"))
        return [TABLE, *texts]

    def _parsed(self, line: str, number: int) -> tuple[str, tuple[str, str]]:
        assert self.raw is not None
        name, _, both = line.strip().partition("\t")
        text, _, image = both.partition(",")
        text, image = text.strip(), image.strip()
        if not name.isdigit() or text not in LABELS or image not in LABELS:
            raise DataError(
                f"{self.raw / TABLE}, line {number}: {line.strip()[:60]!r} is not of the form "
                f"'<id><tab><label of the text>,<label of the image>' with {', '.join(LABELS)}"
            )
        return name, (text, image)

    def _text(self, name: str) -> str:
        assert self.raw is not None
        return read_text(self.raw, Path("data", f"{name}.txt"), self.encoding).strip()


def _padded(lists: IdLists) -> IdLists:
    """Write a list's numbers as this data set's names."""
    try:
        return IdLists(
            lists.folder,
            lists.name,
            {part: tuple(f"{int(i):05d}" for i in ids) for part, ids in lists.parts.items()},
            {f"{int(id_):05d}": label for id_, label in lists.labels.items()},
            lists.sha256,
        )
    except ValueError as error:
        raise DataError(f"{lists.folder}: ids of MVSA are numbers: {error}") from error
