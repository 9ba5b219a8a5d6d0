"""Checks that a media file exists, is not empty, and is not a Git LFS pointer."""

from __future__ import annotations

from pathlib import Path

from mla_lightning.media.base import BadMedia, FileInput, MediaInput

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


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
