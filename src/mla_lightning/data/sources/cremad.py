"""CREMA-D: actors speak twelve sentences in six emotions (Cao et al. 2014)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from mla_lightning.data.sources.base import Item
from mla_lightning.data.sources.id_lists import ListFormat, separated_by
from mla_lightning.data.sources.official import ClipSource, default_frames
from mla_lightning.data.splits import NamedSplit, grouped, stratified
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.audio import LogMel, Stft
from mla_lightning.media.base import FileInput
from mla_lightning.media.video import Frames

AUDIO_FOLDER, VIDEO_FOLDER = Path("AudioWAV"), Path("VideoFlash")
#: Third field of a clip's name -> class.
EMOTIONS = {
    "ANG": "Anger",
    "DIS": "Disgust",
    "FEA": "Fear",
    "HAP": "Happy",
    "NEU": "Neutral",
    "SAD": "Sad",
}
_NAME = re.compile(
    r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]{2})"
)
FEATURES = ("fbank", "stft")


def _parse_ogm_line(line: str) -> tuple[str, str]:
    clip, is_separated, code = line.lstrip("\ufeff").partition(",")
    if not is_separated or code.strip() not in EMOTIONS:
        raise ValueError("not of the form '<clip>,<code>' with a code such as NEU")
    return clip, EMOTIONS[code.strip()]


LISTS = (
    ListFormat(
        "paper",
        {"train": "my_train_cre.txt", "test": "my_test_cre.txt"},
        separated_by(".flv "),
    ),
    ListFormat("ogm", {"train": "train.csv", "test": "test.csv"}, _parse_ogm_line),
)


class CREMAD(ClipSource):
    """CREMA-D: 7,442 clips of 91 actors, audio + visual, 6 intended emotions.

    ``audio``: (1024, 128) float16, log-mel of the wav file; or (257, 188), the STFT of OGM's code.
    ``visual``: (9, 3, 256, 256) uint8, three frames of each third of the flv file.
    """

    name = "cremad"
    class_names = tuple(EMOTIONS.values())
    modalities = ("audio", "visual")
    default_split = "actor"
    how_to_get: ClassVar[str] = (
        "The official Git repository CREMA-D (CheyneyComputerScience, ODbL) with its large files "
        "(git lfs pull); raw= is its folder, with AudioWAV and VideoFlash in it."
    )
    known_bad: ClassVar[Mapping[str, str]] = {
        "1076_MTI_NEU_XX": "the makers: film too short, without sound",
        "1076_MTI_SAD_XX": "the makers: film too short, wav without sound",
        "1064_TIE_SAD_XX": "the makers: film without duration",
        "1064_IEO_DIS_MD": "the makers: film of a minute",
    }

    def __init__(
        self,
        raw: Path,
        lists: Path | None = None,
        features: Literal["fbank", "stft"] = "fbank",
        num_frames: int = 1024,
        num_segments: int = 3,
        frames_per_segment: int | None = None,
        choice: Literal["centre", "released"] = "centre",
        image_size: int = 256,
    ) -> None:
        """Set the options.

        Args:
            raw: The repository.
            lists: Folder with MLA's lists (``my_train_cre.txt``, ``my_test_cre.txt``) or OGM's
                (``train.csv``, ``test.csv``): adds the splits ``paper`` and ``ogm``.
            features: ``fbank`` (log-mel, MLA) or ``stft`` (OGM).
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
        if features not in FEATURES:
            raise ConfigError(
                f"features {features!r} is unknown.{near(features, FEATURES)} "
                f"Known: {', '.join(FEATURES)}."
            )
        if features == "stft" and num_frames != 1024:
            raise ConfigError("num_frames has no effect with features=stft")
        self.audio = LogMel(num_frames=num_frames) if features == "fbank" else Stft("ogm_cremad")
        per_segment = default_frames(frames_per_segment, choice)
        self.visual = Frames(num_segments, per_segment, image_size, choice)
        super().__init__(raw, lists, LISTS)

    def items(self) -> list[Item]:
        """List the clips that have a wav or an flv file.

        Returns:
            7,442 clips of the complete data set, sorted by name.

        Raises:
            DataError: If a folder is missing or empty, or a name is not of the official form.
        """
        names: set[str] = set()
        for subfolder, suffix in ((AUDIO_FOLDER, ".wav"), (VIDEO_FOLDER, ".flv")):
            paths = list((self.folder / subfolder).glob(f"[!.]*{suffix}"))
            if not paths:
                raise self.layout_error(f"{self.folder / subfolder} holds no {suffix} file")
            names |= {path.stem for path in paths}
        items = []
        for name in sorted(names):
            match = _NAME.fullmatch(name)
            if match is None or match["emotion"] not in EMOTIONS:
                raise DataError(
                    f"{self.folder}: {name!r} is no name of a clip such as 1001_DFA_ANG_XX (actor, "
                    "sentence, emotion, level). Move away files that are not of CREMA-D."
                )
            inputs = {
                "audio": FileInput(AUDIO_FOLDER / f"{name}.wav"),
                "visual": FileInput(VIDEO_FOLDER / f"{name}.flv"),
            }
            attributes = {key: match[key] for key in ("actor", "sentence", "level")}
            items.append(Item(name, EMOTIONS[match["emotion"]], inputs, attributes))
        self.labels = {item.id: item.label for item in items}
        return items

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide by actor, at random, and by the lists of the user.

        Args:
            items: The clips.

        Returns:
            ``actor`` (70/10/20), ``random`` (81/9/10), and ``paper`` or ``ogm``.
        """
        labels = [item.label for item in items]
        actors = [item.attributes["actor"] for item in items]
        splits = {
            "actor": NamedSplit(
                grouped(labels, actors, (0.7, 0.1, 0.2), seed=0),
                "No actor is in two of train, val and test; drawn by this project, not published.",
                "actor",
            ),
            "random": NamedSplit(
                stratified(labels, (0.81, 0.09, 0.1), seed=0),
                "A tenth of each class is the test split, drawn at random as in MLA's code: all "
                "actors are in train, val and test. MLA's own lists cannot be redrawn.",
            ),
        }
        return splits | self.list_splits(items)
