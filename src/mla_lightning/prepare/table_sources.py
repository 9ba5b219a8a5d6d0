"""Tables in any form: CSV, JSON lines, Parquet, saved Hugging Face datasets, folders by class."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.errors import DataError, reason_of
from mla_lightning.media.embedded import open_parquet, parquet_batches
from mla_lightning.paths import check_regular_file
from mla_lightning.prepare.file_cells import FileCell, features_of, file_cell, holds_bytes
from mla_lightning.prepare.import_splits import split_name
from mla_lightning.prepare.kinds import ENDINGS, FILE_KINDS
from mla_lightning.prepare.table_files import as_text, check_start, read_json_lines, read_table

#: Rows, each column -> text and ``line`` -> its place; and the columns.
Cells = tuple[list[dict[str, str]], list[str]]
#: Files that save_to_disk of Hugging Face datasets writes: of one split, and of several.
_DATASET, _DATASETS = "dataset_info.json", "dataset_dict.json"
#: File of a saved dataset with the names of its files.
_STATE = "state.json"
#: Name of one of several files: their common name, and their number.
_PART = re.compile(r"(.*)-\d+-of-(\d+)")
#: Split that the files of a data set without splits are named after.
_TRAIN = "train"
_REMEDY = "Write the data set again with save_to_disk"


def is_table(path: Path) -> bool:
    """Return whether a file or folder is read as a table, by its name and content.

    Example:
        >>> is_table(Path("a.CSV")), is_table(Path("a.parquet")), is_table(Path("a.npz"))
        (True, True, False)
    """
    if path.is_dir():
        is_saved = any((path / name).is_file() for name in (_DATASET, _DATASETS))
        return (
            is_saved
            or bool(_parquet_files(path))
            or any(_class_folders(path))
            or any(map(_is_media, path.iterdir()))
        )
    return path.suffix.lower() in _READERS


def unit_of(path: Path) -> str:
    """Return what the places in a table are called: lines of a text file, otherwise rows.

    Example:
        >>> unit_of(Path("a.csv")), unit_of(Path("a.parquet"))
        ('line', 'row')
    """
    return "line" if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".ndjson") else "row"


def read_source(path: Path) -> Cells:
    """Read a table.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file; a folder that
            ``save_to_disk`` of Hugging Face datasets wrote; a folder of Parquet files, also in its
            folder ``data``, such as ``train-00000-of-00002.parquet``; or a folder of media by
            class, ``FOLDER/class/file`` or ``FOLDER/split/class/file``, or without classes,
            ``FOLDER/file``.

    Returns:
        The rows, each column -> text, and ``line`` -> its line or row; and the columns. Splits of
        several datasets or folders are the column ``split``.

    Raises:
        DataError: If it cannot be read; the message has the line or row, and the remedy.
    """
    if not path.is_dir():
        return _READERS[path.suffix.lower()](path)
    if (path / _DATASETS).is_file():
        return _read_datasets(path)
    if (path / _DATASET).is_file():
        return _read_dataset(path, path)
    if files := _parquet_files(path):
        return _read_parquets(files, path)
    return _read_classes(path)


def _parquet_files(folder: Path) -> list[Path]:
    """List the Parquet files of a folder without media and arrays, or of its folder ``data``."""
    if any(_class_folders(folder)) or any(map(_is_media, folder.iterdir())):
        return []
    if any(folder.glob("*.npy")):
        return []
    return sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))


def _read_parquets(files: Sequence[Path], root: Path) -> Cells:
    """Read Parquet files of one table, whose names may begin with the name of a split."""
    parts = Counter(match[1] for path in files if (match := _PART.match(path.name)))
    for path in files:
        match = _PART.match(path.name)
        if match and parts[match[1]] != int(match[2]):
            raise DataError(
                f"{path.parent} holds {parts[match[1]]} of the {int(match[2])} files {match[1]}-*. "
                "Get the others, too"
            )
    splits = {path: split_name(re.split(r"[-.]", path.name)[0].lower()) for path in files}
    if set(splits.values()) == {_TRAIN}:  # all samples of a data set without splits
        splits = dict.fromkeys(files)
    named = [path for path, split in splits.items() if split is not None]
    rows: list[dict[str, str]] = []
    columns: list[str] = []
    for path, split in splits.items():
        if named and split is None:
            raise DataError(
                f"{path}: its name begins with no split, as {named[0].name} does. Name it so, such "
                f"as train-{path.name}, or move it away"
            )
        part, names = _read_parquet(path, root)
        if columns and names != columns:
            raise DataError(f"{path} has other columns than {files[0]}: {', '.join(names)}")
        if named and "split" in names:
            raise DataError(f"{path}: the column 'split' contradicts the names of the files")
        columns, more = names, {} if split is None else {"split": split}
        rows += [{**row, **more, "line": f"{row['line']} of {path.name}"} for row in part]
    return rows, [*columns, *(["split"] if named else [])]


def _read_parquet(path: Path, root: Path | None = None) -> Cells:
    """Read a Parquet file; files in its cells are named by paths below the root."""
    import pyarrow

    check_regular_file(path)
    check_start(path)
    try:
        file = open_parquet(path)
        reading = _Reading(str(path), file.schema_arrow, features_of(file.schema_arrow))
        for batch in parquet_batches(file):
            reading.add(batch, path.relative_to(root or path.parent))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is no Parquet file: {reason_of(error, path)}") from error
    return reading.rows, reading.columns


def _read_datasets(folder: Path) -> Cells:
    rows: list[dict[str, str]] = []
    columns: list[str] = []
    names = _read_json(folder / _DATASETS).get("splits") or []
    if not names:
        raise DataError(f"{folder / _DATASETS} names no splits. {_REMEDY}")
    for name in names:
        part, columns = _read_dataset(folder / Path(str(name)).name, folder)
        if "split" in columns:
            raise DataError(f"{folder / str(name)}: the column 'split' contradicts the folders")
        rows += [{**row, "split": str(name), "line": f"{row['line']} of {name}"} for row in part]
    return rows, [*columns, "split"]


def _read_dataset(folder: Path, root: Path) -> Cells:
    """Read a folder of Arrow files; files in their cells are named by paths below the root."""
    import pyarrow
    import pyarrow.ipc

    features = _read_json(folder / _DATASET).get("features") or {}
    entries = _read_json(folder / _STATE).get("_data_files") or []
    files = [str(entry["filename"]) for entry in entries if isinstance(entry, dict) and entry]
    if not files:
        raise DataError(f"{folder / _STATE} names no files. {_REMEDY}")
    reading: _Reading | None = None
    for path in [folder / Path(name).name for name in files]:
        check_regular_file(path)
        try:
            with pyarrow.memory_map(str(path)) as source:
                stream = pyarrow.ipc.open_stream(source)
                reading = reading or _Reading(str(folder), stream.schema, features)
                for batch in stream:
                    reading.add(batch, path.relative_to(root))
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path} is no Arrow file: {reason_of(error, path)}") from error
    assert reading is not None
    return reading.rows, reading.columns


class _Reading:
    """Rows of Arrow files, read batch by batch; numbers of classes become their names.

    Attributes:
        rows: The rows so far.
        columns: The columns.
    """

    def __init__(self, where: str, schema: Any, features: Mapping[str, Any]) -> None:
        """Check the columns.

        Args:
            where: File or folder, for messages.
            schema: The Arrow schema of the first file.
            features: Column -> feature of a Hugging Face data set.
        """
        self.where, self.rows = where, list[dict[str, str]]()
        self.columns = [str(name) for name in schema.names]
        if index := [name for name in self.columns if name.startswith("__index_level_")]:
            raise DataError(
                f"{where}: {index[0]!r} is the index of a pandas table. Write it with "
                "to_parquet(..., index=False)"
            )
        items = {name: _item_of(entry) for name, entry in features.items()}
        entries = {name: item for name, item in items.items() if isinstance(item, dict)}
        self._features = {name: str(item.get("_type")) for name, item in entries.items()}
        self._class_names = {
            name: list(entries[name]["names"])
            for name, feature in self._features.items()
            if feature == "ClassLabel" and "names" in entries[name]
        }
        self._path, self._num_in_file = Path(), 0

    def add(self, batch: Any, path: Path) -> None:
        """Add the rows of a batch.

        Args:
            batch: The record batch.
            path: Its file, relative to the folder of the table.

        Raises:
            DataError: If a cell cannot be read, or the columns are not those of the first file.
        """
        if path != self._path:
            self._path, self._num_in_file = path, 0
        if list(batch.schema.names) != self.columns:
            names = ", ".join(batch.schema.names)
            raise DataError(f"{self.where}: {path} has other columns than the first file: {names}")
        columns = zip(self.columns, batch.columns, strict=True)
        cells = [self._cells(name, array, self._num_in_file) for name, array in columns]
        for texts in zip(*cells, strict=True):
            row = dict(zip(self.columns, texts, strict=True))
            self.rows.append({**row, "line": str(len(self.rows) + 1)})
        self._num_in_file += batch.num_rows

    def _cells(self, name: str, array: Any, first: int) -> list[str]:
        """Return the cells of a column of a batch whose first row is given, in its file."""
        names, feature = self._class_names.get(name), self._features.get(name, "")
        if holds_bytes(array.type):
            cells = [
                file_cell(value, self._path, name, row, feature) or value.as_py()
                for row, value in enumerate(array, start=first)
            ]
        else:
            cells = array.to_pylist()
        texts = []
        for number, cell in enumerate(cells, start=len(self.rows) + 1):
            value = cell
            if names is not None and isinstance(value, list):
                value = [_name(item, names) for item in value]
            elif names is not None:
                value = _name(value, names)
            is_file = isinstance(value, FileCell)
            where = f"{self.where}, row {number}: {name!r}"
            texts.append(value if is_file else as_text(value, where))
        return texts


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error, path)}. {_REMEDY}") from error
    return content if isinstance(content, dict) else {}


def _item_of(feature: Any) -> Any:
    """Return the feature of the items of a sequence, or the feature itself."""
    is_sequence = isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List")
    return feature.get("feature") if is_sequence else feature


def _name(number: Any, names: list[str]) -> Any:
    """Return the name of a class; a value that is no number stays as it is."""
    if not isinstance(number, int):
        return number
    return names[number] if 0 <= number < len(names) else ""


def _class_folders(folder: Path) -> Iterator[Path]:
    """List the folders of classes: below the folder, or below folders of splits."""
    entries = _folders_in(folder)
    is_divided = bool(entries) and all(split_name(path.name.lower()) for path in entries)
    for entry in entries:
        for path in _folders_in(entry) if is_divided else [entry]:
            if any(_is_media(file) for file in path.iterdir()):
                yield path


def _folders_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _check_layout(folder: Path, classes: Sequence[Path]) -> None:
    """Check that no folder beside those of the classes holds files that would be left out."""
    parents = dict.fromkeys([folder, *(path.parent for path in classes)])
    for path in [path for parent in parents for path in _folders_in(parent)]:
        files = [file for file in path.rglob("*") if file.is_file()]
        if path not in classes and path not in parents and any(map(_is_media, files)):
            example = next(filter(_is_media, files)).relative_to(folder)
            raise DataError(
                f"{path} is no folder of a class: its files lie deeper, such as {example}. Needed "
                "are FOLDER/class/file or FOLDER/train|val|test/class/file"
            )
    stray = [file for parent in parents for file in sorted(parent.iterdir()) if _is_media(file)]
    if stray:
        raise DataError(f"{stray[0]} lies in no folder of a class. Move it into one, or away")


def _is_media(path: Path) -> bool:
    return ENDINGS.get(path.suffix.lower()) in FILE_KINDS and not path.name.startswith(".")


def _read_classes(folder: Path) -> Cells:
    classes = list(_class_folders(folder))
    has_classes = bool(classes)
    if has_classes:
        _check_layout(folder, classes)
    classes = classes or [folder]
    rows: list[dict[str, str]] = []
    is_divided = has_classes and classes[0].parent != folder
    kind = next(ENDINGS[f.suffix.lower()] for f in sorted(classes[0].iterdir()) if _is_media(f))
    for class_folder in classes:
        for path in sorted(class_folder.iterdir()):
            if path.name.startswith("."):
                continue
            name = path.relative_to(folder).as_posix()
            if not _is_media(path):
                raise DataError(
                    f"{path} is no image, sound or film. A folder of a class holds its files "
                    "alone; move it away"
                )
            row = {"id": name, "label": class_folder.name, kind: name, "line": str(len(rows) + 1)}
            if not has_classes:
                del row["label"]
            split = class_folder.parent.name.lower()
            rows.append({**row, "split": split} if is_divided else row)
    roles = ["id", *(["label"] if has_classes else []), *(["split"] if is_divided else [])]
    return rows, [*roles, kind]


#: Ending -> function that reads such files.
_READERS: dict[str, Callable[[Path], Cells]] = {
    ".csv": read_table,
    ".tsv": read_table,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": _read_parquet,
}
