"""Extractor of a few frames of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from mla_lightning.errors import ConfigError, check_number, near
from mla_lightning.media.base import MAX_SIZE, BadMedia, Extractor, FileInput, MediaInput
from mla_lightning.media.containers import (
    check_end,
    first_stream,
    open_container,
    read_packet_times,
)
from mla_lightning.media.files import media_file

CHOICES = ("centre", "released")
ROTATIONS = ("ignore", "apply")


class Frames(Extractor):
    """Frames of a video, in the order of time, as RGB of a fixed size.

    ``centre``: the video is divided into ``num_segments`` equal segments, and each of them into
    ``frames_per_segment`` equal pieces; the result holds the frame in the middle of each piece.
    With several frames per segment, training can draw one of them. ``released``: the rule of MLA's
    code, if directory listings are sorted: frames 0, F, 2F, ... (F: frames per second, rounded
    down) are candidates, about one per second; of n candidates and k segments the result holds
    those at 0, n // k, 2 (n // k), ..., so the first one k times if n < k.

    Attributes:
        shape: (num_segments * frames_per_segment, 3, size, size); segment by segment.

    Example:
        Frame numbers of a video of three seconds with 30 frames per second:

        >>> Frames(num_segments=3).indices(90)
        [15, 45, 75]
        >>> Frames(num_segments=3, choice="released").indices(90, fps=30)
        [0, 30, 60]
    """

    kind = "frames"
    dtype = "uint8"

    def __init__(
        self,
        num_segments: int = 3,
        frames_per_segment: int = 1,
        size: int = 256,
        choice: Literal["centre", "released"] = "centre",
        rotation: Literal["ignore", "apply"] = "ignore",
    ) -> None:
        """Set number, size and rules.

        Args:
            num_segments: Number of segments of the video.
            frames_per_segment: Number of frames of each segment; 1 for ``released``.
            size: Height and width in pixels; the aspect ratio is not kept (bilinear).
            choice: ``centre`` or ``released``.
            rotation: Whether to turn the frames as the file's display matrix says, which phones
                write into films held upright (``apply``), or not (``ignore``, as released code).

        Raises:
            ConfigError: If a number is too small, the rule is unknown, or a number has no effect
                with the rule.
        """
        for name, value, most in (
            ("num_segments", num_segments, 10**4),
            ("frames_per_segment", frames_per_segment, 10**4),
            ("size", size, MAX_SIZE),
        ):
            check_number(name, value, 1, most)
        for name, rule, known in (
            ("choice", choice, CHOICES),
            ("rotation", rotation, ROTATIONS),
        ):
            if rule not in known:
                raise ConfigError(
                    f"{name} {rule!r} is unknown.{near(rule, known)} Known: {', '.join(known)}."
                )
        if choice == "released" and frames_per_segment != 1:
            raise ConfigError(
                f"choice=released takes one frame per segment, got "
                f"frames_per_segment={frames_per_segment}"
            )
        self.num_segments, self.frames_per_segment = num_segments, frames_per_segment
        self.size, self.choice, self.rotation = size, choice, rotation
        self.shape = (num_segments * frames_per_segment, 3, size, size)

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read a video file; see :class:`Extractor`."""
        path = media_file(raw, media_input)
        assert isinstance(media_input, FileInput)
        packets = read_packet_times(path, "video")
        start_s, end_s = media_input.start_s or 0.0, media_input.end_s
        check_end(packets.end_s, end_s)
        num_frames = sum(_is_inside(t, media_input.start_s, end_s) for t in packets.times_s)
        while num_frames:
            frames = self._decode(path, start_s, end_s, self.indices(num_frames, path))
            if isinstance(frames, np.ndarray):
                return frames
            # Rarely, packets hold no frame: then try again with the number of decoded frames.
            num_frames = min(frames, num_frames - 1)
        raise BadMedia(
            f"zero length: no frame between {start_s:.2f} s and {end_s:.2f} s"
            if end_s is not None
            else f"zero length: no frame after {start_s:.2f} s"
        )

    def options(self) -> dict[str, Any]:
        """Return the options that change the result."""
        return {
            "extractor": "frames",
            "version": 1,
            "num_segments": self.num_segments,
            "frames_per_segment": self.frames_per_segment,
            "size": self.size,
            "choice": self.choice,
            # Stores that were prepared before this option existed keep their identity.
            **({"rotation": self.rotation} if self.rotation != "ignore" else {}),
        }

    def indices(
        self, num_frames: int, path: Path | None = None, fps: float | None = None
    ) -> list[int]:
        """Choose frames.

        Args:
            num_frames: Number of frames of the video or time range.
            path: The video; ``released`` reads its frames per second unless ``fps`` is given.
            fps: Frames per second.

        Returns:
            Number of each stored frame, from 0, ascending; short videos repeat some.

        Raises:
            BadMedia: If the frames per second are needed and the file has none.
        """
        count = self.shape[0]
        if self.choice == "centre":
            return [(2 * k + 1) * num_frames // (2 * count) for k in range(count)]
        if fps is None:
            assert path is not None
            fps = _read_fps(path)
        candidates = list(range(0, num_frames, max(1, int(fps))))
        segment = len(candidates) // self.num_segments
        return [candidates[k * segment] for k in range(self.num_segments)]

    def _decode(
        self, path: Path, start_s: float, end_s: float | None, indices: list[int]
    ) -> np.ndarray | int:
        """Decode the frames of these numbers; return the number of frames if there are fewer."""
        result = np.empty(self.shape, dtype=self.dtype)
        positions: dict[int, list[int]] = {}
        for position, index in enumerate(indices):
            positions.setdefault(index, []).append(position)
        number = 0
        with open_container(path) as container:
            stream = first_stream(container, "video")
            if start_s > 0:
                container.seek(int(start_s / stream.time_base), stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.time is not None and not _is_inside(frame.time, start_s or None, end_s):
                    if end_s is not None and frame.time >= end_s:
                        break
                    continue
                if number in positions:
                    # When it reduces the size, FFmpeg's bilinear filter uses all pixels.
                    image = frame.to_ndarray(
                        format="rgb24", width=self.size, height=self.size, interpolation="BILINEAR"
                    )
                    if self.rotation == "apply":  # counterclockwise degrees; the image is a square
                        image = np.rot90(image, round(frame.rotation / 90))
                    result[positions[number]] = image.transpose(2, 0, 1)
                number += 1
                if number > indices[-1]:
                    return result
        return number


def _is_inside(time: float, start_s: float | None, end_s: float | None) -> bool:
    # Half a microsecond of tolerance, because time stamps are rounded.
    return (start_s is None or time >= start_s - 5e-7) and (end_s is None or time < end_s - 5e-7)


def _read_fps(path: Path) -> float:
    with open_container(path) as container:
        rate = first_stream(container, "video").average_rate
    if not rate:
        raise BadMedia("no frame rate, which choice=released needs")
    return float(rate)
