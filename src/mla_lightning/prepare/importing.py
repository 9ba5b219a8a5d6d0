"""Import of the user's own data into a store: a CSV file with paths and texts, or arrays."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.splits import (
    SPLITS,
    VAL,
    NamedSplit,
    from_lists,
    stratified,
    with_validation,
)
from mla_lightning.data.store import write_store
from mla_lightning.errors import DataError, near
from mla_lightning.media.base import Extractor, FileInput, MediaInput, TextInput

#: Suffixes of image, audio and video files.
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
AUDIO = (".wav", ".flac", ".ogg", ".mp3")
VIDEOS = (".mp4", ".flv", ".avi", ".mkv", ".mov", ".webm")
#: Fractions of train, val and test if the data have no split.
FRACTIONS = (0.7, 0.1, 0.2)
RESERVED = ("id", "label", "split", "class_names", "line")
NO_SPLIT = "70/10/20 at random within each class (seed 0); the data came without a split"


class Table(Source):
    """A CSV file with the columns id, label, split (optional) and one per modality.

    A cell of a modality is the path of an image, audio or video file, relative to the CSV file, or
    a text. If the cell is empty, the modality is absent.
    """

    name = "table"
    modalities: ClassVar[tuple[str, ...]] = ()
    how_to_get = "A file of your own."
    default_split = "own"

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        size: int = 224,
        num_frames: int = 1024,
        length: int = 64,
        tokenizer: Path | None = None,
    ) -> None:
        """Read and check the file; no media is opened.

        Args:
            path: The CSV file; in a ``.tsv`` file tabs separate the columns.
            name: Name of the data set.
            size: Height and width of images and frames, in pixels.
            num_frames: Number of frames of 10 ms of audio.
            length: Number of token ids of a text.
            tokenizer: ``vocab.txt`` or a model folder for WordPiece; None for hashed tokens.

        Raises:
            DataError: If columns are wrong, an id occurs twice, a split is unknown, a file is
                missing, or there is only one class; the message has the line.
        """
        super().__init__(path.parent)
        self.name, self.path = name, path  # type: ignore[misc]
        self.size, self.num_frames = size, num_frames
        self.length, self.tokenizer = length, tokenizer
        self.rows, columns = _read_rows(path)
        self.modalities = tuple(c for c in columns if c not in ("id", "label", "split"))  # type: ignore[misc]
        if not self.modalities:
            raise DataError(f"{path} has no column of a modality beside {', '.join(columns)}")
        self.class_names = _class_names([row["label"] for row in self.rows], str(path))
        if "split" in columns:
            _check_splits({row["split"] for row in self.rows}, str(path))
        self.kinds = {name: self._kind(name) for name in self.modalities}

    def items(self) -> list[Item]:
        """List the samples."""
        items = []
        for row in self.rows:
            inputs: dict[str, MediaInput] = {}
            texts: dict[str, str] = {}
            for modality, kind in self.kinds.items():
                if cell := row[modality]:
                    inputs[modality] = TextInput(cell) if kind == "text" else FileInput(Path(cell))
                    texts |= {modality: cell} if kind == "text" else {}
            items.append(Item(row["id"], row["label"], inputs, texts))
        return sorted(items, key=lambda item: item.id)

    def extractors(self) -> Mapping[str, Extractor]:
        """Return an extractor per modality, chosen by the suffixes of its files."""
        from mla_lightning.media.audio import LogMel
        from mla_lightning.media.image import Image
        from mla_lightning.media.text import Tokens
        from mla_lightning.media.video import Frames

        make: dict[str, Any] = {
            "image": lambda: Image(size=self.size),
            "audio": lambda: LogMel(num_frames=self.num_frames),
            "video": lambda: Frames(size=self.size),
            "text": lambda: Tokens(tokenizer=self.tokenizer, length=self.length),
        }
        return {modality: make[kind]() for modality, kind in self.kinds.items()}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Return the split of the column ``split``, or a random one within each class."""
        labels = [item.label for item in items]
        if "split" not in self.rows[0]:
            return {"own": NamedSplit(stratified(labels, FRACTIONS, seed=0), NO_SPLIT)}
        ids = {item.id: None for item in items}  # of the readable items, in order
        lists = {
            split: [r["id"] for r in self.rows if r["split"] == split and r["id"] in ids]
            for split in SPLITS
        }
        codes = from_lists(list(ids), lists, str(self.path))
        description = f"the column split of {self.path.name}"
        return {"own": _with_validation(codes, labels, description)}

    def options(self) -> dict[str, Any]:
        """Return what changes the items: only the file."""
        return {"path": self.path.name}

    def _kind(self, modality: str) -> str:
        first_lines: dict[str, int] = {}  # kind -> line
        for row in self.rows:
            if not (cell := row[modality]):
                continue
            suffix = Path(cell).suffix.lower()
            kind = "text"
            for name, suffixes in (("image", IMAGES), ("audio", AUDIO), ("video", VIDEOS)):
                kind = name if suffix in suffixes else kind
            if kind != "text" and not (self.path.parent / cell).is_file():
                raise DataError(
                    f"{self.path}, line {row['line']}: there is no file {self.path.parent / cell}"
                )
            first_lines.setdefault(kind, int(row["line"]))
        if not first_lines:
            raise DataError(f"{self.path}: the column {modality!r} is empty")
        if len(first_lines) > 1:
            listed = ", ".join(f"{kind} in line {line}" for kind, line in first_lines.items())
            raise DataError(
                f"{self.path}: the column {modality!r} holds different kinds of cells: {listed}"
            )
        return next(iter(first_lines))


