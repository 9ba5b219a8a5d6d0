"""IEMOCAP: scripted and improvised conversations of pairs of actors (Busso et al. 2008)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mla_lightning.data.sources.base import Item
from mla_lightning.data.sources.id_lists import ListFormat
from mla_lightning.data.sources.official import OfficialSource, text_extractor
from mla_lightning.data.sources.texts import read_text, shorten_text
from mla_lightning.data.splits import TEST, TRAIN, NamedSplit, stratified, with_validation
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.audio import LogMel
from mla_lightning.media.base import Extractor, FileInput, MediaInput, TextInput
from mla_lightning.media.image import Image
from mla_lightning.media.portrait import Portrait, SideInput

#: Code of an emotion -> class; happy and excited are one class, other codes are left out.
EMOTIONS = {"ang": "Angry", "hap": "Happy", "exc": "Happy", "neu": "Neutral", "sad": "Sad"}
SESSIONS = ("1", "2", "3", "4", "5")
PICTURES = ("speaker", "whole")
#: Mean of the pixels (0 to 255) below which a face crop is a black square without a face.
BLACK = 1.0
_NAME = r"Ses0(?P<session>[1-5])(?P<marked>[FM])_(?P<scene>\w+)_(?P<speaker>[FM])(?P<turn>X*\d+)"
_EMOTION = re.compile(
    r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<id>\S+)\t(?P<code>\w+)\t\[.*\]"
)
_TRANSCRIPT_LINE = re.compile(r"(?P<id>Ses\S+) \[[\d.]+-[\d.]+\]: ?(?P<text>.*)")
_SEPARATOR = " [split|sign] "


def _parse_paper_line(line: str) -> tuple[str, str]:
    fields = line.split(_SEPARATOR)
    if len(fields) < 3 or not fields[0].endswith(".mp4"):
        raise ValueError(
            "not of the form '<utterance>.mp4 [split|sign] <text> [split|sign] <label>'"
        )
    return fields[0].removesuffix(".mp4"), fields[-1].strip()


LISTS = (
    ListFormat(
        "paper", {"train": "my_train_iemo.txt", "test": "my_test_iemo.txt"}, _parse_paper_line
    ),
)


class IEMOCAP(OfficialSource):
    """IEMOCAP: 5,531 utterances of ten actors, audio + image + text, 4 emotions.

    ``audio``: (1024, 128) float16, log-mel of the utterance's wav. ``image``: (3, 256, 256) uint8,
    the half with the speaker of the frame in the middle of the utterance; released code uses the
    middle file of a listing, which may show the listener or a black square. The half is inferred:
    the actor with the markers, whose letter is in the dialogue's name, is on the left. ``text``:
    (256,) int64 token ids of the unchanged transcript.
    """

    name = "iemocap"
    class_names = ("Angry", "Happy", "Neutral", "Sad")
    modalities = ("audio", "image", "text")
    default_split = "session5"
    landmark = "Session1"
    how_to_get: ClassVar[str] = (
        "The release of USC's SAIL (free for research, after a signed form): raw= is its folder, "
        "with Session1 to Session5 in it."
    )

    def __init__(
        self,
        raw: Path,
        tokenizer: Path | None = None,
        hashed: bool = False,
        lists: Path | None = None,
        picture: Literal["speaker", "whole"] = "speaker",
        faces: str | None = None,
        num_frames: int = 1024,
        length: int = 256,
        image_size: int = 256,
    ) -> None:
        """Set the options.

        Args:
            raw: The release.
            tokenizer: ``vocab.txt`` or model folder of WordPiece; the paper's is
                bert-base-uncased.
            hashed: Whether to use hashed words and trigrams instead, for encoders from scratch.
            lists: Folder with MLA's ``my_train_iemo.txt`` and ``my_test_iemo.txt``: adds the split
                ``paper``.
            picture: The ``speaker``'s half of the frame, or the ``whole`` frame.
            faces: Folder below raw with face crops ``<utterance>/<frame>_F.jpg`` and ``_M.jpg``, as
                GCNet's scripts make them: the image is the speaker's middle crop that is not black,
                and no video is read.
            num_frames: Number of frames of 10 ms of the log-mel.
            length: Number of token ids per transcript.
            image_size: Height and width of the stored images.

        Raises:
            ConfigError: If neither or both of ``tokenizer`` and ``hashed`` are given, or a value is
                unknown or would have no effect.
            DataError: If the vocabulary or the lists are missing or broken.
        """
        if picture not in PICTURES:
            raise ConfigError(
                f"picture {picture!r} is unknown.{near(picture, PICTURES)} "
                f"Known: {', '.join(PICTURES)}."
            )
        if faces is not None and picture != "speaker":
            raise ConfigError("picture has no effect with faces; leave one of them out")
        self.audio = LogMel(num_frames=num_frames)
        self.image: Extractor = (
            Image(image_size) if faces else Portrait(image_size, whole=picture == "whole")
        )
        self.text = text_extractor(tokenizer, hashed=hashed, length=length)
        self.faces = faces
        super().__init__(raw, lists, LISTS)
        self.left_out: dict[str, int] = {}

    def items(self) -> list[Item]:
        """List the utterances of the four emotions.

        Returns:
            5,531 utterances of the complete release, sorted by name; :attr:`left_out` has the
            numbers of utterances with other codes.

        Raises:
            DataError: If a session is missing, a line is broken, or an utterance has no transcript.
        """
        self.left_out = {}
        items = []
        for session in SESSIONS:
            evaluations = self.folder / f"Session{session}" / "dialog" / "EmoEvaluation"
            paths = sorted(evaluations.glob("[!.]*.txt"))
            if not paths:
                raise self.layout_error(f"{evaluations} holds no .txt file")
            for path in paths:
                items += self._dialog(session, path.relative_to(self.folder))
        self.labels = {item.id: item.label for item in items}
        return sorted(items, key=lambda item: item.id)

    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractor of each modality."""
        return {"audio": self.audio, "image": self.image, "text": self.text}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide by session, at random, and by the lists of the user.

        Args:
            items: The utterances.

        Returns:
            ``session1`` to ``session5``, ``random`` (60/20/20) and ``paper``.
        """
        splits = session_splits(items)
        splits["random"] = NamedSplit(
            stratified([item.label for item in items], (0.6, 0.2, 0.2), seed=0),
            "Utterances at random, as in MLA's code: all speakers and dialogues are in all parts. "
            "MLA's own lists cannot be drawn again.",
        )
        return splits | self.list_splits(items, rest_is_val=True)

    def options(self) -> dict[str, Any]:
        """Return the options that change the items, and the numbers of utterances left out."""
        return {
            "faces": self.faces,
            **super().options(),
            "left_out": dict(sorted(self.left_out.items())),
        }

    def label_files(self) -> list[Path]:
        """Return the files of emotions and transcripts."""
        return sorted(
            path.relative_to(self.folder)
            for session in SESSIONS
            for kind in ("EmoEvaluation", "transcriptions")
            for path in (self.folder / f"Session{session}" / "dialog" / kind).glob("[!.]*.txt")
        )

    def _dialog(self, session: str, evaluation: Path) -> list[Item]:
        """List the utterances of one dialogue."""
        dialog = evaluation.stem
        transcript: dict[str, str] | None = None
        items = []
        text = read_text(self.folder, evaluation, "utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.startswith("["):
                continue  # a line of a single rater, or the header
            where = f"{self.folder / evaluation}, line {number}"
            match = _EMOTION.fullmatch(line.strip())
            name = re.fullmatch(_NAME, match["id"]) if match else None
            if match is None or name is None or name["session"] != session:
                raise DataError(
                    f"{where}: {line.strip()[:70]!r} is not of the form '[start - end]<tab>"
                    f"Ses0{session}F_impro01_F000<tab>neu<tab>[2.5, 2.5, 2.5]'"
                )
            if match["code"] not in EMOTIONS:
                self.left_out[match["code"]] = self.left_out.get(match["code"], 0) + 1
                continue
            id_ = match["id"]
            transcript = self._transcript(session, dialog) if transcript is None else transcript
            if id_ not in transcript:
                raise DataError(f"{where}: {id_} has no line in the transcript of {dialog}")
            wav = Path(f"Session{session}", "sentences", "wav", dialog, f"{id_}.wav")
            inputs: dict[str, MediaInput] = {
                "audio": FileInput(wav),
                "image": self._image(match, name, dialog),
                "text": TextInput(transcript[id_]),
            }
            attributes = {
                "session": session,
                "dialog": dialog,
                "speaker": f"{session}{name['speaker']}",
                "text": shorten_text(transcript[id_]),
            }
            items.append(Item(id_, EMOTIONS[match["code"]], inputs, attributes))
        return items

    def _image(self, match: re.Match[str], name: re.Match[str], dialog: str) -> MediaInput:
        """Return the face crop of an utterance, or its time range of the dialogue's video."""
        if self.faces is not None:
            return FileInput(self._face(match["id"], name["speaker"]))
        video = Path(f"Session{name['session']}", "dialog", "avi", "DivX", f"{dialog}.avi")
        side: Literal["left", "right"] = "left" if name["speaker"] == name["marked"] else "right"
        return SideInput(video, float(match["start"]), float(match["end"]), side)

    def _face(self, id_: str, speaker: str) -> Path:
        """Return the middle one of the speaker's face crops that are not black."""
        from PIL import Image as pil

        assert self.faces is not None
        folder = Path(self.faces, id_)
        crops = sorted((self.folder / folder).glob(f"*_{speaker}.jpg"))
        from_middle = sorted(range(len(crops)), key=lambda k: (abs(k - len(crops) // 2), k))
        for number in from_middle:
            with pil.open(crops[number]) as crop:
                if np.asarray(crop.convert("L")).mean() > BLACK:
                    return folder / crops[number].name
        return folder / f"000000_{speaker}.jpg" if not crops else folder / "no face but black crops"

    def _transcript(self, session: str, dialog: str) -> dict[str, str]:
        """Read a transcript: utterance -> text."""
        path = Path(f"Session{session}", "dialog", "transcriptions", f"{dialog}.txt")
        text = read_text(self.folder, path, "utf-8")
        matches = (_TRANSCRIPT_LINE.fullmatch(line.strip()) for line in text.splitlines())
        return {match["id"]: match["text"] for match in matches if match}


def session_splits(items: Sequence[Item]) -> dict[str, NamedSplit]:
    """Divide by session, with whole dialogues as validation.

    Args:
        items: Utterances with the attributes ``session`` and ``dialog``.

    Returns:
        ``session1`` to ``session5``, as far as both the session and others have utterances.
    """
    labels = [item.label for item in items]
    sessions = np.array([item.attributes["session"] for item in items])
    dialogs = [item.attributes["dialog"] for item in items]
    splits = {}
    for session in SESSIONS:
        codes = np.where(sessions == session, TEST, TRAIN).astype(np.int8)
        if not (codes == TEST).any() or not (codes == TRAIN).any():
            continue
        splits[f"session{session}"] = NamedSplit(
            with_validation(codes, labels, groups=dialogs),
            f"Session {session} is the test: no speaker is in train and test. Validation is "
            "about a tenth of the other sessions, whole dialogues.",
        )
    return splits
