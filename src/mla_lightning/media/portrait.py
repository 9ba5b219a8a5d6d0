"""Extractor of one person of a filmed conversation as an image."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mla_lightning.errors import check_number
from mla_lightning.media.base import MAX_SIZE, BadMedia, Extractor, FileInput, MediaInput
from mla_lightning.media.containers import (
    PacketTimes,
    check_end,
    first_stream,
    open_container,
    read_packet_times,
)
from mla_lightning.media.files import media_file


@functools.lru_cache(maxsize=2)
def _cached_packet_times(path: Path, _mtime_ns: int) -> PacketTimes:
    """Read the packet times of a video once for all of its time ranges that follow each other."""
    return read_packet_times(path, "video")


@dataclass(frozen=True)
class SideInput(FileInput):
    """A time range of a video in which a person is on one side of the image.

    Attributes:
        side: ``left`` or ``right``.

    Example:
        >>> SideInput(Path("dialog.avi"), 1.0, 3.5, "right").side
        'right'
    """

    side: Literal["left", "right"] = "left"


class Portrait(Extractor):
    """The frame in the middle of a time range, RGB of a fixed size: the half with the person.

    Attributes:
        shape: (3, size, size).

    Example:
        >>> Portrait(64).shape
        (3, 64, 64)
    """

    kind = "image"
    dtype = "uint8"

    def __init__(self, size: int = 256, *, whole: bool = False) -> None:
        """Set the size, and which half is returned.

        Args:
            size: Height and width in pixels; the aspect ratio is not kept (bilinear).
            whole: Whether to return the whole frame rather than the person's half.

        Raises:
            ConfigError: If the size is too small.
        """
        check_number("size", size, 1, MAX_SIZE)
        self.size, self.whole = size, whole
        self.shape = (3, size, size)

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read a :class:`SideInput`; see :class:`Extractor`."""
        path = media_file(raw, media_input)
        assert isinstance(media_input, SideInput)
        packets = _cached_packet_times(path, path.stat().st_mtime_ns)
        check_end(packets.end_s, media_input.end_s)
        start_s = media_input.start_s or 0.0
        end_s = packets.end_s if media_input.end_s is None else media_input.end_s
        middle_s = (start_s + end_s) / 2
        frame = self._frame_at(path, middle_s)
        if frame is None:
            raise BadMedia(f"zero length: no frame at {middle_s:.2f} s")
        pixels = frame.to_ndarray(format="rgb24")
        half = pixels.shape[1] // 2
        if not self.whole:
            pixels = pixels[:, :half] if media_input.side == "left" else pixels[:, half:]
        from PIL import Image

        image = Image.fromarray(np.ascontiguousarray(pixels))
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def options(self) -> dict[str, Any]:
        """Return the options that change the result."""
        return {"extractor": "portrait", "version": 1, "size": self.size, "whole": self.whole}

    def _frame_at(self, path: Path, time_s: float) -> Any:
        """Decode the frame that is on the screen at a time; None if there is none."""
        latest = None
        with open_container(path) as container:
            stream = first_stream(container, "video")
            if time_s > 0:
                container.seek(int(time_s / stream.time_base), stream=stream, backward=True)
            for frame in container.decode(stream):
                if latest is not None and frame.time is not None and frame.time > time_s:
                    break
                latest = frame
        return latest
