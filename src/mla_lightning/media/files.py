"""Checks of a media file by its size and first bytes, before it is decoded."""

from __future__ import annotations

import re
from pathlib import Path

from mla_lightning.media.base import BadMedia, FileInput, MediaInput

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
#: Pattern of the first bytes, what the file is, and the endings that it may have.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (rb"\s*<(!doctype html|html|head|body)", "an HTML page", ""),
    (rb"\s*<(\?xml|svg)", "an XML file", ".svg"),
    (rb"\s*[{\[]\s*[\"{\[]", "JSON text", ""),
    (rb"\x89PNG", "a PNG picture", ".png .apng"),
    (rb"\xff\xd8\xff", "a JPEG picture", ".jpg .jpeg .jpe .jfif"),
    (rb"GIF8", "a GIF picture", ".gif"),
    (rb"BM.{4}\x00{4}", "a BMP picture", ".bmp .dib"),
    (rb"II\*\x00|MM\x00\*", "a TIFF picture", ".tif .tiff"),
    (rb"\x00{3}\x0cjP  ", "a JPEG 2000 picture", ".jp2"),
    (rb"P[1-6]\s+[\d#]", "a PNM picture", ".ppm .pgm .pbm"),
    (rb"%PDF", "a PDF document", ".pdf"),
    (rb"PK\x03\x04", "a ZIP archive", ".zip"),
    (rb"\x1f\x8b", "a gzip archive", ".gz"),
    (rb"\x93NUMPY", "a NumPy array", ".npy"),
    (rb"MThd", "a MIDI file", ".mid .midi"),
    (rb"....ftyp(heic|heix|hevc|mif1|msf1)", "a HEIF photograph", ".heic .heif"),
    (rb"....ftypavi[fs]", "an AVIF picture", ".avif"),
    (rb"....ftypM4[AB]", "AAC sound in an MP4 file", ".m4a .mp4 .m4b"),
    (rb"....ftyp", "an MP4 file", ".mp4 .m4v .m4a .mov .3gp .3g2"),
    (rb"RIFF....WAVE", "a WAV file", ".wav"),
    (rb"RIFF....WEBP", "a WebP picture", ".webp"),
    (rb"RIFF....AVI ", "an AVI film", ".avi"),
    (rb"OggS", "an Ogg file", ".ogg .oga .opus .ogv"),
    (rb"fLaC", "a FLAC file", ".flac"),
    (rb"\.snd", "an AU file", ".au"),
    (rb"#!AMR", "an AMR file", ".amr"),
    (rb"caff\x00\x01", "a CAF file", ".caf"),
    (rb"FORM....AIF", "an AIFF file", ".aiff .aif .aifc"),
    (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", "an MP3 file", ".mp3"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "AAC sound", ".aac"),
    (rb"\x1a\x45\xdf\xa3", "a Matroska or WebM file", ".mkv .webm .mka"),
    (rb"\x30\x26\xb2\x75", "a Windows Media file", ".wma .wmv .asf"),
    (rb"FLV\x01", "an FLV film", ".flv"),
    (rb"\x00\x00\x01\xba", "an MPEG film", ".mpg .mpeg"),
)


def format_of(head: bytes) -> tuple[str, tuple[str, ...]] | None:
    """Return the format of a file by its first bytes.

    Args:
        head: The first bytes, 256 if there are as many.

    Returns:
        What the file is, and the endings that it may have, the usual one first (none for what is no
        medium); None if the format is unknown.

    Example:
        >>> format_of(b"GIF89a"), format_of(b"a text")
        (('a GIF picture', ('.gif',)), None)
    """
    head = head.removeprefix(b"\xef\xbb\xbf")
    for pattern, name, endings in _SIGNATURES:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return name, tuple(endings.split())
    return None


def wrong_ending(path: Path) -> str | None:
    """Return what a file is, where its first bytes do not belong to its ending.

    Args:
        path: The file; it exists.

    Returns:
        What it is and the remedy; None if the bytes are unknown or belong to the ending.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.mp3")
        ...     num_bytes = path.write_bytes(b"<!DOCTYPE html><p>404</p>")
        ...     wrong_ending(path)
        'an HTML page with the ending .mp3; download the file again'
    """
    ending = path.suffix.lower()
    with path.open("rb") as file:
        content = format_of(file.read(256))
    if content is None or ending in content[1]:
        return None
    name, endings = content
    remedy = f"rename it to {endings[0]}" if endings else "download the file again"
    return f"{name} with the ending {ending or 'missing'}; {remedy}"


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is only the pointer that Git LFS puts in the place of a large file.

    Args:
        path: The file; it exists.

    Returns:
        Whether it is a pointer.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.wav")
        ...     num_characters = path.write_text("version https://git-lfs.github.com/spec/v1")
        ...     is_lfs_pointer(path)
        True
    """
    if path.stat().st_size >= 1024:
        return False
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def media_file(raw: Path, media_input: MediaInput) -> Path:
    """Return the path of a file input, after checks that need no decoding.

    Args:
        raw: The raw folder.
        media_input: The file input.

    Returns:
        Its path; the file exists and is not empty.

    Raises:
        BadMedia: If the file is missing, empty, unreadable or a Git LFS pointer, or if the time
            range is empty.
        TypeError: If the input is not a file.

    Example:
        >>> media_file(Path("raw"), FileInput(Path("no.wav")))
        Traceback (most recent call last):
        ...
        mla_lightning.media.base.BadMedia: missing
    """
    if not isinstance(media_input, FileInput):
        raise TypeError(f"a file is needed here, not {type(media_input).__name__}")
    start_s, end_s = media_input.start_s, media_input.end_s
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise BadMedia(f"zero length: the stretch from {start_s} s to {end_s} s")
    path = raw / media_input.path
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise BadMedia("not a file")
        if size == 0:
            raise BadMedia("empty: 0 bytes")
        if is_lfs_pointer(path):
            raise BadMedia(
                "a Git LFS pointer, not the file itself; run `git lfs pull` in the repository that "
                "it lies in"
            )
    except FileNotFoundError as error:
        raise BadMedia("missing") from error
    except OSError as error:
        raise BadMedia(f"not readable: {error.strerror or error}") from error
    return path
