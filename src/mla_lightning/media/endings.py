"""Endings of file names: the kind of media that each stands for, and those that are not read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: Endings of each kind: images through Pillow, sounds through libsndfile or PyAV, videos through
#: PyAV, and drawings through resvg.
_BY_KIND = {
    "image": "jpg jpeg jpe jfif png apng bmp dib gif webp tif tiff avif jp2 j2k tga ppm pgm pbm",
    "drawing": "svg",
    "audio": "wav flac ogg oga opus mp3 aac m4a wma aiff aif aifc au caf amr",
    "video": "mp4 m4v mov flv avi mkv webm mpg mpeg wmv 3gp 3g2 ts mts m2ts ogv",
}
#: Ending in lower case, with its dot -> ``image``, ``drawing``, ``audio`` or ``video``.
KINDS: Mapping[str, str] = {
    f".{ending}": kind for kind, endings in _BY_KIND.items() for ending in endings.split()
}

_CAMERA = "the raw format of a camera, which is not read; convert it to JPEG or TIFF"
_DOCUMENT = "a document; save its text as .txt, or its pages as pictures"
#: Ending -> what the file is and the remedy, for media that no reader here can read.
UNREADABLE: Mapping[str, str] = {
    **dict.fromkeys(
        (".heic", ".heif"),
        "a HEIF photograph, which Pillow does not read; convert it to JPEG, for example "
        "`magick mogrify -format jpg *.heic`",
    ),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"), _CAMERA),
    **dict.fromkeys((".mid", ".midi"), "notes rather than sound; render it to a .wav file first"),
    **dict.fromkeys((".ai", ".eps", ".ps"), "a PostScript drawing; convert it to SVG or PNG"),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".rtf"), _DOCUMENT),
    **dict.fromkeys((".dcm", ".nii"), "a medical image, which is not read; save it as PNG or TIFF"),
}


def kind_of(path: str | Path) -> str | None:
    """Return the kind of media that the ending of a file name stands for.

    Args:
        path: Name or path of a file; it need not exist.

    Returns:
        ``image``, ``drawing``, ``audio`` or ``video``; None if no reader reads such files.

    Example:
        >>> kind_of("birds/Wren.OPUS"), kind_of("a dog on the beach"), kind_of("a.heic")
        ('audio', None, None)
    """
    return KINDS.get(Path(path).suffix.lower())


def unreadable_reason(path: str | Path) -> str | None:
    """Return why files with this ending are not read, and what to do instead.

    Args:
        path: Name or path of a file; it need not exist.

    Returns:
        The reason and the remedy; None for endings that are read or unknown.

    Example:
        >>> unreadable_reason("song.mid")
        'notes rather than sound; render it to a .wav file first'
    """
    return UNREADABLE.get(Path(path).suffix.lower())
