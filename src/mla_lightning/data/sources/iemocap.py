"""IEMOCAP: pairs of actors in scripted and improvised conversations (Busso et al. 2008)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.food101 import tokens
from mla_lightning.data.sources.id_lists import IdLists, ListKind, read_lists
from mla_lightning.data.sources.texts import held, read_text, shown
from mla_lightning.data.splits import TEST, TRAIN, NamedSplit, stratified, with_validation
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.audio import LogMel
from mla_lightning.media.base import Extractor, FileInput, MediaInput, TextInput
from mla_lightning.media.image import Image
from mla_lightning.media.portrait import Portrait, SideInput

#: Code of an emotion -> class; happy and excited are one, all other codes are left out.
EMOTIONS = {"ang": "Angry", "hap": "Happy", "exc": "Happy", "neu": "Neutral", "sad": "Sad"}
SESSIONS = ("1", "2", "3", "4", "5")
PICTURES = ("speaker", "whole")
#: Mean of the pixels (0 to 255) below which a face crop is a black square: no face was found.
BLACK = 1.0
_NAME = r"Ses0(?P<session>[1-5])(?P<marked>[FM])_(?P<scene>\w+)_(?P<speaker>[FM])(?P<turn>X*\d+)"
_EMOTION = re.compile(
    r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<id>\S+)\t(?P<code>\w+)\t\[.*\]"
)
_SAID = re.compile(r"(?P<id>Ses\S+) \[[\d.]+-[\d.]+\]: ?(?P<text>.*)")
_SIGN = " [split|sign] "


def _paper_line(line: str) -> tuple[str, str]:
    fields = line.split(_SIGN)
    if len(fields) < 3 or not fields[0].endswith(".mp4"):
        raise ValueError(
            "not of the form '<utterance>.mp4 [split|sign] <text> [split|sign] <label>'"
        )
    return fields[0].removesuffix(".mp4"), fields[-1].strip()


LISTS = (
    ListKind("paper", {"train": "my_train_iemo.txt", "test": "my_test_iemo.txt"}, _paper_line),
)


class IEMOCAP(Source):
    """IEMOCAP: 5,531 utterances of ten actors, audio + image + text, 4 emotions.

    ``audio``: (1024, 128) float16, log-mel of the utterance's wav. ``image``: (3, 256, 256) uint8,
    the frame in the middle of the utterance, the half of the picture where the speaker is: public
    code takes whatever file a listing has in the middle, the listener or a black square among them.
    Which half is inferred: the actor with the markers, whose letter is in the dialogue's name, is
    on the left. ``text``: (256,) int64 token ids of the transcript as it is.
    """

    name = "iemocap"
    class_names = ("Angry", "Happy", "Neutral", "Sad")
    modalities = ("audio", "image", "text")
    default_split = "session5"
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
        """Choose what is computed.

        Args:
            raw: The release.
            tokenizer: ``vocab.txt`` or model folder of WordPiece; the paper's is
                bert-base-uncased.
            hashed: Hashed words and trigrams instead, for networks from scratch.
            lists: Folder with MLA's ``my_train_iemo.txt`` and ``my_test_iemo.txt``: adds the split
                ``paper``.
            picture: The ``speaker``'s half of the frame, or the ``whole`` one.
            faces: Folder below raw with face crops ``<utterance>/<frame>_F.jpg`` and ``_M.jpg``, as
                GCNet's scripts make them: the speaker's crop in the middle is taken, black ones
                skipped, and no film is read.
            num_frames: Frames of 10 ms of the log-mel.
            length: Tokens kept of a transcript.
            image_size: Height and width of the stored images.

        Raises:
            ConfigError: If neither or both of ``tokenizer`` and ``hashed`` are given, or a value is
                unknown or would have no effect.
        """
        super().__init__(raw)
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
        self.text = tokens(tokenizer, hashed=hashed, length=length)
        self.faces = faces
        self.lists: list[IdLists] = read_lists(lists, LISTS) if lists else []
        self.left_out: dict[str, int] = {}
        self._labels: dict[str, str] = {}

    def items(self) -> list[Item]:
        """List the utterances of the four emotions.

        Returns:
            5,531 utterances of the whole release, sorted by name; :attr:`left_out` tells how many
            have which other code.

        Raises:
            DataError: If a session is missing, a line is broken, or an utterance has no transcript.
        """
        assert self.raw is not None
        self.left_out = {}
        items = []
        for session in SESSIONS:
            evaluations = Path(f"Session{session}", "dialog", "EmoEvaluation")
            dialogs = sorted((self.raw / evaluations).glob("[!.]*.txt"))
            if not dialogs:
                raise DataError(
                    f"{self.raw / evaluations} holds no .txt file; {self.raw} holds "
                    f"{held(self.raw)}. {self.how_to_get}"
                )
            for path in dialogs:
                items += self._dialog(session, path.relative_to(self.raw))
        self._labels = {item.id: item.label for item in items}
        return sorted(items, key=lambda item: item.id)

    def extractors(self) -> Mapping[str, Extractor]:
        """Tell how each modality is read."""
        return {"audio": self.audio, "image": self.image, "text": self.text}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide by session, at random, and by the lists that are given.

        Args:
            items: The utterances.

        Returns:
            ``session1`` to ``session5``, ``random`` (60/20/20) and ``paper``.
        """
        labels = [item.label for item in items]
        sessions = np.array([item.attributes["session"] for item in items])
        dialogs = [item.attributes["dialog"] for item in items]
        found = {}
        for session in SESSIONS:
            codes = np.where(sessions == session, TEST, TRAIN).astype(np.int8)
            if not (codes == TEST).any() or not (codes == TRAIN).any():
                continue
            found[f"session{session}"] = NamedSplit(
                with_validation(codes, labels, groups=dialogs),
                f"Session {session} is the test: no speaker is in train and test. Validation is "
                "about a tenth of the other sessions, whole dialogues.",
            )
        found["random"] = NamedSplit(
            stratified(labels, (0.6, 0.2, 0.2), seed=0),
            "Utterances at random, as in MLA's code: all speakers and dialogues are in all parts. "
            "MLA's own lists cannot be drawn again.",
        )
        for lists in self.lists:
            names = [item.id for item in items]
            found[lists.name] = lists.split(names, self._labels, rest_is_val=True)
        return found

    def options(self) -> dict[str, Any]:
        """Spell what changes the items, and how many utterances have other emotions."""
        lists = {lists.name: dict(lists.sha256) for lists in self.lists}
        return {
            "faces": self.faces,
            "lists": lists,
            "left_out": dict(sorted(self.left_out.items())),
        }

    def label_files(self) -> list[Path]:
        """Name the files of emotions and transcripts."""
        assert self.raw is not None
        return sorted(
            path.relative_to(self.raw)
            for session in SESSIONS
            for kind in ("EmoEvaluation", "transcriptions")
            for path in (self.raw / f"Session{session}" / "dialog" / kind).glob("[!.]*.txt")
        )

    def _dialog(self, session: str, evaluation: Path) -> list[Item]:
        """List the utterances of one dialogue."""
        assert self.raw is not None
        dialog = evaluation.stem
        said: dict[str, str] | None = None
        items = []
        text = read_text(self.raw, evaluation, "utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.startswith("["):
                continue  # the raters' own lines, and the head
            where = f"{self.raw / evaluation}, line {number}"
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
            said = self._transcript(session, dialog) if said is None else said
            if match["id"] not in said:
                raise DataError(f"{where}: {match['id']} has no line in the transcript of {dialog}")
            home = Path(f"Session{session}")
            wav = home / "sentences" / "wav" / dialog / f"{match['id']}.wav"
            stretch = float(match["start"]), float(match["end"])
            parts: dict[str, MediaInput] = {
                "audio": FileInput(wav),
                "image": self._picture(match["id"], name, home, dialog, stretch),
                "text": TextInput(said[match["id"]]),
            }
            about = {
                "session": session,
                "dialog": dialog,
                "speaker": f"{session}{name['speaker']}",
                "text": shown(said[match["id"]]),
            }
            items.append(Item(match["id"], EMOTIONS[match["code"]], parts, about))
        return items

    def _picture(
        self,
        id_: str,
        name: re.Match[str],
        home: Path,
        dialog: str,
        stretch: tuple[float, float],
    ) -> MediaInput:
        if self.faces is not None:
            return FileInput(self._face(id_, name["speaker"]))
        film = home / "dialog" / "avi" / "DivX" / f"{dialog}.avi"
        side: Literal["left", "right"] = "left" if name["speaker"] == name["marked"] else "right"
        return SideInput(film, *stretch, side)

    def _face(self, id_: str, speaker: str) -> Path:
        """Choose the speaker's face crop in the middle, of those that are not black."""
        from PIL import Image as pil

        assert self.raw is not None
        assert self.faces is not None
        folder = Path(self.faces, id_)
        crops = sorted((self.raw / folder).glob(f"*_{speaker}.jpg"))
        outward = sorted(range(len(crops)), key=lambda k: (abs(k - len(crops) // 2), k))
        for number in outward:
            with pil.open(crops[number]) as crop:
                if np.asarray(crop.convert("L")).mean() > BLACK:
                    return folder / crops[number].name
        return folder / f"000000_{speaker}.jpg" if not crops else folder / "no face but black crops"

    def _transcript(self, session: str, dialog: str) -> dict[str, str]:
        """Read who said what: utterance -> text."""
        assert self.raw is not None
        path = Path(f"Session{session}", "dialog", "transcriptions", f"{dialog}.txt")
        text = read_text(self.raw, path, "utf-8")
        matches = (_SAID.fullmatch(line.strip()) for line in text.splitlines())
        return {match["id"]: match["text"] for match in matches if match}
