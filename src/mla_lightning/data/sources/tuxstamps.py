"""Tux Paint's stamps: drawings and photographs with spoken and written descriptions, 11 classes.

Debian's package tuxpaint-stamps-default 2022.06.04. Volunteers drew, photographed, spoke and
translated the stamps; the package is under GPL-2+, single files are under GFDL, CC BY-SA 2.5 and
3.0, CC BY, CC Sampling Plus or in the public domain, so this package does not contain them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.downloads import deb, wheel
from mla_lightning.data.sources.texts import list_folder
from mla_lightning.data.splits import NamedSplit, grouped
from mla_lightning.errors import DataError
from mla_lightning.media.base import Extractor, FileInput, TextInput
from mla_lightning.media.drawing import Drawing
from mla_lightning.media.short_audio import ShortLogMel
from mla_lightning.media.text import Tokens

PACKAGE, RENDERER = "tuxpaint-stamps-default", "resvg-py==0.5.0"
STAMPS = Path("usr", "share", "tuxpaint", "stamps")
AUDIO_SUFFIX, TEXT_PREFIX = "_desc_fr.ogg", "fr.utf8="
#: SVG files that resvg cannot render because it finds no size; there is no PNG file of them.
NOT_RENDERED = frozenset(
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
    """Images of Tux Paint with spoken and written French descriptions, 11 classes.

    ``audio``: (64, 40) float16, log-mel of the first 1.3 seconds at 16 kHz, time first. ``image``:
    (3, 32, 32) uint8, without margins and on white. ``text``: (256,) int64, hashed words and
    trigrams of the French sentence in 4096 buckets. A third of all stamps are of class ``symbols``
    (letters, coins), so macro-F1 should be reported with accuracy.

    The items are the stamps in the folders of these classes with a French recording, a French text
    and an image.
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
        "Downloaded automatically with apt on Debian and Ubuntu (161 MB, GPL-2+ and other free "
        "licences); elsewhere raw= is the unpacked package tuxpaint-stamps-default, or its folder "
        "stamps."
    )

    def __init__(self, raw: Path | None = None, svg: bool = True) -> None:
        """Find or download the files.

        Args:
            raw: The unpacked package, or its folder ``stamps``; None to download it.
            svg: Whether to include the stamps that exist only as SVG, about one in six; pip
                downloads resvg-py 0.5.0 to render them.
        """
        super().__init__(deb(PACKAGE) if raw is None else raw)
        self.svg = svg
        self.left_out: dict[str, int] = {}

    def items(self) -> list[Item]:
        """List the stamps.

        Returns:
            861 stamps (with SVG), sorted by id; :attr:`left_out` has the numbers of all others by
            reason.

        Raises:
            DataError: If ``raw`` is another folder, or a text file is not UTF-8.
        """
        top = self._top()
        stamps, keys = [], []
        self.left_out = dict.fromkeys(("other class", "no French text", "no picture"), 0)
        for audio in sorted((self._raw / top).rglob(f"*{AUDIO_SUFFIX}")):
            stem = audio.name.removesuffix(AUDIO_SUFFIX)
            folder = audio.parent.relative_to(self._raw)
            inner = folder.relative_to(top)
            if not inner.parts or inner.parts[0] not in self.class_names:
                self.left_out["other class"] += 1
                continue
            english, french = self._texts(folder / f"{stem}.txt")
            image = self._image(inner, folder, stem)
            if not french:
                self.left_out["no French text"] += 1
                continue
            if image is None:
                self.left_out["no picture"] += 1
                continue
            name = f"{inner.as_posix()}/{stem}"
            stamps.append((name, inner.parts[0], folder / audio.name, image, english, french))
            audio_hash = hashlib.sha256(audio.read_bytes()).hexdigest()
            image_hash = hashlib.sha256((self._raw / image).read_bytes()).hexdigest()
            # Possible duplicates: equal texts, recordings or images, numbered variants of a name.
            variant = f"{inner.as_posix()}/{re.sub(r'[0-9]', '', stem)}"
            texts = f"en {normalised(english)}", f"fr {normalised(french)}"
            keys.append((*texts, audio_hash, image_hash, variant))
        groups = connected_groups(keys)
        items = [
            Item(
                name,
                label,
                {"audio": FileInput(audio), "image": FileInput(image), "text": TextInput(french)},
                {"text": french, "english": english, "group": group},
            )
            for (name, label, audio, image, english, french), group in zip(
                stamps, groups, strict=True
            )
        ]
        return sorted(items, key=lambda item: item.id)

    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractor of each modality."""
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
        description = (
            "Stamps with equal text, recording or picture, or with names that differ in digits "
            "alone, are in the same split; in a random split, a fifth of the texts of the test "
            "split would be in train, too."
        )
        return {"group": NamedSplit(codes, description, "group")}

    def options(self) -> dict[str, Any]:
        """Return the options that change the items, and the numbers of stamps left out."""
        return {
            "language": "fr",
            "svg": self.svg,
            "renderer": RENDERER if self.svg else None,
            "left_out": self.left_out,
        }

    def label_files(self) -> list[Path]:
        """Return the text files of the stamps."""
        top = self._top()
        return sorted(path.relative_to(self._raw) for path in (self._raw / top).rglob("*.txt"))

    @property
    def _raw(self) -> Path:
        assert self.raw is not None
        return self.raw

    def _top(self) -> Path:
        """Return the folder of the classes below raw."""
        for top in (STAMPS, Path("stamps"), Path()):
            if any((self._raw / top / name).is_dir() for name in self.class_names):
                return top
        raise DataError(
            f"{self._raw / STAMPS} with folders such as {self.class_names[0]} does not exist; "
            f"{self._raw} holds {list_folder(self._raw)}. {self.how_to_get}"
        )

    def _texts(self, path: Path) -> tuple[str, str]:
        """Read the English and the French line of a stamp's text file; empty if there is none."""
        try:
            lines = (self._raw / path).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return "", ""
        except UnicodeDecodeError as error:
            raise DataError(f"{self._raw / path} is not UTF-8: {error.reason}") from error
        english = next((line.strip() for line in lines[:1]), "")
        french = next((line for line in lines if line.startswith(TEXT_PREFIX)), TEXT_PREFIX)
        return english, french.removeprefix(TEXT_PREFIX).strip()

    def _image(self, inner: Path, folder: Path, stem: str) -> Path | None:
        """Return the file of a stamp's image: PNG if it exists, otherwise SVG."""
        if (self._raw / folder / f"{stem}.png").is_file():
            return folder / f"{stem}.png"
        svg = folder / f"{stem}.svg"
        is_rendered = self.svg and (inner / stem).as_posix() not in NOT_RENDERED
        return svg if is_rendered and (self._raw / svg).is_file() else None


def normalised(text: str) -> str:
    """Return the words of a text without case and punctuation, separated by single spaces."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text


def connected_groups(keys: Sequence[Sequence[str]]) -> list[str]:
    """Group samples that share a key, directly or through other samples.

    Args:
        keys: (N,) keys of each sample.

    Returns:
        (N,) name of each sample's group.
    """
    parent = list(range(len(keys)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first: dict[str, int] = {}
    for number, keys_of_sample in enumerate(keys):
        for key in keys_of_sample:
            parent[root(number)] = root(first.setdefault(key, number))
    numbers = {root_: number for number, root_ in enumerate(sorted({*map(root, parent)}))}
    return [f"{numbers[root(number)]:04d}" for number in range(len(keys))]
