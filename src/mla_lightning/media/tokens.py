"""Hashed tokens: short texts as numbers without a vocabulary, from words and character trigrams."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

_WORD = re.compile(r"\w+|[^\w\s]")


def split_tokens(text: str) -> list[str]:
    """Split a text into words and the trigrams of each word, as fastText does.

    Args:
        text: The text; case does not matter.

    Returns:
        Words as ``<word>`` and trigrams such as ``<wo``, ``wor``, ``ord``, ``rd>``.

    Example:
        >>> split_tokens("Red ox")
        ['<red>', '<re', 'red', 'ed>', '<ox>', '<ox', 'ox>']
    """
    tokens = []
    for word in _WORD.findall(text.casefold()):
        marked = f"<{word}>"
        tokens.append(marked)
        if len(marked) > 3:
            tokens += [marked[start : start + 3] for start in range(len(marked) - 2)]
    return tokens


def token_ids(texts: Sequence[str], num_buckets: int, length: int | None = None) -> Tensor:
    """Hash the tokens of texts into buckets.

    Args:
        texts: N texts.
        num_buckets: Number of buckets, including bucket 0 for padding.
        length: Largest number of tokens of a text, further ones are cut; None for the number of the
            longest text.

    Returns:
        (N, length) int64: from 1 to ``num_buckets - 1`` (CRC-32, equal on all machines), and 0
        after the end of a text.

    Example:
        >>> token_ids(["a dog", "a"], num_buckets=1000)
        tensor([[689, 875, 650, 494, 287],
                [689,   0,   0,   0,   0]])
    """
    buckets: dict[str, int] = {}
    rows = []
    for text in texts:
        row = []
        for token in split_tokens(text):
            if token not in buckets:
                buckets[token] = 1 + zlib.crc32(token.encode()) % (num_buckets - 1)
            row.append(buckets[token])
        rows.append(row[:length])
    width = length if length is not None else max(map(len, rows), default=0)
    return torch.tensor([row + [0] * (width - len(row)) for row in rows], dtype=torch.int64)
