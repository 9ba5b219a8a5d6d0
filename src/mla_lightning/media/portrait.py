"""One person of a filmed conversation as a picture."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mla_lightning.errors import ConfigError
from mla_lightning.media.containers import Packets, check_end, opened, packets_of, stream_of
from mla_lightning.media.files import media_file
from mla_lightning.media.parts import BadMedia, Extractor, FilePart, Part


@functools.lru_cache(maxsize=2)
def _packets_of(path: Path, _changed: int) -> Packets:
    """Look through a film once, although many stretches are taken of it one after another."""
    return packets_of(path, "video")


@dataclass(frozen=True)
class SidePart(FilePart):
    """A stretch of a film in which a person is on one side.

    Attributes:
        side: ``left`` or ``right``.
    """

    side: Literal["left", "right"] = "left"


class Portrait(Extractor):
    """The frame in the middle of a stretch, RGB of a fixed size: the half where the person is.

    Attributes:
        shape: (3, size, size).
    """

    kind = "image"
    dtype = "uint8"

    def __init__(self, size: int = 256, *, whole: bool = False) -> None:
        """Choose size and what is shown.

        Args:
            size: Height and width in pixels; the aspect is not kept (bilinear).
            whole: The whole frame rather than the person's half.

        Raises:
            ConfigError: If the size is too small.
        """
        if size < 1:
            raise ConfigError(f"size must be at least 1, got {size}")
        self.size, self.whole = size, whole
        self.shape = (3, size, size)

    def __call__(self, raw: Path, part: Part) -> np.ndarray:
        """Read a part; see :class:`Extractor`."""
        path = media_file(raw, part)
        assert isinstance(part, SidePart)
        packets = _packets_of(path, path.stat().st_mtime_ns)
        check_end(packets.end_s, part.end_s)
        start = part.start_s or 0.0
        middle = (start + (packets.end_s if part.end_s is None else part.end_s)) / 2
        frame = self._frame_at(path, middle)
        if frame is None:
            raise BadMedia(f"zero length: no frame at {middle:.2f} s")
        pixels = frame.to_ndarray(format="rgb24")
        half = pixels.shape[1] // 2
        if not self.whole:
            pixels = pixels[:, :half] if part.side == "left" else pixels[:, half:]
        from PIL import Image

        picture = Image.fromarray(np.ascontiguousarray(pixels))
        picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))

    def options(self) -> dict[str, Any]:
        """Spell the options."""
        return {"extractor": "portrait", "version": 1, "size": self.size, "whole": self.whole}

    def _frame_at(self, path: Path, time_s: float) -> Any:
        """Decode the last frame that is shown at a time; None if there is none."""
        shown = None
        with opened(path) as container:
            stream = stream_of(container, "video")
            if time_s > 0:
                container.seek(int(time_s / stream.time_base), stream=stream, backward=True)
            for frame in container.decode(stream):
                if shown is not None and frame.time is not None and frame.time > time_s:
                    break
                shown = frame
        return shown
