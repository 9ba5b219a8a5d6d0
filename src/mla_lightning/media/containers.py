"""Films (flv, mp4, avi, ...) through PyAV: their streams, and whether they are whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mla_lightning.media.parts import BadMedia

#: A film counts as truncated if its data end earlier than its header says by more than these:
#: seconds, and share of the length. Headers are rounded, and sound and pictures end apart.
TOLERANCE_S, TOLERANCE = 0.5, 0.05


@dataclass(frozen=True)
class Packets:
    """What a pass over a film's packets tells, without decoding.

    Attributes:
        times_s: Time of every packet of the stream, in seconds, ascending.
        end_s: Where the last packet of any stream ends.
    """

    times_s: list[float]
    end_s: float


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a film.

    Args:
        path: The file.

    Yields:
        The container of PyAV.

    Raises:
        BadMedia: If it cannot be opened, or a damaged packet is met inside the block.
    """
    import av

    try:
        with av.open(str(path)) as container:
            yield container
    except av.error.FFmpegError as error:
        raise BadMedia(f"truncated or damaged: {error.strerror}") from error


def stream_of(container: Any, kind: str) -> Any:
    """Find the first stream of a kind.

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
    # Data sets are read by one process per core; more threads each would only be in the way.
    streams[0].codec_context.thread_count = 1
    return streams[0]


def packets_of(path: Path, kind: str) -> Packets:
    """Look at all packets of a film, which finds a truncated one without decoding it.

    Args:
        path: The file.
        kind: Stream to tell the times of: ``audio`` or ``video``.

    Returns:
        What was found.

    Raises:
        BadMedia: If the film is damaged, lacks the stream, or ends before its header says.
    """
    times, end, num_pictures = [], 0.0, 0
    with opened(path) as container:
        stream = stream_of(container, kind)
        duration = container.duration / 1e6 if container.duration else None
        start = container.start_time / 1e6 if container.start_time else 0.0
        promised = container.streams.video[0].frames if container.streams.video else 0
        for packet in container.demux():
            if promised and packet.stream_index == container.streams.video[0].index:
                num_pictures += packet.dts is not None or packet.size > 0
            if packet.is_corrupt:  # how FFmpeg marks what the file's end cuts through
                raise BadMedia("truncated or damaged: a packet is cut off")
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None or not packet.size:
                continue
            time = float(stamp * packet.time_base)
            end = max(end, time + float((packet.duration or 0) * packet.time_base))
            if packet.stream_index == stream.index:
                times.append(time)
    if duration is not None:
        found, slack = end - start, max(TOLERANCE_S, TOLERANCE * duration)
        if found < duration - slack:
            raise BadMedia(f"truncated: ends after {found:.2f} s of {duration:.2f} s")
    # An avi file tells no duration of its own, only how many pictures it holds.
    if num_pictures < promised * (1 - TOLERANCE) - 3:
        raise BadMedia(f"truncated: {num_pictures} of {promised} frames")
    if not times:
        raise BadMedia(f"zero length: the {kind} stream is empty")
    return Packets(sorted(times), end)


def check_end(end_s: float, wanted_s: float | None) -> None:
    """Check that a film reaches the end of a stretch.

    Args:
        end_s: Where the film ends.
        wanted_s: Where the stretch ends; None for the film's end.

    Raises:
        BadMedia: If the film ends before.
    """
    if wanted_s is not None and end_s < wanted_s - TOLERANCE_S:
        raise BadMedia(f"ends at {end_s:.2f} s, before the stretch does at {wanted_s:.2f} s")
