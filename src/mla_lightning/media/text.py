"""Text as numbers: WordPiece with a vocabulary of the user's, or hashed tokens without one."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.errors import ConfigError, DataError
from mla_lightning.media.files import media_file
from mla_lightning.media.parts import ArrayPart, BadMedia, Extractor, Part, TextPart

PADS = ("[PAD]", "<pad>")


class Tokens(Extractor):
    """The tokens of a text, without markers such as [CLS], cut at ``length``, 0 where it has ended.

    With ``tokenizer``: WordPiece as bert-base-uncased does it (lower case, accents removed), from a
    vocabulary file, or whatever the ``tokenizer.json`` of a model folder says. Without: words and
    character trigrams, hashed into ``num_buckets`` numbers (:mod:`mla_lightning.media.tokens`).

    Attributes:
        shape: (length,).
        num_tokens: Numbers that can occur, 0 among them: the size of an embedding table.
    """

    kind = "tokens"
    dtype = "int64"

    def __init__(
        self,
        tokenizer: Path | str | None = None,
        length: int = 256,
        num_buckets: int | None = None,
        encoding: str = "utf-8",
    ) -> None:
        """Choose the vocabulary.

        Args:
            tokenizer: A ``vocab.txt`` (one WordPiece per line), a ``tokenizer.json``, or a model
                folder that holds one of them; None for hashed tokens.
            length: Tokens that are kept of a text.
            num_buckets: Numbers of hashed tokens, 4096 by default; not with ``tokenizer``.
            encoding: How text files are encoded.

        Raises:
            ConfigError: If a number is too small or has no effect.
            DataError: If the vocabulary is missing or broken, or its 0 is not for padding.
        """
        if length < 1:
            raise ConfigError(f"length must be at least 1, got {length}")
        if tokenizer is not None and num_buckets is not None:
            raise ConfigError("num_buckets has no effect with a tokenizer; leave one of them out")
        if num_buckets is not None and num_buckets < 2:
            raise ConfigError(f"num_buckets must be at least 2, got {num_buckets}")
        try:
            "".encode(encoding)
        except LookupError as error:
            raise ConfigError(f"encoding {encoding!r} is unknown, try utf-8 or latin-1") from error
        self.length, self.encoding = length, encoding
        self.file = None if tokenizer is None else _vocabulary_file(Path(tokenizer))
        self.shape = (length,)
        if self.file is None:
            self.num_tokens = num_buckets or 4096
            self._digest = ""
        else:
            self.num_tokens = self._tokenizer.get_vocab_size()
            self._digest = hashlib.sha256(self.file.read_bytes()).hexdigest()

    def __call__(self, raw: Path, part: Part) -> np.ndarray:
        """Read a text or a text file; see :class:`Extractor`."""
        text = self._text(raw, part).replace("\x00", " ")
        if not text.strip():
            raise BadMedia("blank text")
        if self.file is None:
            from mla_lightning.media.tokens import token_ids

            result: np.ndarray = token_ids([text], self.num_tokens, self.length)[0].numpy()
        else:
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids[: self.length]
            result = np.zeros(self.length, dtype=np.int64)
            result[: len(ids)] = ids
        if not result[0]:
            raise BadMedia("no token in the text")
        return result

    def options(self) -> dict[str, Any]:
        """Spell the options; a vocabulary by its content, wherever it lies."""
        options: dict[str, Any] = {
            "extractor": "tokens",
            "version": 1,
            "length": self.length,
            "num_tokens": self.num_tokens,
            "encoding": self.encoding,
        }
        if self.file is None:
            return {**options, "tokens": "hashed words and trigrams"}
        return {**options, "tokens": self.file.name, "sha256": self._digest}

    def _text(self, raw: Path, part: Part) -> str:
        if isinstance(part, TextPart):
            return part.text
        if isinstance(part, ArrayPart):
            raise TypeError("a text is needed here, not an array")
        try:
            return media_file(raw, part).read_text(encoding=self.encoding)
        except UnicodeDecodeError as error:
            raise BadMedia(f"not {self.encoding}: {error.reason} at byte {error.start}") from error

    @cached_property
    def _tokenizer(self) -> Any:
        assert self.file is not None
        tokenizer = _wordpiece(self.file) if self.file.suffix == ".txt" else _read(self.file)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if (zero := tokenizer.id_to_token(0)) not in PADS:
            raise DataError(
                f"{self.file}: token 0 is {zero!r}; stores keep 0 for padding, so the vocabulary "
                f"must begin with {PADS[0]}, as those of BERT do"
            )
        return tokenizer

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("_tokenizer", None)  # each process builds its own
        return state


def _vocabulary_file(path: Path) -> Path:
    names = ("tokenizer.json", "vocab.txt")
    if path.is_dir():
        for name in names:
            if (path / name).is_file():
                return path / name
        held = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise DataError(f"{path} holds neither {' nor '.join(names)}, but {held}")
    if not path.is_file():
        raise DataError(
            f"{path}: no such vocabulary. Give a vocab.txt or a model folder, such as one made by "
            "`hf download bert-base-uncased vocab.txt --local-dir DIR`, or leave tokenizer out for "
            "hashed tokens"
        )
    if path.suffix not in {".txt", ".json"}:
        raise DataError(f"{path}: a vocabulary is a .txt or .json file, or a folder with one")
    return path


def _read(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise DataError(f"{path} is no tokenizer of Hugging Face: {error}") from error


def _wordpiece(path: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    try:
        words = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error.reason}") from error
    vocabulary = {word: number for number, word in enumerate(words)}
    for number, word in enumerate(words, start=1):
        if vocabulary[word] != number - 1:
            raise DataError(f"{path}, line {number}: {word!r} occurs again further down")
    if "[UNK]" not in vocabulary:
        raise DataError(f"{path} has no line [UNK], so it is no vocabulary of WordPiece")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
