"""Code blocks of the documents, in their order."""

import re
from typing import NamedTuple


class Block(NamedTuple):
    """A fenced code block; ``path`` is the file that the text before it names, or empty."""

    language: str
    path: str
    code: str


def read_blocks(text: str) -> list[Block]:
    """Return all fenced blocks of a Markdown text.

    A block is a file if the text before it ends in its path: "One class, `my_lab/flooding.py`:".
    """
    fenced = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(match[1], _path_before(text[: match.start()]), match[2]) for match in fenced]


def _path_before(text: str) -> str:
    match = re.search(r"`([\w/]+\.\w+)`:\n\n\Z", text)
    return match[1] if match else ""
