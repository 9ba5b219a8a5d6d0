"""A media file on disk: there, whole and itself, or the reason why not."""

from __future__ import annotations

from pathlib import Path

from mla_lightning.media.parts import BadMedia, FilePart, Part

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def media_file(raw: Path, part: Part) -> Path:
    """Find a part's file.

    Args:
        raw: The raw folder.
        part: The part.

    Returns:
        Its path; the file exists and is not empty.

    Raises:
        BadMedia: If it is missing, empty, unreadable or a Git LFS pointer, or its stretch is empty.
        TypeError: If the part is no file.
    """
    if not isinstance(part, FilePart):
        raise TypeError(f"a file is needed here, not {type(part).__name__}")
    if part.start_s is not None and part.end_s is not None and part.end_s <= part.start_s:
        raise BadMedia(f"zero length: the stretch from {part.start_s} s to {part.end_s} s")
    path = raw / part.path
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise BadMedia("not a file")
        if size == 0:
            raise BadMedia("empty: 0 bytes")
        if size < 1024:
            with path.open("rb") as file:
                if file.read(len(LFS_POINTER)) == LFS_POINTER:
                    raise BadMedia(
                        "a Git LFS pointer, not the file itself; run `git lfs pull` in the "
                        "repository that it lies in"
                    )
    except FileNotFoundError as error:
        raise BadMedia("missing") from error
    except OSError as error:
        raise BadMedia(f"not readable: {error.strerror or error}") from error
    return path
