"""Cells of a table that are files themselves, such as the images of Hugging Face data sets."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.media.embedded import EmbeddedInput, bytes_of
from mla_lightning.media.files import format_of
from mla_lightning.prepare.kinds import ENDINGS, UNCLEAR

#: Number of bytes by which a format is recognised, and of those that a message shows.
_HEAD, _SHOWN = 256, 12
#: Feature of a Hugging Face data set -> kind by the format -> kind: films and sounds share formats.
_FEATURES = {"Audio": {"film": "sound"}, "Video": {"sound": "film"}}
#: Kind of a column -> further kinds, by their formats, that its reader may be able to read.
_ALSO_READ = {"sound": "film", "film": "sound", "sequence": "features"}


class FileCell(str):
    """A cell whose bytes are a file; its text is a name of the file for people.

    Attributes:
        file: Where the bytes are.
        kind: Kind of a column, such as ``image``, by the bytes; empty for an unknown format.
        content: What the bytes are, such as ``a PNG picture``.
    """

    __slots__ = ("content", "file", "kind")
    file: EmbeddedInput
    kind: str
    content: str


def holds_bytes(data_type: Any) -> bool:
    """Return whether a column of an Arrow type holds bytes, alone or in structs with ``bytes``.

    Example:
        >>> import pyarrow
        >>> [holds_bytes(kind) for kind in (pyarrow.binary(), pyarrow.string())]
        [True, False]
        >>> holds_bytes(pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))
        True
    """
    import pyarrow.types

    if pyarrow.types.is_struct(data_type):
        number = data_type.get_field_index("bytes")
        return number >= 0 and holds_bytes(data_type.field(number).type)
    kinds = ("binary", "large_binary", "fixed_size_binary", "binary_view")
    return any(getattr(pyarrow.types, f"is_{kind}")(data_type) for kind in kinds)


def file_cell(value: Any, path: Path, column: str, row: int, feature: str = "") -> str | None:
    """Return the cell of an Arrow scalar that holds bytes; None if it has none.

    Args:
        value: The scalar; see :func:`~mla_lightning.media.embedded.bytes_of`.
        path: The file, relative to the folder of the table.
        column: The column.
        row: The row in the file, from 0.
        feature: What a Hugging Face data set calls the column, such as ``Image``.

    Example:
        >>> import pyarrow
        >>> cell = file_cell(pyarrow.scalar(b"GIF89a"), Path("a.parquet"), "picture", 0)
        >>> cell, cell.kind, cell.content
        ('row 1.gif', 'image', 'a GIF picture')
    """
    content = bytes_of(value)
    if content is None:
        return None
    head = content[:_HEAD].to_pybytes()
    name, suffixes = format_of(head) or ("", ())
    ending = suffixes[0] if suffixes else ""
    cell = FileCell(f"row {row + 1}{ending}")
    kind = ENDINGS.get(ending, "")
    cell.kind = _FEATURES.get(feature, {}).get(kind, kind)
    cell.content = name or (f"bytes that begin with {head[:_SHOWN]!r}" if head else "0 bytes")
    sha256 = hashlib.sha256(content).hexdigest()
    cell.file = EmbeddedInput(path, column=column, row=row, ending=ending, sha256=sha256)
    return cell


def features_of(schema: Any) -> dict[str, Any]:
    """Return the features that a Hugging Face data set wrote into the schema of its files.

    Returns:
        Column -> feature; empty if there are none.

    Example:
        >>> import json, pyarrow
        >>> features = {"info": {"features": {"image": {"_type": "Image"}}}}
        >>> schema = pyarrow.schema({"image": pyarrow.binary()})
        >>> features_of(schema.with_metadata({"huggingface": json.dumps(features)}))
        {'image': {'_type': 'Image'}}
    """
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return dict(features) if isinstance(features, dict) else {}


def guess_bytes(name: str, cells: Sequence[str], place_of: Callable[[int], str]) -> tuple[str, str]:
    """Return the kind of a column of bytes, with the reason; cells of no known format do not count.

    Args:
        name: Name of the column.
        cells: Its cells, some of which are of :class:`FileCell`.
        place_of: Row -> its place in the file.
    """
    rows: dict[str, int] = {}  # kind -> row
    counts: Counter[str] = Counter()
    for row, cell in enumerate(cells):
        if cell:
            kind, _ = _kind_of(cell)
            rows.setdefault(kind, row)
            counts[kind] += 1
    kinds = [kind for kind, _ in counts.most_common() if kind]
    if not kinds:
        content = _kind_of(cells[rows[""]])[1]
        reason = f"holds bytes of no format that is read: {content} in {place_of(rows[''])}"
        remedy = "Write texts as a column of texts, and numbers as lists"
        return UNCLEAR, f"{reason}. {remedy}, or leave it out: columns.{name}=ignore"
    if len(kinds) > 1:
        listed = ", ".join(f"{kind} in {place_of(rows[kind])}" for kind in kinds)
        reason = f"holds files of different kinds: {listed}"
        return UNCLEAR, f"{reason}. Decide: columns.{name}={', '.join(kinds)} or ignore"
    return kinds[0], "bytes of files"


def bytes_problem(cell: FileCell, name: str, kind: str) -> str:
    """Return why the bytes of a cell are none of its column's kind; empty if they are.

    Args:
        cell: The cell.
        name: Name of the column.
        kind: Kind of the column.
    """
    if cell.kind and cell.kind in (kind, _ALSO_READ.get(kind)):
        return ""
    article = "an" if kind == "image" else "a"
    noun = kind if kind not in ("features", "sequence", "text") else "file"
    return f"the column {name!r} holds {cell.content}, not {article} {noun} that is read"


def _kind_of(cell: str) -> tuple[str, str]:
    """Return the kind of a file by its bytes or its name, and what it is."""
    if isinstance(cell, FileCell):
        return cell.kind, cell.content
    return ENDINGS.get(Path(cell).suffix.lower(), ""), repr(cell)
