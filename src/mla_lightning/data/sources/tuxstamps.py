"""Tux Paint's stamps: drawings and photographs, what they show spoken and written, 11 classes.

Debian's package tuxpaint-stamps-default 2022.06.04. The stamps are drawn, photographed, spoken and
translated by volunteers; the whole is under GPL-2+, single files are credited under GFDL, CC BY-SA
2.5 and 3.0, CC BY, CC Sampling Plus or the public domain, so nothing of it ships with this package.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.downloads import deb, wheel
from mla_lightning.data.splits import NamedSplit, grouped
from mla_lightning.errors import DataError
from mla_lightning.media.base import Extractor, FileInput, TextInput
from mla_lightning.media.drawing import Drawing
from mla_lightning.media.short_audio import ShortLogMel
from mla_lightning.media.text import Tokens

PACKAGE, RENDERER = "tuxpaint-stamps-default", "resvg-py==0.5.0"
STAMPS = Path("usr", "share", "tuxpaint", "stamps")
SPOKEN, WRITTEN = "_desc_fr.ogg", "fr.utf8="
#: SVG files whose size resvg cannot tell; they have no other picture.
UNDRAWN = frozenset(
    {
        "animals/insects/cartoon/ant",
        "animals/insects/cartoon/spider",
        "clothes/sunglasses_01",
        "clothes/sunglasses_02",
        "clothes/t-shirt_01",
        "food/fruit/cartoon/apple_core_01",
        "food/fruit/cartoon/watermelon",
        "people/body_parts/wig2",
        "people/body_parts/wig",
        "people/cartoon/woman_dancing",
        "plants/toadstool",
        "seasonal/clover",
        "seasonal/shamrock",
        "space/toyrocket",
        "town/houses/cartoon/lighthouse",
    }
)


class TuxStamps(Source):
    """Pictures of Tux Paint and what they show, spoken and written in French, 11 classes.

    ``audio``: (64, 40) float16, log-mel of the first 1.3 seconds at 16 kHz, time first. ``image``:
    (3, 32, 32) uint8, cut out and on white. ``text``: (256,) int64, hashed words and trigrams of
    the French sentence in 4096 buckets. A third of all stamps are of class ``symbols`` (letters,
    coins), so macro-F1 belongs beside accuracy.

    The items are the stamps in the folders of these classes with a French recording, a French text
    and a picture.
    """

    name = "tuxstamps"
    class_names = (
        "animals",
        "clothes",
        "food",
        "household",
        "people",
        "plants",
        "seasonal",
        "space",
        "symbols",
        "town",
        "vehicles",
    )
    modalities = ("audio", "image", "text")
    default_split = "group"
    how_to_get: ClassVar[str] = (
        "Fetched by itself with apt on Debian and Ubuntu (161 MB, GPL-2+ and other free licences); "
        "elsewhere raw= is the unpacked package tuxpaint-stamps-default, or its folder stamps."
    )

    def __init__(self, raw: Path | None = None, svg: bool = True) -> None:
        """Find the originals.

        Args:
            raw: The unpacked package, or its folder ``stamps``; None to download it.
            svg: Also the stamps that are drawn as SVG alone, about one in six; pip downloads
                resvg-py 0.5.0 to render them.
        """
        super().__init__(deb(PACKAGE) if raw is None else raw)
        self.svg = svg
        self.left_out: dict[str, int] = {}

    def items(self) -> list[Item]:
        """List the stamps.

        Returns:
            861 stamps (with SVG), sorted by id; :attr:`left_out` tells why how many others are
            none.

        Raises:
            DataError: If ``raw`` is another folder, or a text file is not UTF-8.
        """
        top = self._top()
        kept, keys = [], []
        self.left_out = dict.fromkeys(("other class", "no French text", "no picture"), 0)
        for sound in sorted((self._raw / top).rglob(f"*{SPOKEN}")):
            stem = sound.name.removesuffix(SPOKEN)
            place = sound.parent.relative_to(self._raw)
            within = place.relative_to(top)
            if not within.parts or within.parts[0] not in self.class_names:
                self.left_out["other class"] += 1
                continue
            english, french = self._texts(place / f"{stem}.txt")
            picture = self._picture(within, place, stem)
            if not french:
                self.left_out["no French text"] += 1
                continue
            if picture is None:
                self.left_out["no picture"] += 1
                continue
            name = f"{within.as_posix()}/{stem}"
            kept.append((name, within.parts[0], place / sound.name, picture, english, french))
            digest = hashlib.sha256(sound.read_bytes()).hexdigest()
            shown = hashlib.sha256((self._raw / picture).read_bytes()).hexdigest()
            # What may be one thing twice: texts, recordings, pictures, numbered variants of a name.
            variant = f"{within.as_posix()}/{re.sub(r'[0-9]', '', stem)}"
            keys.append((f"en {plain(english)}", f"fr {plain(french)}", digest, shown, variant))
        groups = connected(keys)
        items = [
            Item(
                name,
                label,
                {"audio": FileInput(sound), "image": FileInput(picture), "text": TextInput(french)},
                {"text": french, "english": english, "group": group},
            )
            for (name, label, sound, picture, english, french), group in zip(
                kept, groups, strict=True
            )
        ]
        return sorted(items, key=lambda item: item.id)

    def extractors(self) -> Mapping[str, Extractor]:
        """Tell how each modality is read."""
        return {
            "audio": ShortLogMel(16000, num_frames=64, num_mels=40),
            "image": Drawing(32, resvg=wheel(RENDERER) if self.svg else None),
            "text": Tokens(length=256),
        }

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide by group.

        Args:
            items: The stamps.

        Returns:
            ``group``: 60 % train, 10 % validation, 30 % test of each class, as far as groups allow.
        """
        groups = [item.attributes["group"] for item in items]
        codes = grouped([item.label for item in items], groups, (0.6, 0.1, 0.3), seed=0)
        about = (
            "Stamps with equal text, recording or picture, or with names that differ in digits "
            "alone, are in one part; drawn at random, a fifth of the test's texts would be in "
            "train, too."
        )
        return {"group": NamedSplit(codes, about, "group")}

    def options(self) -> dict[str, Any]:
        """Spell what the items depend on, and how many stamps are none."""
        return {
            "language": "fr",
            "svg": self.svg,
            "renderer": RENDERER if self.svg else None,
            "left_out": self.left_out,
        }

    def label_files(self) -> list[Path]:
        """Name the text files of the stamps."""
        top = self._top()
        return sorted(path.relative_to(self._raw) for path in (self._raw / top).rglob("*.txt"))

    @property
    def _raw(self) -> Path:
        assert self.raw is not None
        return self.raw

    def _top(self) -> Path:
        """Find the folder of the classes below raw."""
        for top in (STAMPS, Path("stamps"), Path()):
            if any((self._raw / top / name).is_dir() for name in self.class_names):
                return top
        held = ", ".join(sorted(path.name for path in self._raw.glob("*"))[:6]) or "nothing"
        raise DataError(
            f"{self._raw / STAMPS} with folders such as {self.class_names[0]} does not exist; "
            f"{self._raw} holds {held}. {self.how_to_get}"
        )

    def _texts(self, path: Path) -> tuple[str, str]:
        """Read the English and the French line of a stamp's text, empty where there is none."""
        try:
            lines = (self._raw / path).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return "", ""
        except UnicodeDecodeError as error:
            raise DataError(f"{self._raw / path} is not UTF-8: {error.reason}") from error
        english = next((line.strip() for line in lines[:1]), "")
        french = next((line for line in lines if line.startswith(WRITTEN)), WRITTEN)
        return english, french.removeprefix(WRITTEN).strip()

    def _picture(self, within: Path, place: Path, stem: str) -> Path | None:
        """Choose the file of a stamp's picture: a PNG before an SVG."""
        if (self._raw / place / f"{stem}.png").is_file():
            return place / f"{stem}.png"
        drawn = place / f"{stem}.svg"
        is_drawn = self.svg and (within / stem).as_posix() not in UNDRAWN
        return drawn if is_drawn and (self._raw / drawn).is_file() else None


def plain(text: str) -> str:
    """Write a text without what does not tell two apart: case, signs, blanks."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text


def connected(keys: Sequence[Sequence[str]]) -> list[str]:
    """Group what shares a key, directly or by way of others.

    Args:
        keys: (N,) keys of each.

    Returns:
        (N,) name of each one's group.
    """
    parent = list(range(len(keys)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first: dict[str, int] = {}
    for number, own in enumerate(keys):
        for key in own:
            parent[root(number)] = root(first.setdefault(key, number))
    numbers = {leader: number for number, leader in enumerate(sorted({*map(root, parent)}))}
    return [f"{numbers[root(number)]:04d}" for number in range(len(keys))]
