"""Short texts as numbers, without a vocabulary: hashed words and character trigrams."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

_WORD = re.compile(r"\w+|[^\w\s]")


def tokens_of(text: str) -> list[str]:
    """List the words of a text and the trigrams of each, as fastText does.

    Args:
        text: The text; case does not matter.

    Returns:
        Words as ``<word>`` and trigrams such as ``<wo``, ``wor``, ``ord``, ``rd>``.
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
        num_buckets: Number of buckets, the one for padding included.
        length: Most tokens that are kept of a text; None for the longest text's.

    Returns:
        (N, length) int64: from 1 to ``num_buckets - 1`` (CRC-32, which is the same everywhere), 0
        where a text has ended.
    """
    buckets: dict[str, int] = {}
    rows = []
    for text in texts:
        row = []
        for token in tokens_of(text):
            if token not in buckets:
                buckets[token] = 1 + zlib.crc32(token.encode()) % (num_buckets - 1)
            row.append(buckets[token])
        rows.append(row[:length])
    width = length if length is not None else max(map(len, rows), default=0)
    return torch.tensor([row + [0] * (width - len(row)) for row in rows], dtype=torch.int64)
