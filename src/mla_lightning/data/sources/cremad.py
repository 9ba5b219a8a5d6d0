"""CREMA-D: actors say twelve sentences in six emotions (Cao et al. 2014)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.id_lists import IdLists, ListKind, read_lists, separated
from mla_lightning.data.sources.texts import held
from mla_lightning.data.splits import NamedSplit, grouped, stratified
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.audio import LogMel, Stft
from mla_lightning.media.base import Extractor, FileInput
from mla_lightning.media.video import Frames

SOUNDS, FILMS = Path("AudioWAV"), Path("VideoFlash")
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


def _ogm_line(line: str) -> tuple[str, str]:
    clip, found, code = line.lstrip("\ufeff").partition(",")
    if not found or code.strip() not in EMOTIONS:
        raise ValueError("not of the form '<clip>,<code>' with a code such as NEU")
    return clip, EMOTIONS[code.strip()]


LISTS = (
    ListKind(
        "paper",
        {"train": "my_train_cre.txt", "test": "my_test_cre.txt"},
        separated(".flv "),
    ),
    ListKind("ogm", {"train": "train.csv", "test": "test.csv"}, _ogm_line),
)


class CREMAD(Source):
    """CREMA-D: 7,442 clips of 91 actors, audio + visual, 6 intended emotions.

    ``audio``: (1024, 128) float16, log-mel of the wav file; or (257, 188), the STFT of OGM's code.
    ``visual``: (9, 3, 256, 256) uint8, three frames of each third of the flv film.
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
        """Choose what is computed.

        Args:
            raw: The repository.
            lists: Folder with MLA's lists (``my_train_cre.txt``, ``my_test_cre.txt``) or OGM's
                (``train.csv``, ``test.csv``): adds the splits ``paper`` and ``ogm``.
            features: ``fbank`` (log-mel, MLA) or ``stft`` (OGM).
            num_frames: Frames of 10 ms of the log-mel.
            num_segments: Segments of a film that give a frame each.
            frames_per_segment: Frames stored of each, of which training takes one at random and
                evaluation the middle one; 3 by default, 1 with ``choice=released``.
            choice: ``centre`` of each segment, or ``released``, see :class:`Frames`.
            image_size: Height and width of the stored frames.

        Raises:
            ConfigError: If a value is unknown or would have no effect.
        """
        super().__init__(raw)
        if features not in FEATURES:
            raise ConfigError(
                f"features {features!r} is unknown.{near(features, FEATURES)} "
                f"Known: {', '.join(FEATURES)}."
            )
        if features == "stft" and num_frames != 1024:
            raise ConfigError("num_frames has no effect with features=stft")
        self.audio = LogMel(num_frames=num_frames) if features == "fbank" else Stft("ogm_cremad")
        each = frames_per_segment
        if each is None:
            each = 1 if choice == "released" else 3
        self.visual = Frames(num_segments, each, image_size, choice)
        self.lists: list[IdLists] = read_lists(lists, LISTS) if lists else []
        self._labels: dict[str, str] = {}

    def items(self) -> list[Item]:
        """List the clips that have a wav or a film.

        Returns:
            7,442 clips of the whole distribution, sorted by name.

        Raises:
            DataError: If a folder is missing or empty, or a name is not of the official form.
        """
        assert self.raw is not None
        names: set[str] = set()
        for folder, suffix in ((SOUNDS, ".wav"), (FILMS, ".flv")):
            found = {path.stem for path in (self.raw / folder).glob(f"[!.]*{suffix}")}
            if not found:
                raise DataError(
                    f"{self.raw / folder} holds no {suffix} file; {self.raw} holds "
                    f"{held(self.raw)}. {self.how_to_get}"
                )
            names |= found
        items = []
        for name in sorted(names):
            match = _NAME.fullmatch(name)
            if match is None or match["emotion"] not in EMOTIONS:
                raise DataError(
                    f"{self.raw}: {name!r} is no name of a clip such as 1001_DFA_ANG_XX (actor, "
                    "sentence, emotion, level). Take files that are not CREMA-D's away."
                )
            parts = {
                "audio": FileInput(SOUNDS / f"{name}.wav"),
                "visual": FileInput(FILMS / f"{name}.flv"),
            }
            about = {key: match[key] for key in ("actor", "sentence", "level")}
            items.append(Item(name, EMOTIONS[match["emotion"]], parts, about))
        self._labels = {item.id: item.label for item in items}
        return items

    def extractors(self) -> Mapping[str, Extractor]:
        """Tell how each modality is read."""
        return {"audio": self.audio, "visual": self.visual}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide by actor, at random, and by the lists that are given.

        Args:
            items: The clips.

        Returns:
            ``actor`` (70/10/20), ``random`` (81/9/10), and ``paper`` or ``ogm``.
        """
        labels = [item.label for item in items]
        actors = [item.attributes["actor"] for item in items]
        found = {
            "actor": NamedSplit(
                grouped(labels, actors, (0.7, 0.1, 0.2), seed=0),
                "No actor is in two parts; drawn by this project, not a published split.",
                "actor",
            ),
            "random": NamedSplit(
                stratified(labels, (0.81, 0.09, 0.1), seed=0),
                "A tenth is the test, drawn at random as in MLA's code, but of each class: all "
                "actors are in all parts. MLA's own lists cannot be drawn again.",
            ),
        }
        known = self._labels or {item.id: item.label for item in items}
        for lists in self.lists:
            found[lists.name] = lists.split([item.id for item in items], known)
        return found

    def options(self) -> dict[str, Any]:
        """Spell the lists, by their content."""
        return {"lists": {lists.name: dict(lists.sha256) for lists in self.lists}}
