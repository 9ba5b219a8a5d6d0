"""Texts as attributes of samples: short enough to store, still told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mla_lightning.data.sources.base import Item
from mla_lightning.data.splits import near_duplicates
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.base import BadMedia, FileInput, TextInput
from mla_lightning.media.files import media_file

#: Characters that are kept of a text that is stored to be looked at.
SHOWN = 120


def shown(text: str) -> str:
    """Shorten a text for an attribute, which takes the room of the longest one in every row.

    Args:
        text: The text.

    Returns:
        The text on one line; a long one ends in a hash, so that two are equal only if the whole
        texts are.
    """
    line = " ".join(text.split())
    if len(line) <= SHOWN:
        return line
    return f"{line[: SHOWN - 11]}... {_hash(line)[:7]}"


def duplicate_groups(texts: Sequence[str]) -> list[str]:
    """Name the group of near-duplicates that each text is in.

    Args:
        texts: (N,) texts.

    Returns:
        (N,) short names, equal for texts that :func:`near_duplicates` takes for one.
    """
    return [_hash(group)[:12] for group in near_duplicates(texts)]


def read_text(raw: Path, path: Path, encoding: str) -> str:
    """Read a label file or a text.

    Args:
        raw: The raw folder.
        path: The file, relative to it.
        encoding: How it is encoded; a byte order mark of UTF-8 is left out.

    Returns:
        Its text.

    Raises:
        ConfigError: If there is no such encoding.
        DataError: If the file is missing, empty, a Git LFS pointer, or encoded in another way.
    """
    try:
        file = media_file(raw, FileInput(path))
        is_utf8 = encoding.lower().replace("_", "-") in {"utf-8", "utf8"}
        return file.read_text(encoding="utf-8-sig" if is_utf8 else encoding)
    except BadMedia as error:
        raise DataError(f"{raw / path}: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{raw / path} is not {encoding}: {error.reason} at byte {error.start}. If all files "
            "are like this, say how they are encoded, such as encoding=latin-1"
        ) from error
    except LookupError as error:
        known = ("utf-8", "latin-1", "cp1252")
        raise ConfigError(f"encoding {encoding!r} is unknown.{near(encoding, known)}") from error


def text_of(item: Item) -> str:
    """Return a sample's text."""
    part = item.inputs["text"]
    assert isinstance(part, TextInput)
    return part.text


def held(folder: Path) -> str:
    """List some of what a folder holds, for messages about what it does not."""
    names = sorted(path.name for path in folder.glob("*"))
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more or "nothing"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def json_line(line: str) -> tuple[str, str]:
    """Read a line of MMBT's and QMF's lists, such as ``{"id": ..., "label": ..., "img": ...}``.

    Args:
        line: The line.

    Returns:
        The name of the sample, that of its image without folder and ending, and its label.

    Raises:
        ValueError: If it is something else.
    """
    try:
        record = json.loads(line)
        file, label = record.get("img") or record["id"], record["label"]
        return PurePosixPath(str(file)).name.removesuffix(".jpg"), str(label)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("no JSON object with 'label', and 'img' or 'id'") from error
