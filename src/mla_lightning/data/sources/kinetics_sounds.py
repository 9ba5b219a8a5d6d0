"""Kinetics-Sounds: films of 31 actions seen and heard (Arandjelovic, Zisserman 2017)."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.id_lists import IdLists, ListKind, read_lists
from mla_lightning.data.sources.texts import held, read_text
from mla_lightning.data.splits import TEST, TRAIN, NamedSplit, with_validation
from mla_lightning.errors import DataError, near
from mla_lightning.media.audio import LogMel
from mla_lightning.media.base import Extractor, FileInput
from mla_lightning.media.video import Frames

#: The classes as Kinetics-400 names them today, in the order of OGM's label numbers.
CLASSES = (
    *("blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball"),
    *("laughing", "mowing lawn", "playing accordion", "playing bagpipes", "playing bass guitar"),
    *("playing clarinet", "playing drums", "playing guitar", "playing harmonica"),
    *("playing keyboard", "playing organ", "playing piano", "playing saxophone"),
    *("playing trombone", "playing trumpet", "playing violin", "playing xylophone"),
    *("ripping paper", "shoveling snow", "shuffling cards", "singing", "stomping grapes"),
    *("tap dancing", "tapping guitar", "tapping pen", "tickling"),
)
COLUMNS = ("label", "youtube_id", "time_start", "time_end")
#: Folder of the clips that replace broken ones in CVDF's copy.
REPLACEMENTS = "replacement_for_corrupted_k400"
#: What all ids of YouTube look like; a spreadsheet that saves the table spoils those with a sign.
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")


def _ogm_line(line: str) -> tuple[str, str]:
    """Read ``<clip>,10,<label number>``; the clip is ``<id>_<start>_<end>`` or ``<id>_<start>``."""
    fields = line.split(",")
    if len(fields) != 3 or not fields[2].strip().isdigit() or int(fields[2]) >= len(CLASSES):
        raise ValueError("not of the form '<clip>,10,<label number from 0 to 30>'")
    match = re.fullmatch(r"(.{11})_(\d{6})_(\d{6})|(.{11})_(\d+)", fields[0].strip())
    if match is None:
        raise ValueError("not of a clip such as AAAAAAAAAAA_000010_000020 or AAAAAAAAAAA_10")
    if match[1]:
        clip, start, end = match[1], int(match[2]), int(match[3])
    else:
        clip, start, end = match[4], int(match[5]), int(match[5]) + 10
    return clip_name(clip, start, end), CLASSES[int(fields[2])]


#: 3 of the 2,597 clips of OGM's test list are in no table of Kinetics-400.
LISTS = (ListKind("ogm", {"train": "my_train.txt", "test": "my_test.txt"}, _ogm_line, 0.01),)


def clip_name(youtube_id: str, start_s: int, end_s: int) -> str:
    """Name a clip as Kinetics' files are named."""
    return f"{youtube_id}_{start_s:06d}_{end_s:06d}"