def import_csv(
    path: Path,
    target: Path,
    *,
    name: str | None = None,
    size: int = 224,
    num_frames: int = 1024,
    length: int = 64,
    tokenizer: Path | None = None,
    on_bad: str = "stop",
    jobs: int | None = None,
) -> Path:
    """Make a store from a CSV file; see :class:`Table`.

    Args:
        path: The file.
        target: Folder of the store; must not exist.
        name: Name of the data set; the target's by default.
        size: Height and width of images and frames, in pixels.
        num_frames: Number of frames of 10 ms of audio.
        length: Number of token ids of a text.
        tokenizer: ``vocab.txt`` or a model folder for WordPiece; None for hashed tokens.
        on_bad: ``stop`` if files cannot be read, or ``skip`` their samples.
        jobs: Number of processes; None for one per core.

    Returns:
        The target.

    Raises:
        DataError: If the file is wrong, or a file that it names cannot be read.
    """
    from mla_lightning.prepare.engine import prepare

    table = Table(
        path,
        name=name or target.name,
        size=size,
        num_frames=num_frames,
        length=length,
        tokenizer=tokenizer,
    )
    return prepare(table, target, on_bad=on_bad, jobs=jobs)


def import_arrays(path: Path, target: Path, *, name: str | None = None) -> Path:
    """Make a store from arrays: ``label``, one per modality, and optional ones.

    The optional arrays are ``id``, ``split`` and ``class_names``.

    Args:
        path: An ``.npz`` file, or a folder of ``.npy`` files.
        target: Folder of the store; must not exist.
        name: Name of the data set; the target's by default.

    Returns:
        The target.

    Raises:
        DataError: If there is no ``label`` or modality, lengths differ, a split is unknown, or for
            the reasons of :func:`~mla_lightning.data.store.finish_store`.
    """
    arrays = _read_arrays(path)
    _check_names(list(arrays), str(path), known=("id", "label", "split", "class_names"))
    if "label" not in arrays:
        raise DataError(f"{path} has no array 'label'.{near('label', arrays)}")
    label = arrays.pop("label")
    ids = arrays.pop("id", None)
    split = arrays.pop("split", None)
    class_names = arrays.pop("class_names", None)
    if not arrays:
        raise DataError(f"{path} has no array of a modality beside label, id and split")
    if label.ndim != 1 or label.dtype.kind not in ("iu" if class_names is not None else "iuU"):
        raise DataError(
            f"{path}: 'label' is {label.dtype} of shape {label.shape}. It must be (N,) whole "
            f"numbers{'' if class_names is not None else ' or names'}, one per sample."
        )
    labels = [str(value) for value in label.tolist()]
    if class_names is None:
        names = _class_names(labels, str(path), is_numeric=label.dtype.kind in "iu")
        numbers = [names.index(text) for text in labels]
    else:
        names = tuple(map(str, class_names.tolist()))
        numbers = [int(value) for value in label.tolist()]
    width = len(str(len(label)))
    all_ids = [f"{n:0{width}d}" for n in range(len(label))] if ids is None else ids.astype(str)
    floats = {name: values for name, values in arrays.items() if values.dtype.kind == "f"}
    arrays |= {name: values.astype(np.float32) for name, values in floats.items()}
    arrays |= {m: v.astype(np.int64) for m, v in arrays.items() if v.dtype.kind == "i"}
    kinds = {name: _kind_of(name, values, str(path)) for name, values in arrays.items()}
    if split is None:
        named_split = NamedSplit(stratified(labels, FRACTIONS, seed=0), NO_SPLIT)
    else:
        codes = _codes(split, str(path))
        present = [name for code, name in enumerate(SPLITS) if (codes == code).any()]
        _check_splits(present, str(path))
        named_split = _with_validation(codes, labels, f"the array split of {path.name}")
    write_store(
        target,
        name=name or target.name,
        class_names=names,
        ids=list(all_ids),
        label=numbers,
        arrays=arrays,
        kinds=kinds,
        splits={"own": named_split},
    )
    return target


# ---------------------------------------------------------------------- functions


