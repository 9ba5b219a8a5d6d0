"""Texts of figures in any script: in a font of this machine, or escaped instead of as boxes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The font of all figures, which comes with matplotlib.
FONT = "DejaVu Sans"
#: Fonts that have a sign for every character, but not its shape.
_NO_SHAPES = re.compile("last ?resort|unicode bmp fallback|adobe blank", re.IGNORECASE)
#: An escaped character.
_ESCAPE = re.compile(r"\\(x\w{2}|u\w{4}|U\w{8})")


def drawable(text: str) -> str:
    r"""Return a text with characters escaped that no font of this machine has.

    Args:
        text: Any text.

    Returns:
        The text; a missing character is written as in Python and JSON.

    Example:
        >>> drawable("größer κ"), drawable("cat \U00040000")  # the latter is no character
        ('größer κ', 'cat \\U00040000')
    """
    missing = _missing(text)
    if not missing:
        return text
    covered = set[str]().union(*(characters for _, characters in _fonts_for(missing)))
    return "".join(
        c if c not in missing or c in covered else c.encode("unicode_escape").decode() for c in text
    )


def is_escaped(text: str) -> bool:
    r"""Return whether a text holds an escaped character.

    Example:
        >>> is_escaped(drawable("\U00040000")), is_escaped("cat")
        (True, False)
    """
    return bool(_ESCAPE.search(text))


def units_of(text: str) -> list[str]:
    r"""Return the characters of a text; an escaped one is not divided.

    Example:
        >>> units_of(r"a\u732b.")
        ['a', '\\u732b', '.']
    """
    return [match[0] for match in re.finditer(rf"{_ESCAPE.pattern}|.", text, re.DOTALL)]


def make_drawable(figure: Figure) -> None:
    """Give the texts of a figure fonts that have their characters, or escape these.

    A figure whose characters are all in DejaVu Sans, which comes with matplotlib, is not changed.

    Args:
        figure: The figure, before its layout.
    """
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            names = [label.get_text() for label in axis.get_ticklabels()]
            if any(map(_missing, names)) and [*map(drawable, names)] != names:
                axis.set_ticklabels([*map(drawable, names)])
    texts: list[Any] = figure.findobj(Text)
    for text in texts:
        if not (missing := _missing(text.get_text())):
            continue
        text.set_text(drawable(text.get_text()))
        families = [family for family, _ in _fonts_for(missing)]
        if families:
            text.set_fontfamily([FONT, *families])
            text.set_fontweight("normal")  # the others may have no bold characters


def _missing(text: str) -> frozenset[str]:
    """Return the characters that the font of all figures does not have."""
    if text.isascii() and text.isprintable():
        return frozenset()
    known = _characters_of_default()
    return frozenset(c for c in text if ord(c) not in known and c != "\n")


@cache
def _characters_of_default() -> frozenset[int]:
    from matplotlib import font_manager

    return _characters(font_manager.findfont(FONT))


def _characters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # damaged, or of a format that FreeType does not read
        return frozenset()


@cache
def _fonts_for(missing: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """Return families of fonts that have some of the characters, with these characters."""
    fonts, rest = [], set(missing)
    for family, path in _installed():
        if not rest:
            break
        known = _characters(path)
        if covered := frozenset(c for c in rest if ord(c) in known):
            fonts.append((family, covered))
            rest -= covered
    return fonts


@cache
def _installed() -> list[tuple[str, str]]:
    """Return family and path of the fonts of this machine, those without serifs first.

    Fonts that were installed after matplotlib's list of them was made are added to it.
    """
    import matplotlib
    from matplotlib import font_manager

    manager = font_manager.fontManager
    known = {entry.fname for entry in manager.ttflist}
    for path in _new_files(font_manager.findSystemFonts(), known):
        try:
            manager.addfont(path)
        except (OSError, RuntimeError, NotImplementedError, ValueError):  # bitmaps, damaged files
            continue
    own = Path(matplotlib.get_data_path())
    entries = [
        entry
        for entry in manager.ttflist
        if not Path(entry.fname).is_relative_to(own) and not _NO_SHAPES.search(entry.name)
    ]

    def rank(entry: Any) -> tuple[bool, bool, bool, str]:
        is_plain = entry.style == "normal" and entry.weight in (400, "normal", "regular")
        is_usual = bool(re.search("sans|gothic|hei|ui", entry.name, re.IGNORECASE))
        return not is_plain, not is_usual, "mono" in entry.name.lower(), entry.name

    return [(entry.name, entry.fname) for entry in sorted(entries, key=rank)]


def _new_files(paths: Iterable[str], known: set[str]) -> list[str]:
    return sorted(path for path in paths if path not in known)
