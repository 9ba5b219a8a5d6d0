"""Tables in any form: CSV, JSON lines, Parquet, saved Hugging Face datasets, folders by class."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.errors import DataError, reason_of
from mla_lightning.paths import check_regular_file
from mla_lightning.prepare.columns import ENDINGS, FILE_KINDS
from mla_lightning.prepare.import_splits import split_name
from mla_lightning.prepare.table_files import as_text, check_start, read_json_lines, read_table

#: Rows, each column -> text and ``line`` -> its place; and the columns.
Cells = tuple[list[dict[str, str]], list[str]]
#: Files that save_to_disk of Hugging Face datasets writes: of one split, and of several.
_DATASET, _DATASETS = "dataset_info.json", "dataset_dict.json"
#: File of a saved dataset with the names of its files.
_STATE = "state.json"
_REMEDY = "Write the data set again with save_to_disk"


def is_table(path: Path) -> bool:
    """Return whether a file or folder is read as a table, by its name and content.

    Example:
        >>> is_table(Path("a.CSV")), is_table(Path("a.parquet")), is_table(Path("a.npz"))
        (True, True, False)
    """
    if path.is_dir():
        is_saved = any((path / name).is_file() for name in (_DATASET, _DATASETS))
        return is_saved or any(_class_folders(path)) or any(map(_is_media, path.iterdir()))
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
            ``save_to_disk`` of Hugging Face datasets wrote; or a folder of media by class,
            ``FOLDER/class/file`` or ``FOLDER/split/class/file``, or without classes,
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
        return _read_dataset(path)
    return _read_classes(path)


def _read_parquet(path: Path) -> Cells:
    import pyarrow
    import pyarrow.parquet

    check_regular_file(path)
    check_start(path)
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is no Parquet file: {reason_of(error, path)}") from error
    return _cells_of(table, str(path), {})


def _read_datasets(folder: Path) -> Cells:
    rows: list[dict[str, str]] = []
    columns: list[str] = []
    names = _read_json(folder / _DATASETS).get("splits") or []
    if not names:
        raise DataError(f"{folder / _DATASETS} names no splits. {_REMEDY}")
    for name in names:
        part, columns = _read_dataset(folder / Path(str(name)).name)
        if "split" in columns:
            raise DataError(f"{folder / str(name)}: the column 'split' contradicts the folders")
        rows += [{**row, "split": str(name), "line": f"{row['line']} of {name}"} for row in part]
    return rows, [*columns, "split"]


def _read_dataset(folder: Path) -> Cells:
    """Read a folder of Arrow files, with the names of its classes."""
    import pyarrow
    import pyarrow.ipc

    features = _read_json(folder / _DATASET).get("features") or {}
    entries = _read_json(folder / _STATE).get("_data_files") or []
    files = [str(entry["filename"]) for entry in entries if isinstance(entry, dict) and entry]
    if not files:
        raise DataError(f"{folder / _STATE} names no files. {_REMEDY}")
    tables = []
    for path in [folder / Path(name).name for name in files]:
        check_regular_file(path)
        try:
            with pyarrow.memory_map(str(path)) as source:
                tables.append(pyarrow.ipc.open_stream(source).read_all())
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path} is no Arrow file: {reason_of(error, path)}") from error
    names = {
        column: list(feature["names"])
        for column, entry in features.items()
        if isinstance(feature := _item_of(entry), dict)
        and feature.get("_type") == "ClassLabel"
        and "names" in feature
    }
    return _cells_of(pyarrow.concat_tables(tables), str(folder), names)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error, path)}. {_REMEDY}") from error
    return content if isinstance(content, dict) else {}


def _cells_of(table: Any, where: str, class_names: dict[str, list[str]]) -> Cells:
    """Return the cells of an Arrow table; numbers of classes become their names."""
    columns = [str(name) for name in table.column_names]
    if index := [name for name in columns if name.startswith("__index_level_")]:
        raise DataError(
            f"{where}: {index[0]!r} is the index of a pandas table. Write it with "
            "to_parquet(..., index=False)"
        )
    rows: list[dict[str, str]] = []
    for number, entry in enumerate(_entries(table, columns), start=1):
        row = {"line": str(number)}
        for name, value in entry.items():
            if name in class_names and isinstance(value, int):
                value = _name(value, class_names[name])
            elif name in class_names and isinstance(value, list):
                value = [_name(number, class_names[name]) for number in value]
            row[name] = as_text(value, f"{where}, row {number}: {name!r}")
        rows.append(row)
    return rows, columns


def _item_of(feature: Any) -> Any:
    """Return the feature of the items of a sequence, or the feature itself."""
    is_sequence = isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List")
    return feature.get("feature") if is_sequence else feature


def _name(number: int, names: list[str]) -> str:
    return names[number] if 0 <= number < len(names) else ""


def _entries(table: Any, columns: list[str]) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1024):
        values = [column.to_pylist() for column in batch.columns]
        for cells in zip(*values, strict=True):
            yield dict(zip(columns, cells, strict=True))


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
