"""Import of a CSV file with paths of media and texts into a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.splits import SPLITS, NamedSplit, from_lists
from mla_lightning.errors import DataError, near
from mla_lightning.media.base import Extractor, FileInput, MediaInput, TextInput
from mla_lightning.prepare.import_checks import (
    NONE,
    Labels,
    check_names,
    check_splits,
    drawn_split,
    sorted_class_names,
    with_validation_split,
    without_split,
)
from mla_lightning.prepare.table_files import read_table

#: Suffixes of image, audio and video files.
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
AUDIO = (".wav", ".flac", ".ogg", ".mp3")
VIDEOS = (".mp4", ".flv", ".avi", ".mkv", ".mov", ".webm")


class Table(Source):
    """A CSV file with the columns id, label, split (optional) and one per modality.

    A cell of a modality is the path of an image, audio or video file, relative to the CSV file, or
    a text. If the cell is empty, the modality is absent.
    """

    name = "table"
    modalities: ClassVar[tuple[str, ...]] = ()
    how_to_get = "A file of your own."
    default_split = "own"
    stays_in_raw = False
    scale = "standard"

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        size: int = 224,
        num_frames: int = 1024,
        length: int = 64,
        tokenizer: Path | None = None,
        labels: Labels = "column",
    ) -> None:
        """Read and check the file; no media is opened.

        Args:
            path: The CSV file; in a ``.tsv`` file tabs separate the columns.
            name: Name of the data set.
            size: Height and width of images and frames, in pixels.
            num_frames: Number of frames of 10 ms of audio.
            length: Number of token ids of a text.
            tokenizer: ``vocab.txt`` or a model folder for WordPiece; None for hashed tokens.
            labels: ``none`` for samples whose class is to be predicted; then there is no column
                ``label`` and no ``split``.

        Raises:
            DataError: If columns are wrong, an id occurs twice, a split is unknown, a file is
                missing, or there is only one class; the message has the line.
        """
        super().__init__(path.parent)
        self.name, self.path = name, path  # type: ignore[misc]
        self.size, self.num_frames = size, num_frames
        self.length, self.tokenizer = length, tokenizer
        self.rows, columns = _read_rows(path, labels)
        self.modalities = tuple(c for c in columns if c not in ("id", "label", "split"))  # type: ignore[misc]
        if not self.modalities:
            raise DataError(f"{path} has no column of a modality beside {', '.join(columns)}")
        self.class_names: tuple[str, ...] = ()
        if labels == "none":
            self.default_split = NONE
        else:
            self.class_names = sorted_class_names([row["label"] for row in self.rows], str(path))
        if "split" in columns:
            check_splits({row["split"] for row in self.rows}, str(path))
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
            items.append(Item(row["id"], row.get("label", ""), inputs, texts))
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
        if not self.class_names:
            return {NONE: without_split(len(items))}
        labels = [item.label for item in items]
        if "split" not in self.rows[0]:
            return {"own": drawn_split(labels)}
        ids = {item.id: None for item in items}  # of the readable items, in order
        lists = {
            split: [r["id"] for r in self.rows if r["split"] == split and r["id"] in ids]
            for split in SPLITS
        }
        codes = from_lists(list(ids), lists, str(self.path))
        description = f"the column split of {self.path.name}"
        return {"own": with_validation_split(codes, labels, description)}

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
    labels: Labels = "column",
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
        labels: ``none`` for samples whose class is to be predicted; see :class:`Table`.
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
        labels=labels,
    )
    return prepare(table, target, on_bad=on_bad, jobs=jobs)


def _read_rows(path: Path, labels: Labels) -> tuple[list[dict[str, str]], list[str]]:
    rows, columns = read_table(path)
    check_names(columns, str(path), known=("id", "label", "split"))
    odd = [name for name in ("label", "split") if name in columns and labels == "none"]
    if odd:
        raise DataError(f"{path} has a column {odd[0]}; leave out labels=none to use it")
    for name in ("id", "label") if labels == "column" else ("id",):
        if name not in columns:
            more = " For samples whose class is to be predicted: labels=none" * (name == "label")
            raise DataError(
                f"{path} has no column {name!r}.{near(name, columns)} It has: "
                f"{', '.join(columns) or 'nothing'}. Needed: id, label, one column per modality, "
                f"and split if there is one.{more}"
            )
    if not rows:
        raise DataError(f"{path} has no rows")
    first: dict[str, str] = {}
    for row in rows:
        if not row["id"] or not row.get("label", "-"):
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