class KineticsSounds(Source):
    """Kinetics-Sounds: the films of 31 of Kinetics-400's classes, audio + visual.

    ``audio``: (1024, 128) float16, log-mel of the film's sound. ``visual``: (9, 3, 256, 256) uint8,
    three frames of each third. Films that are on no server any more are missing from every copy:
    on_bad=skip.
    """

    name = "kinetics_sounds"
    class_names = CLASSES
    modalities = ("audio", "visual")
    default_split = "kinetics"
    how_to_get: ClassVar[str] = (
        "Kinetics-400 as the CVDF foundation hosts it (rights stay with the uploaders): raw= holds "
        "train.csv and the labelled test.csv, and the .mp4 clips in folders of any depth."
    )

    def __init__(
        self,
        raw: Path,
        lists: Path | None = None,
        num_frames: int = 1024,
        num_segments: int = 3,
        frames_per_segment: int | None = None,
        choice: Literal["centre", "released"] = "centre",
        image_size: int = 256,
    ) -> None:
        """Choose what is computed.

        Args:
            raw: The folder.
            lists: Folder with OGM's lists (``my_train.txt``, ``my_test.txt``): adds ``ogm``.
            num_frames: Frames of 10 ms of the log-mel.
            num_segments: Segments of a film that give a frame each.
            frames_per_segment: Frames stored of each, of which training takes one at random and
                evaluation the middle one; 3 by default, 1 with ``choice=released``.
            choice: ``centre`` of each segment, or ``released``, see :class:`Frames`.
            image_size: Height and width of the stored frames.

        Raises:
            ConfigError: If a value is unknown or would have no effect.
            DataError: If the lists are missing or broken.
        """
        super().__init__(raw)
        self.audio = LogMel(num_frames=num_frames)
        each = frames_per_segment
        if each is None:
            each = 1 if choice == "released" else 3
        self.visual = Frames(num_segments, each, image_size, choice)
        self.lists: list[IdLists] = read_lists(lists, LISTS) if lists else []
        self._labels: dict[str, str] = {}

    def items(self) -> list[Item]:
        """List the clips of the two tables that are of one of the classes.

        Returns:
            The clips, sorted by name, whether their films are there or not.

        Raises:
            DataError: If a table is missing, broken, without labels, or no film is there.
        """
        assert self.raw is not None
        films: dict[str, Path] = {}
        for path in sorted(self.raw.rglob("*.mp4")):
            place = path.relative_to(self.raw)
            if path.stem not in films or REPLACEMENTS in place.parts:
                films[path.stem] = place
        if not films:
            raise DataError(
                f"{self.raw} holds no .mp4 file; it holds {held(self.raw)}. {self.how_to_get}"
            )
        found: dict[str, Item] = {}
        for part in ("train", "test"):
            for number, name, label in self._rows(part):
                if name in found:
                    raise DataError(
                        f"{self.raw}: {name} is in two rows of the tables, the second in "
                        f"{part}.csv, line {number}"
                    )
                film = FileInput(films.get(name, Path(part, f"{name}.mp4")))
                about = {"part": part, "video": name[:11]}
                found[name] = Item(name, label, {"audio": film, "visual": film}, about)
        self._labels = {name: item.label for name, item in found.items()}
        return [found[name] for name in sorted(found)]

    def extractors(self) -> Mapping[str, Extractor]:
        """Tell how each modality is read."""
        return {"audio": self.audio, "visual": self.visual}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide as Kinetics-400 is divided, and by the lists that are given.

        Args:
            items: The clips.

        Returns:
            ``kinetics``: its test part is the test, a tenth of its training part is validation;
            and ``ogm``.
        """
        codes = np.array([TRAIN if i.attributes["part"] == "train" else TEST for i in items])
        labels = [item.label for item in items]
        videos = [item.attributes["video"] for item in items]
        found = {
            "kinetics": NamedSplit(
                with_validation(codes.astype(np.int8), labels, groups=videos),
                "Kinetics-400's training and test parts; validation is a tenth of train.",
            )
        }
        known = self._labels or {item.id: item.label for item in items}
        for lists in self.lists:
            ids = [item.id for item in items]
            found[lists.name] = lists.split(ids, known, groups=videos)
        return found

    def options(self) -> dict[str, Any]:
        """Spell the lists, by their content."""
        return {"lists": {lists.name: dict(lists.sha256) for lists in self.lists}}

    def label_files(self) -> list[Path]:
        """Name the tables."""
        return [self._table("train"), self._table("test")]

    def _table(self, part: str) -> Path:
        assert self.raw is not None
        for place in (Path(f"{part}.csv"), Path("annotations", f"{part}.csv")):
            if (self.raw / place).is_file():
                return place
        raise DataError(
            f"{self.raw / f'{part}.csv'} does not exist; {self.raw} holds {held(self.raw)}. "
            f"{self.how_to_get}"
        )

    def _rows(self, part: str) -> list[tuple[int, str, str]]:
        """Read a table: number of the line, name of the clip, label, of the 31 classes."""
        assert self.raw is not None
        table = self._table(part)
        reader = csv.DictReader(read_text(self.raw, table, "utf-8").splitlines())
        if lacking := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            more = ""
            if lacking == ["label"]:
                more = " An early test.csv has no labels: take the one with labels."
            raise DataError(
                f"{self.raw / table} lacks the column {lacking[0]!r}."
                f"{near(lacking[0], reader.fieldnames or ())}{more}"
            )
        rows = []
        for row in reader:
            where = f"{self.raw / table}, line {reader.line_num}"
            label = (row["label"] or "").strip().strip('"').replace("_", " ")
            if not label:
                raise DataError(f"{where}: the label is empty")
            if label not in CLASSES:
                continue
            if not _YOUTUBE_ID.fullmatch(row["youtube_id"] or ""):
                raise DataError(
                    f"{where}: youtube_id {row['youtube_id']!r} is not one of 11 letters, digits, "
                    "_ and -. Take the table as it was downloaded"
                )
            try:
                start, end = int(float(row["time_start"])), int(float(row["time_end"]))
            except (TypeError, ValueError, OverflowError) as error:
                raise DataError(
                    f"{where}: time_start {row['time_start']!r} and time_end "
                    f"{row['time_end']!r} must be seconds"
                ) from error
            rows.append((reader.line_num, clip_name(row["youtube_id"], start, end), label))
        if not rows:
            raise DataError(f"{self.raw / table} has no row of a class such as {CLASSES[0]!r}")
        return rows
