"""Kinetics-Sounds: videos of 31 actions that are seen and heard (Arandjelovic, Zisserman 2017)."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from mla_lightning.data.sources.base import Item
from mla_lightning.data.sources.id_lists import ListFormat
from mla_lightning.data.sources.official import ClipSource, default_frames
from mla_lightning.data.sources.texts import read_text
from mla_lightning.data.splits import TEST, TRAIN, NamedSplit, with_validation
from mla_lightning.errors import DataError, near
from mla_lightning.media.audio import LogMel
from mla_lightning.media.base import FileInput
from mla_lightning.media.video import Frames

#: The classes by their present names in Kinetics-400, in the order of OGM's label numbers.
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
#: Folder in CVDF's copy with the clips that replace broken ones.
REPLACEMENTS = "replacement_for_corrupted_k400"
#: Form of the ids of YouTube; a spreadsheet that saves the table damages those with a sign.
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")


def _parse_ogm_line(line: str) -> tuple[str, str]:
    """Parse ``<clip>,10,<label number>`` with clip ``<id>_<start>_<end>`` or ``<id>_<start>``."""
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
LISTS = (
    ListFormat("ogm", {"train": "my_train.txt", "test": "my_test.txt"}, _parse_ogm_line, 0.01),
)


def clip_name(youtube_id: str, start_s: int, end_s: int) -> str:
    """Return the name of a clip's file in Kinetics."""
    return f"{youtube_id}_{start_s:06d}_{end_s:06d}"


class KineticsSounds(ClipSource):
    """Kinetics-Sounds: the videos of 31 of Kinetics-400's classes, audio + visual.

    ``audio``: (1024, 128) float16, log-mel of the video's audio. ``visual``: (9, 3, 256, 256)
    uint8, three frames of each third. All copies miss some videos that are no longer online: use
    on_bad=skip.
    """

    name = "kinetics_sounds"
    class_names = CLASSES
    modalities = ("audio", "visual")
    default_split = "kinetics"
    how_to_get: ClassVar[str] = (
        "Kinetics-400 as the CVDF foundation hosts it (rights stay with the uploaders): raw= holds "
        "train.csv and the labelled test.csv, or val.csv in its place, and the .mp4 clips in "
        "folders of any depth."
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
        """Set the options.

        Args:
            raw: The folder.
            lists: Folder with OGM's lists (``my_train.txt``, ``my_test.txt``): adds ``ogm``.
            num_frames: Number of frames of 10 ms of the log-mel.
            num_segments: Number of segments of a video; training uses a frame of each.
            frames_per_segment: Number of stored frames per segment; training draws one of them,
                evaluation uses the middle one; 3 by default, 1 with ``choice=released``.
            choice: ``centre`` of each segment, or ``released``, see :class:`Frames`.
            image_size: Height and width of the stored frames.

        Raises:
            ConfigError: If a value is unknown or would have no effect.
            DataError: If the lists are missing or broken.
        """
        self.audio = LogMel(num_frames=num_frames)
        per_segment = default_frames(frames_per_segment, choice)
        self.visual = Frames(num_segments, per_segment, image_size, choice)
        super().__init__(raw, lists, LISTS)

    def items(self) -> list[Item]:
        """List the clips of the two tables that are of one of the classes.

        Returns:
            The clips, sorted by name, also those whose videos are missing.

        Raises:
            DataError: If a table is missing, broken or without labels, or there is no video.
        """
        paths: dict[str, Path] = {}
        for path in sorted(self.folder.rglob("*.mp4")):
            relative = path.relative_to(self.folder)
            if path.stem not in paths or REPLACEMENTS in relative.parts:
                paths[path.stem] = relative
        if not paths:
            raise self.layout_error(f"{self.folder} holds no .mp4 file")
        items: dict[str, Item] = {}
        for split in ("train", self._test_table()):
            for number, name, label in self._rows(split):
                if name in items:
                    raise DataError(
                        f"{self.folder}: {name} is in two rows of the tables, the second in "
                        f"{split}.csv, line {number}"
                    )
                video = FileInput(paths.get(name, Path(split, f"{name}.mp4")))
                attributes = {"part": split, "video": name[:11]}
                items[name] = Item(name, label, {"audio": video, "visual": video}, attributes)
        self.labels = {name: item.label for name, item in items.items()}
        return [items[name] for name in sorted(items)]

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide like Kinetics-400, and by the lists of the user.

        Args:
            items: The clips.

        Returns:
            ``kinetics``: the test of Kinetics-400, or its validation if there is no labelled test,
            and a tenth of its train as validation; and ``ogm``.
        """
        codes = np.array([TRAIN if i.attributes["part"] == "train" else TEST for i in items])
        labels = [item.label for item in items]
        videos = [item.attributes["video"] for item in items]
        splits = {
            "kinetics": NamedSplit(
                with_validation(codes.astype(np.int8), labels, groups=videos),
                "Kinetics-400's training and test splits; validation is a tenth of train."
                if self._test_table() == "test"
                else "Kinetics-400's training split, and its validation split as test, because "
                "there is no test.csv with labels; validation is a tenth of train.",
            )
        }
        return splits | self.list_splits(items, groups=videos)

    def label_files(self) -> list[Path]:
        """Return the tables."""
        return [self._table("train"), self._table(self._test_table())]

    def _test_table(self) -> str:
        """Return ``test``, or ``val`` if only that table has labels."""
        for path in (Path("test.csv"), Path("annotations", "test.csv")):
            if (self.folder / path).is_file():
                lines = read_text(self.folder, path, "utf-8").splitlines()
                if not lines or "label" in lines[0]:
                    return "test"
        has_val = any(
            (self.folder / folder / "val.csv").is_file() for folder in ("", "annotations")
        )
        return "val" if has_val else "test"

    def _table(self, split: str) -> Path:
        for path in (Path(f"{split}.csv"), Path("annotations", f"{split}.csv")):
            if (self.folder / path).is_file():
                return path
        raise self.layout_error(f"{self.folder / f'{split}.csv'} does not exist")

    def _rows(self, split: str) -> list[tuple[int, str, str]]:
        """Read the rows of the 31 classes of a table: line, name of the clip, label."""
        table = self._table(split)
        reader = csv.DictReader(read_text(self.folder, table, "utf-8").splitlines())
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            hint = ""
            if missing == ["label"]:
                hint = " An early test.csv has no labels: use the one with labels."
            raise DataError(
                f"{self.folder / table} has no column {missing[0]!r}."
                f"{near(missing[0], reader.fieldnames or ())}{hint}"
            )
        rows = []
        for row in reader:
            where = f"{self.folder / table}, line {reader.line_num}"
            label = (row["label"] or "").strip().strip('"').replace("_", " ")
            if not label:
                raise DataError(f"{where}: the label is empty")
            if label not in CLASSES:
                continue
            if not _YOUTUBE_ID.fullmatch(row["youtube_id"] or ""):
                raise DataError(
                    f"{where}: youtube_id {row['youtube_id']!r} is not one of 11 letters, digits, "
                    "_ and -. Use the table as it was downloaded"
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
            raise DataError(f"{self.folder / table} has no row of a class such as {CLASSES[0]!r}")
        return rows
