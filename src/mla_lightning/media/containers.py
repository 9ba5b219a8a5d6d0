"""Video files (flv, mp4, avi, ...) through PyAV: streams, packet times and truncation checks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mla_lightning.media.base import BadMedia
from mla_lightning.media.files import wrong_ending

#: A file counts as truncated if its data end earlier than its header says by more than these
#: seconds and this fraction of the length. Headers are rounded, and audio and images end apart.
TOLERANCE_S, TOLERANCE_FRACTION = 0.5, 0.05


@dataclass(frozen=True)
class PacketTimes:
    """Times of a file's packets, read without decoding.

    Attributes:
        times_s: Time of every packet of one stream, in seconds, ascending.
        end_s: End of the last packet of any stream, in seconds.
    """

    times_s: list[float]
    end_s: float


@contextlib.contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """Open a video file.

    Args:
        path: The file.

    Yields:
        The container of PyAV.

    Raises:
        BadMedia: If it cannot be opened, or if the block meets a damaged packet.
    """
    import av

    try:
        with av.open(str(path)) as container:
            yield container
    except av.error.FFmpegError as error:
        raise BadMedia(wrong_ending(path) or f"truncated or damaged: {error.strerror}") from error


def first_stream(container: Any, kind: str) -> Any:
    """Return the first stream of a kind.

    Args:
        container: The container of PyAV.
        kind: ``audio`` or ``video``.

    Returns:
        The stream.

    Raises:
        BadMedia: If there is none.
    """
    streams = getattr(container.streams, kind)
    if not streams:
        raise BadMedia(f"no {kind} stream")
    # One process per core reads a data set, so more threads per process would only slow it down.
    streams[0].codec_context.thread_count = 1
    return streams[0]


def read_packet_times(path: Path, kind: str) -> PacketTimes:
    """Read the times of all packets, which detects a truncated file without decoding it.

    Args:
        path: The file.
        kind: Stream whose times to return: ``audio`` or ``video``.

    Returns:
        The times of the stream, and the end of the file.

    Raises:
        BadMedia: If the file is damaged, has no such stream, or ends before its header says.
    """
    times, end, num_images = [], 0.0, 0
    with open_container(path) as container:
        stream = first_stream(container, kind)
        duration = container.duration / 1e6 if container.duration else None
        start = container.start_time / 1e6 if container.start_time else 0.0
        num_promised = container.streams.video[0].frames if container.streams.video else 0
        for packet in container.demux():
            if num_promised and packet.stream_index == container.streams.video[0].index:
                num_images += packet.dts is not None or packet.size > 0
            if packet.is_corrupt:  # FFmpeg's mark of a packet that the end of the file cuts
                raise BadMedia("truncated or damaged: a packet is cut off")
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None or not packet.size:
                continue
            time = float(stamp * packet.time_base)
            end = max(end, time + float((packet.duration or 0) * packet.time_base))
            if packet.stream_index == stream.index:
                times.append(time)
    if duration is not None:
        length, slack = end - start, max(TOLERANCE_S, TOLERANCE_FRACTION * duration)
        if length < duration - slack:
            raise BadMedia(f"truncated: ends after {length:.2f} s of {duration:.2f} s")
    # The header of an avi file has no duration, only the number of its images.
    if num_images < num_promised * (1 - TOLERANCE_FRACTION) - 3:
        raise BadMedia(f"truncated: {num_images} of {num_promised} frames")
    if not times:
        raise BadMedia(f"zero length: the {kind} stream is empty")
    return PacketTimes(sorted(times), end)


def check_end(end_s: float, wanted_s: float | None) -> None:
    """Check that a file reaches the end of a time range.

    Args:
        end_s: End of the file, in seconds.
        wanted_s: End of the time range, in seconds; None for the end of the file.

    Raises:
        BadMedia: If the file ends before, by more than :data:`TOLERANCE_S`.

    Example:
        >>> check_end(9.8, wanted_s=10.0)  # within the tolerance
        >>> check_end(8.0, wanted_s=10.0)
        Traceback (most recent call last):
        ...
        mla_lightning.media.base.BadMedia: ends at 8.00 s, before the stretch does at 10.00 s
    """
    if wanted_s is not None and end_s < wanted_s - TOLERANCE_S:
        raise BadMedia(f"ends at {end_s:.2f} s, before the stretch does at {wanted_s:.2f} s")
