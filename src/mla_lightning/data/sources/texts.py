"""Texts of label files and samples: reading, shortening, and groups of near-duplicates."""

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

#: Largest number of characters of a text that is stored as an attribute.
MAX_CHARACTERS = 120


def shorten_text(text: str) -> str:
    """Shorten a text for an attribute, which needs the space of its longest text in every row.

    Args:
        text: The text.

    Returns:
        The text on one line; a long one ends with a hash, so that two results are equal only if the
        whole texts are.
    """
    line = " ".join(text.split())
    if len(line) <= MAX_CHARACTERS:
        return line
    return f"{line[: MAX_CHARACTERS - 11]}... {_hash(line)[:7]}"


def duplicate_groups(texts: Sequence[str]) -> list[str]:
    """Return the group of near-duplicates of each text.

    Args:
        texts: (N,) texts.

    Returns:
        (N,) short names, equal for texts that :func:`near_duplicates` regards as equal.
    """
    return [_hash(group)[:12] for group in near_duplicates(texts)]


def read_text(raw: Path, path: Path, encoding: str) -> str:
    """Read a label file or a text.

    Args:
        raw: The raw folder.
        path: The file, relative to the raw folder.
        encoding: Its encoding; a byte order mark of UTF-8 is removed.

    Returns:
        Its text.

    Raises:
        ConfigError: If the encoding is unknown.
        DataError: If the file is missing, empty, a Git LFS pointer, or has another encoding.
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
            "are like this, give their encoding, such as encoding=latin-1"
        ) from error
    except LookupError as error:
        known = ("utf-8", "latin-1", "cp1252")
        raise ConfigError(f"encoding {encoding!r} is unknown.{near(encoding, known)}") from error


def item_text(item: Item) -> str:
    """Return the text of an item's modality ``text``."""
    text = item.inputs["text"]
    assert isinstance(text, TextInput)
    return text.text


def list_folder(folder: Path) -> str:
    """List the first names in a folder, for messages about missing files."""
    names = sorted(path.name for path in folder.glob("*"))
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more or "nothing"


def parse_json_line(line: str) -> tuple[str, str]:
    """Parse a line of MMBT's and QMF's lists, such as ``{"id": ..., "label": ..., "img": ...}``.

    Args:
        line: The line.

    Returns:
        The id, which is the name of the image without folder and suffix, and the label.

    Raises:
        ValueError: If it is not such a line.
    """
    try:
        record = json.loads(line)
        file, label = record.get("img") or record["id"], record["label"]
        return PurePosixPath(str(file)).name.removesuffix(".jpg"), str(label)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("no JSON object with 'label', and 'img' or 'id'") from error


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