def _read_rows(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            columns = list(reader.fieldnames or ())
            rows = []
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    raise DataError(f"{path}, line {line}: not {len(columns)} cells, as the header")
                cells = {key: (value or "").strip() for key, value in row.items()}
                rows.append({**cells, "line": str(line)})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    _check_names(columns, str(path), known=("id", "label", "split"))
    for name in ("id", "label"):
        if name not in columns:
            raise DataError(
                f"{path} has no column {name!r}.{near(name, columns)} It has: "
                f"{', '.join(columns) or 'nothing'}. Needed: id, label, one column per modality, "
                "and split if there is one."
            )
    if not rows:
        raise DataError(f"{path} has no rows")
    first: dict[str, str] = {}
    for row in rows:
        if not row["id"] or not row["label"]:
            raise DataError(f"{path}, line {row['line']}: id or label is empty")
        if row["id"] in first:
            raise DataError(
                f"{path}, line {row['line']}: the id {row['id']!r} was in line {first[row['id']]}"
            )
        first[row["id"]] = row["line"]
        if "split" in columns and row["split"] not in SPLITS:
            raise DataError(
                f"{path}, line {row['line']}: the split {row['split']!r} is unknown."
                f"{near(row['split'], SPLITS)} Known: {', '.join(SPLITS)}."
            )
    return rows, columns


def _check_splits(present: Collection[str], where: str) -> None:
    """Check that there are training and test samples, before anything is decoded."""
    for split in ("train", "test"):
        if split not in present:
            raise DataError(
                f"{where}: no sample of split {split!r}, only {', '.join(sorted(present))}. Name "
                "train and test (and val, or a tenth of train becomes val), or leave out split"
            )


def _with_validation(codes: np.ndarray, labels: Sequence[str], description: str) -> NamedSplit:
    """Use a tenth of train for validation if the data have none: epochs are selected on it."""
    if (codes == VAL).any():
        return NamedSplit(codes, description)
    description += "; validation is a tenth of train, at random within each class (seed 0)"
    return NamedSplit(with_validation(codes, labels), description)


def _check_names(names: Sequence[str], where: str, *, known: Sequence[str]) -> None:
    """Check that names occur once, are not reserved, and can be names of files."""
    for number, name in enumerate(names):
        problem = ""
        if name in names[:number]:
            problem = "occurs twice"
        elif name not in known and name.lower() in RESERVED:
            problem = f"cannot be the name of a modality.{near(name.lower(), known)}"
        elif name not in known and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
            problem = "cannot be the name of a modality: use letters, digits, _ and -"
        if problem:
            raise DataError(f"{where}: {name!r} {problem}")


def _kind_of(name: str, values: np.ndarray, where: str) -> str:
    """Return the kind of an array by its type and shape."""
    kind, shape = values.dtype.kind, values.shape[1:]
    if kind == "f" and len(shape) == 1 and shape[0] > 0:
        return "features"
    if kind == "f" and len(shape) == 2:
        return "spectrogram"
    if kind == "i" and len(shape) == 1:
        if values.min(initial=0) < 0:
            raise DataError(f"{where}: {name!r} holds token ids below 0; 0 is padding")
        return "tokens"
    if values.dtype == np.uint8 and len(shape) == 3 and shape[0] in (1, 3):
        return "image"
    if values.dtype == np.uint8 and len(shape) == 4 and shape[1] == 3:
        return "frames"
    raise DataError(
        f"{where}: {name!r} is {values.dtype} of shape {values.shape}. Allowed are float (N, D) "
        "features, float (N, T, F) spectrograms, int (N, L) tokens, uint8 (N, 3, H, W) images and "
        "uint8 (N, T, 3, H, W) frames."
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.is_dir():
            return {p.stem: np.load(p, allow_pickle=False) for p in sorted(path.glob("*.npy"))}
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as arrays: {error}") from error


def _class_names(labels: Sequence[str], where: str, *, is_numeric: bool = False) -> tuple[str, ...]:
    counts = Counter(labels)
    if len(counts) < 2:
        raise DataError(f"{where}: only one class, {next(iter(counts), 'none')!r}")
    return tuple(sorted(counts, key=int if is_numeric else None))


def _codes(split: np.ndarray, where: str) -> np.ndarray:
    if split.dtype.kind in "iu":
        unknown = np.flatnonzero(~np.isin(split, (-1, 0, 1, 2)))
        if len(unknown):
            row = unknown[0]
            raise DataError(
                f"{where}, row {row}: the split {split[row]} is unknown. Known: 0 train, 1 val, "
                "2 test, -1 unused."
            )
        return split.astype(np.int8)
    for row, value in enumerate(split.tolist()):
        if value not in SPLITS:
            raise DataError(
                f"{where}, row {row}: the split {value!r} is unknown.{near(str(value), SPLITS)} "
                f"Known: {', '.join(SPLITS)}."
            )
    return np.array([SPLITS.index(value) for value in split.tolist()], dtype=np.int8)
