"""MVSA-Single: tweets with an image, and their sentiment (Niu et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from mla_lightning.data.sources.base import Item
from mla_lightning.data.sources.id_lists import IdLists, ListFormat, separated_by
from mla_lightning.data.sources.official import TextImageSource, text_extractor
from mla_lightning.data.sources.texts import (
    duplicate_groups,
    item_text,
    parse_json_line,
    read_text,
    shorten_text,
)
from mla_lightning.data.splits import NamedSplit, grouped, stratified
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.base import FileInput, MediaInput, TextInput

TABLE = Path("labelResultAll.txt")
LABELS = ("negative", "neutral", "positive")
RULES = ("agree", "multisentinet")
LISTS = (
    ListFormat(
        "paper",
        {"train": "my_train_mvsa.txt", "val": "my_dev_mvsa.txt", "test": "my_test_mvsa.txt"},
        separated_by(".jpg "),
    ),
    ListFormat(
        "qmf",
        {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"},
        parse_json_line,
    ),
)


def merge_labels(text: str, image: str, rule: str) -> str | None:
    """Merge the labels of text and image into one.

    Args:
        text: The text's label.
        image: The image's label.
        rule: ``agree``: both must be equal, which gives MLA's and QMF's 2,592 samples; or
            ``multisentinet``: neutral and another label give the other one, and only positive with
            negative is left out, which gives 4,511.

    Returns:
        The label; None to leave out the sample.
    """
    if text == image:
        return text
    if rule == "agree" or "neutral" not in (text, image):
        return None
    return image if text == "neutral" else text


class MVSA(TextImageSource):
    """MVSA-Single: 2,592 tweets with an image, text + image, 3 sentiments.

    ``text``: (256,) int64 token ids. ``image``: (3, 256, 256) uint8, the shorter side resized to
    256, then the centre.
    """

    name = "mvsa"
    class_names = LABELS
    modalities = ("text", "image")
    default_split = "clean"
    landmark = TABLE.name
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
        """Set the options.

        Args:
            raw: The folder.
            tokenizer: ``vocab.txt`` or model folder of WordPiece; the paper's is
                bert-base-uncased.
            hashed: Whether to use hashed words and trigrams instead, for encoders from scratch.
            lists: Folder with the lists of MLA (``my_train_mvsa.txt``, ...) or QMF
                (``train.jsonl``, ...): adds the splits ``paper`` and ``qmf``.
            labels: Rule that merges the two labels, see :func:`merge_labels`.
            encoding: Encoding of the tweets.
            length: Number of token ids per tweet.
            image_size: Height and width of the stored images.

        Raises:
            ConfigError: If neither or both of ``tokenizer`` and ``hashed`` are given, or a value is
                unknown.
            DataError: If the vocabulary or the lists are missing or broken.
        """
        if labels not in RULES:
            raise ConfigError(
                f"labels {labels!r} is unknown.{near(labels, RULES)} Known: {', '.join(RULES)}."
            )
        text = text_extractor(tokenizer, hashed=hashed, length=length)
        super().__init__(raw, lists, LISTS, text, image_size)
        self.rule, self.encoding = labels, encoding
        self.num_left_out = 0

    def items(self) -> list[Item]:
        """List the tweets that have a label.

        Returns:
            2,592 tweets of the complete data set (``agree``), sorted by name; :attr:`num_left_out`
            is the number of tweets without a label.

        Raises:
            DataError: If the table is missing or a line of it is broken, or a tweet's file is.
        """
        if not (self.folder / TABLE).is_file():
            raise self.layout_error(f"{self.folder / TABLE} does not exist")
        items: dict[str, Item] = {}
        self.num_left_out = 0
        for number, line in enumerate(read_text(self.folder, TABLE, "utf-8").splitlines(), start=1):
            if not line.strip() or (number == 1 and line.upper().startswith("ID")):
                continue
            name, labels = self._parse_line(line, number)
            id_ = f"{int(name):05d}"
            if id_ in items:
                raise DataError(f"{self.folder / TABLE}, line {number}: {name} occurs twice")
            label = merge_labels(*labels, self.rule)
            if label is None:
                self.num_left_out += 1
                continue
            text = self._text(name)
            inputs: dict[str, MediaInput] = {
                "text": TextInput(text),
                "image": FileInput(Path("data", f"{name}.jpg")),
            }
            attributes = {"text": shorten_text(text), "tweet": name}
            items[id_] = Item(id_, label, inputs, attributes)
        if not items:
            raise DataError(f"{self.folder / TABLE} holds no tweet whose labels fit together")
        self.labels = {item.id: item.label for item in items.values()}
        return [items[id_] for id_ in sorted(items)]

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide without near-duplicates in two splits, at random, and by the user's lists.

        Args:
            items: The tweets.

        Returns:
            ``clean`` and ``random`` (60/20/20 each), and ``paper`` or ``qmf``.
        """
        labels = [item.label for item in items]
        groups = duplicate_groups([item_text(item) for item in items])
        splits = {
            "clean": NamedSplit(
                grouped(labels, groups, (0.6, 0.2, 0.2), seed=0),
                "Tweets with nearly equal texts are in the same split; drawn by this project, not "
                "a published split.",
            ),
            "random": NamedSplit(
                stratified(labels, (0.6, 0.2, 0.2), seed=0),
                "At random, as in MLA's and QMF's code, whose own splits cannot be redrawn; "
                "retweets are in several splits.",
            ),
        }
        ids = [item.id for item in items]
        for lists in self.lists:
            rest_is_val = lists.name == "paper"
            split = _with_padded_ids(lists).split(ids, self.labels, rest_is_val=rest_is_val)
            splits[lists.name] = split
        return splits

    def options(self) -> dict[str, Any]:
        """Return the options that change the items, and the number of tweets left out."""
        return {
            "labels": self.rule,
            "encoding": self.encoding,
            **super().options(),
            "left_out": {"labels differ": self.num_left_out},
        }

    def label_files(self) -> list[Path]:
        """Return the table of labels and the files of the tweets."""
        texts = (self.folder / "data").glob("*.txt")
        return [TABLE, *sorted(path.relative_to(self.folder) for path in texts)]

    def _parse_line(self, line: str, number: int) -> tuple[str, tuple[str, str]]:
        """Parse a line of the table: name, and labels of text and image."""
        name, _, labels = line.strip().partition("\t")
        text, _, image = labels.partition(",")
        text, image = text.strip(), image.strip()
        if not name.isdigit() or text not in LABELS or image not in LABELS:
            raise DataError(
                f"{self.folder / TABLE}, line {number}: {line.strip()[:60]!r} is not of the form "
                f"'<id><tab><label of the text>,<label of the image>' with {', '.join(LABELS)}"
            )
        return name, (text, image)

    def _text(self, name: str) -> str:
        return read_text(self.folder, Path("data", f"{name}.txt"), self.encoding).strip()


def _with_padded_ids(lists: IdLists) -> IdLists:
    """Return lists with ids of five digits, as those of the items."""
    try:
        return replace(
            lists,
            ids={split: tuple(f"{int(i):05d}" for i in ids) for split, ids in lists.ids.items()},
            labels={f"{int(id_):05d}": label for id_, label in lists.labels.items()},
        )
    except ValueError as error:
        raise DataError(f"{lists.folder}: ids of MVSA are numbers: {error}") from error
