"""Film as a few still frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from mla_lightning.errors import ConfigError, near
from mla_lightning.media.containers import check_end, opened, packets_of, stream_of
from mla_lightning.media.files import media_file
from mla_lightning.media.parts import BadMedia, Extractor, FilePart, Part

CHOICES = ("centre", "released")


class Frames(Extractor):
    """Frames of a film, in the order of time, as RGB of a fixed size.

    ``centre``: the film is divided into ``num_segments`` equal segments, and each of them into
    ``frames_per_segment`` equal pieces; the frame in the middle of each piece is taken. Several per
    segment leave training a choice. ``released``: as MLA's code does, if directory listings are
    sorted: frames 0, F, 2F, ... (F: frames per second, rounded down) are candidates, about one per
    second; of n candidates those at 0, n // k, 2 (n // k), ... are taken for k segments, so with
    fewer candidates than segments the first one again and again.

    Attributes:
        shape: (num_segments * frames_per_segment, 3, size, size); segment by segment.
    """

    kind = "frames"
    dtype = "uint8"

    def __init__(
        self,
        num_segments: int = 3,
        frames_per_segment: int = 1,
        size: int = 256,
        choice: Literal["centre", "released"] = "centre",
    ) -> None:
        """Choose number, size and rule.

        Args:
            num_segments: Segments of the film.
            frames_per_segment: Frames stored of each; 1 for ``released``.
            size: Height and width in pixels; the aspect is not kept (bilinear).
            choice: ``centre`` or ``released``.

        Raises:
            ConfigError: If a number is too small, the rule is unknown, or a number has no effect
                with the rule.
        """
        for name, value in (
            ("num_segments", num_segments),
            ("frames_per_segment", frames_per_segment),
            ("size", size),
        ):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if choice not in CHOICES:
            raise ConfigError(
                f"choice {choice!r} is unknown.{near(choice, CHOICES)} Known: {', '.join(CHOICES)}."
            )
        if choice == "released" and frames_per_segment != 1:
            raise ConfigError(
                f"choice=released takes one frame per segment, got "
                f"frames_per_segment={frames_per_segment}"
            )
        self.num_segments, self.frames_per_segment = num_segments, frames_per_segment
        self.size, self.choice = size, choice
        self.shape = (num_segments * frames_per_segment, 3, size, size)

    def __call__(self, raw: Path, part: Part) -> np.ndarray:
        """Read a film; see :class:`Extractor`."""
        path = media_file(raw, part)
        assert isinstance(part, FilePart)
        packets = packets_of(path, "video")
        check_end(packets.end_s, part.end_s)
        start, end = part.start_s or 0.0, part.end_s
        found = sum(_is_inside(time, part.start_s, end) for time in packets.times_s)
        while found:
            # Packets that hold no frame of their own are rare: then the frames are counted anew.
            expected, frames = found, self._decode(path, start, end, self.indices(found, path))
            if isinstance(frames, np.ndarray):
                return frames
            found = min(frames, expected - 1)
        raise BadMedia(
            f"zero length: no frame between {start:.2f} s and {end:.2f} s"
            if end is not None
            else f"zero length: no frame after {start:.2f} s"
        )

    def options(self) -> dict[str, Any]:
        """Spell the options."""
        return {
            "extractor": "frames",
            "version": 1,
            "num_segments": self.num_segments,
            "frames_per_segment": self.frames_per_segment,
            "size": self.size,
            "choice": self.choice,
        }

    def indices(
        self, num_frames: int, path: Path | None = None, fps: float | None = None
    ) -> list[int]:
        """Choose frames.

        Args:
            num_frames: Number of frames of the film or stretch.
            path: The film, whose frames per second ``released`` needs.
            fps: Those, where they are known.

        Returns:
            As many ascending numbers from 0 as frames are stored; short films repeat some.

        Raises:
            BadMedia: If the frames per second are needed and not known.
        """
        count = self.shape[0]
        if self.choice == "centre":
            return [(2 * k + 1) * num_frames // (2 * count) for k in range(count)]
        if fps is None:
            assert path is not None
            fps = _fps_of(path)
        candidates = list(range(0, num_frames, max(1, int(fps))))
        segment = len(candidates) // self.num_segments
        return [candidates[k * segment] for k in range(self.num_segments)]

    def _decode(
        self, path: Path, start_s: float, end_s: float | None, wanted: list[int]
    ) -> np.ndarray | int:
        """Return the wanted frames, or the number of frames where there are fewer."""
        result = np.empty(self.shape, dtype=self.dtype)
        places: dict[int, list[int]] = {}
        for place, index in enumerate(wanted):
            places.setdefault(index, []).append(place)
        number = 0
        with opened(path) as container:
            stream = stream_of(container, "video")
            if start_s > 0:
                container.seek(int(start_s / stream.time_base), stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.time is not None and not _is_inside(frame.time, start_s or None, end_s):
                    if end_s is not None and frame.time >= end_s:
                        break
                    continue
                if number in places:
                    # FFmpeg's bilinear filter looks at all pixels when it makes a picture smaller.
                    image = frame.to_ndarray(
                        format="rgb24", width=self.size, height=self.size, interpolation="BILINEAR"
                    )
                    result[places[number]] = image.transpose(2, 0, 1)
                number += 1
                if number > wanted[-1]:
                    return result
        return number


def _is_inside(time: float, start_s: float | None, end_s: float | None) -> bool:
    # Half a microsecond: stamps are rounded.
    return (start_s is None or time >= start_s - 5e-7) and (end_s is None or time < end_s - 5e-7)


def _fps_of(path: Path) -> float:
    with opened(path) as container:
        rate = stream_of(container, "video").average_rate
    if not rate:
        raise BadMedia("no frame rate, which choice=released needs")
    return float(rate)
