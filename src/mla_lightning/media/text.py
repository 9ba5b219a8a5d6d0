"""Extractor of token ids: WordPiece with the user's vocabulary, or hashed tokens without one."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.errors import ConfigError, DataError, check_number
from mla_lightning.media.base import ArrayInput, BadMedia, Extractor, MediaInput, TextInput
from mla_lightning.media.files import media_file

#: Names that vocabularies give to padding.
PADS = ("[PAD]", "<pad>")
#: The file of a tokenizer in a folder of a model, and in a store.
TOKENIZER = "tokenizer.json"


class Tokens(Extractor):
    """The token ids of a text, without markers such as [CLS], cut or padded with 0 to ``length``.

    With ``tokenizer``: WordPiece as in bert-base-uncased (lower case, accents removed), from a
    vocabulary file, or the tokenizer of a model folder's ``tokenizer.json``, or that of
    :func:`~mla_lightning.media.subwords.learn_subwords`. Without it: words and character trigrams,
    hashed into ``num_buckets`` buckets (:mod:`mla_lightning.media.tokens`).

    Attributes:
        shape: (length,).
        num_tokens: Number of possible ids, including 0: the size of an embedding table.

    Example:
        >>> from mla_lightning.media.base import TextInput
        >>> Tokens(length=8, num_buckets=100)(Path(), TextInput("a dog"))
        array([14,  2,  2, 62, 62,  0,  0,  0])
    """

    kind = "tokens"
    dtype = "int64"

    def __init__(
        self,
        tokenizer: Path | str | bytes | None = None,
        length: int = 256,
        num_buckets: int | None = None,
        encoding: str = "utf-8",
    ) -> None:
        """Choose the vocabulary.

        Args:
            tokenizer: A ``vocab.txt`` (one WordPiece per line), a ``tokenizer.json``, or a model
                folder with one of them; or the content of a ``tokenizer.json``; None for hashed
                tokens.
            length: Number of token ids per text; longer texts are cut.
            num_buckets: Number of buckets of hashed tokens, 4096 by default; not with
                ``tokenizer``.
            encoding: Encoding of text files.

        Raises:
            ConfigError: If a number is too small or has no effect.
            DataError: If the vocabulary is missing or broken, or its token 0 is not padding.
        """
        check_number("length", length, 1, 10**5)
        if tokenizer is not None and num_buckets is not None:
            raise ConfigError("num_buckets has no effect with a tokenizer; leave one of them out")
        if num_buckets is not None:
            check_number("num_buckets", num_buckets, 2, 10**7)
        try:
            "".encode(encoding)
        except LookupError as error:
            raise ConfigError(f"encoding {encoding!r} is unknown, try utf-8 or latin-1") from error
        self.length, self.encoding = length, encoding
        self.content = tokenizer if isinstance(tokenizer, bytes) else b""
        self.file: Path | None = None
        if self.content:
            self.file = Path(TOKENIZER)
        elif tokenizer is not None:
            self.file = _vocabulary_file(Path(str(tokenizer)))
        self.shape = (length,)
        if self.file is None:
            self.num_tokens = num_buckets or 4096
            self._digest = ""
        else:
            self.num_tokens = self._tokenizer.get_vocab_size()
            self._digest = hashlib.sha256(self.content or self.file.read_bytes()).hexdigest()

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read a text or a text file; see :class:`Extractor`."""
        text = self.text(raw, media_input).replace("\x00", " ")
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

    def count(self, raw: Path, media_input: MediaInput) -> int:
        """Return the number of tokens of a text before it is cut; see :class:`Extractor`.

        Example:
            >>> from mla_lightning.media.base import TextInput
            >>> Tokens(length=2).count(Path(), TextInput("a dog"))
            5
        """
        text = self.text(raw, media_input)
        if self.file is None:
            from mla_lightning.media.tokens import split_tokens

            return len(split_tokens(text))
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def options(self) -> dict[str, Any]:
        """Return the options that change the result, with the hash of the vocabulary."""
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

    def text(self, raw: Path, media_input: MediaInput) -> str:
        """Return a text, or the content of a text file.

        Args:
            raw: The folder of the files.
            media_input: The text or file.

        Raises:
            BadMedia: If the file is missing or of another encoding.

        Example:
            >>> from mla_lightning.media.base import TextInput
            >>> Tokens().text(Path(), TextInput("a dog"))
            'a dog'
        """
        if isinstance(media_input, TextInput):
            return media_input.text
        if isinstance(media_input, ArrayInput):
            raise TypeError("a text is needed here, not an array")
        try:
            return media_file(raw, media_input).read_text(encoding=self.encoding)
        except UnicodeDecodeError as error:
            raise BadMedia(f"not {self.encoding}: {error.reason} at byte {error.start}") from error

    @cached_property
    def _tokenizer(self) -> Any:
        assert self.file is not None
        if self.file.suffix == ".txt":
            tokenizer = _read_vocabulary(self.file)
        else:
            tokenizer = _read_tokenizer(self.file, self.content)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if (zero := tokenizer.id_to_token(0)) not in PADS:
            raise DataError(
                f"{self.file}: token 0 is {zero!r}; stores use 0 for padding, so the vocabulary "
                f"must begin with {PADS[0]}, as those of BERT do"
            )
        return tokenizer

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("_tokenizer", None)  # every process reads the vocabulary again
        return state


def _vocabulary_file(path: Path) -> Path:
    names = (TOKENIZER, "vocab.txt")
    if path.is_dir():
        for name in names:
            if (path / name).is_file():
                return path / name
        entries = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise DataError(f"{path} holds neither {' nor '.join(names)}, but {entries}")
    if not path.is_file():
        raise DataError(
            f"{path}: no such vocabulary. Give a vocab.txt or a model folder, such as one made by "
            "`hf download bert-base-uncased vocab.txt --local-dir DIR`, or leave out tokenizer for "
            "hashed tokens"
        )
    if path.suffix not in {".txt", ".json"}:
        raise DataError(f"{path}: a vocabulary is a .txt or .json file, or a folder with one")
    return path


def _read_tokenizer(path: Path, content: bytes) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str((content or path.read_bytes()).decode())
    except Exception as error:  # the library raises the class Exception
        raise DataError(f"{path} is no tokenizer of Hugging Face: {error}") from error


def _read_vocabulary(path: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    try:
        words = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error.reason}") from error
    vocabulary = {word: number for number, word in enumerate(words)}
    for number, word in enumerate(words, start=1):
        if vocabulary[word] != number - 1:
            raise DataError(f"{path}, line {number}: {word!r} occurs again below")
    if "[UNK]" not in vocabulary:
        raise DataError(f"{path} has no line [UNK], so it is no WordPiece vocabulary")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
