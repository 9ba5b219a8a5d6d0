"""The vocabulary of a table's texts: given, learnt from the training texts, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.data.sources.base import Item
from mla_lightning.data.splits import TRAIN, NamedSplit
from mla_lightning.errors import ConfigError, check_number
from mla_lightning.media.base import BadMedia
from mla_lightning.media.subwords import (
    MAX_VOCABULARY,
    MIN_VOCABULARY,
    VOCABULARY,
    learn_subwords,
)
from mla_lightning.media.text import TOKENIZER, Tokens
from mla_lightning.prepare.import_checks import Labels

#: Value of ``tokenizer=`` for a vocabulary that is learnt.
SUBWORDS = "subwords"


class TextVocabulary:
    """The vocabulary of a table's texts.

    Attributes:
        tokenizer: A ``vocab.txt`` or a folder with a tokenizer; the content of a ``tokenizer.json``
            if it was learnt; None for hashed tokens.
        size: Largest number of subwords to learn; None if none are learnt.
        description: Of a learnt vocabulary: ``tokens`` (their number), ``split`` and ``texts`` (the
            split whose training texts it was learnt from, and their number).

    Example:
        >>> TextVocabulary(Path("subwords"), None, "column").size
        8000
        >>> TextVocabulary(Path("vocab.txt"), None, "column").size is None
        True
    """

    def __init__(self, tokenizer: Path | None, size: int | None, labels: Labels) -> None:
        """Check the options.

        Args:
            tokenizer: The option ``tokenizer``.
            size: The option ``vocabulary``.
            labels: ``none`` for samples without labels, and so without a training split.

        Raises:
            ConfigError: If the options do not fit.
        """
        self.tokenizer: Path | bytes | None = tokenizer
        self.size: int | None = None
        self.description: dict[str, Any] = {}
        if str(tokenizer) == SUBWORDS:
            if labels == "none":
                raise ConfigError(
                    f"tokenizer={SUBWORDS} learns from training texts, and samples without labels "
                    "have no training split. Give the store of the training samples, which holds "
                    "their vocabulary: tokenizer=data/NAME"
                )
            self.size = VOCABULARY if size is None else size
            check_number("vocabulary", self.size, MIN_VOCABULARY, MAX_VOCABULARY)
        elif size is not None:
            raise ConfigError(
                f"vocabulary={size} has no effect without tokenizer={SUBWORDS}, which learns a "
                "vocabulary from the training texts"
            )

    def learn(
        self,
        items: Sequence[Item],
        splits: Mapping[str, NamedSplit],
        name: str,
        modalities: Sequence[str],
        folder: Path,
    ) -> None:
        """Learn the subwords from the training texts of a split.

        Args:
            items: All samples.
            splits: Their splits.
            name: The split.
            modalities: The modalities of texts.
            folder: Folder of text files.

        Raises:
            ConfigError: If there is no text.
        """
        assert self.size is not None
        is_train = np.asarray(splits[name].codes) == TRAIN
        texts = [*_texts_of(items, is_train, modalities, folder)]
        if not any(text.strip() for text in texts):
            raise ConfigError(f"tokenizer={SUBWORDS} has no effect: there is no training text")
        self.tokenizer = learn_subwords(texts, self.size)
        num_tokens = Tokens(self.tokenizer).num_tokens
        self.description = {"tokens": num_tokens, "split": name, "texts": len(texts)}

    def write(self, folder: Path) -> list[str]:
        """Write a learnt vocabulary into a store; return the names of the files."""
        if not isinstance(self.tokenizer, bytes):
            return []
        (folder / TOKENIZER).write_bytes(self.tokenizer)
        return [TOKENIZER]


def vocabulary_sentence(description: Mapping[str, Any]) -> str:
    """Return a sentence on a learnt vocabulary.

    Args:
        description: Its description, see :class:`TextVocabulary`.

    Example:
        >>> vocabulary_sentence({"tokens": 1200, "split": "own", "texts": 700})
        '1,200 subwords, learnt from the 700 training texts of the split own'
    """
    name, others = description["split"], ""
    if name.startswith("fold"):
        others = "; the test texts of the other folds are among them, without their classes"
    return (
        f"{description['tokens']:,} subwords, learnt from the {description['texts']:,} training "
        f"texts of the split {name}{others}"
    )


def restricted(
    splits: Mapping[str, NamedSplit], every: Sequence[Item], items: Sequence[Item]
) -> dict[str, NamedSplit]:
    """Return splits of all items for those that could be read, so that none changes its split.

    Example:
        >>> every = [Item(name, "", {}) for name in "abc"]
        >>> splits = {"own": NamedSplit(np.array([0, 1, 2]), "drawn")}
        >>> restricted(splits, every, [every[0], every[2]])["own"].codes
        array([0, 2])
    """
    names = {item.id for item in items}
    keep = np.array([item.id in names for item in every])
    return {
        key: replace(split, codes=np.asarray(split.codes)[keep]) for key, split in splits.items()
    }


def _texts_of(
    items: Sequence[Item], is_train: np.ndarray, modalities: Sequence[str], folder: Path
) -> Iterator[str]:
    read = Tokens(length=1).text
    for item, is_used in zip(items, is_train.tolist(), strict=True):
        for modality in modalities:
            if is_used and modality in item.inputs:
                try:
                    yield read(folder, item.inputs[modality])
                except BadMedia:  # the import names it
                    continue
