"""Detection of sound files that were cut off, which libsndfile reads as if they were shorter."""

from __future__ import annotations

from pathlib import Path

from mla_lightning.media.base import BadMedia
from mla_lightning.media.containers import TOLERANCE_FRACTION

#: Sizes that programs write into a header before they know the length.
_UNKNOWN_SIZE = {0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36}
#: Bit rates of MPEG layer III in kbit/s, by the index in a frame's header, for MPEG-1 and MPEG-2.
_BIT_RATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = (44100, 48000, 32000)
#: Tags that may follow the last frame of an MP3 file.
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")


def check_complete(path: Path) -> None:
    """Check that a sound file is as long as its own headers say, without decoding it.

    The format is recognised by the content: wav, aiff, au, ogg (Vorbis, Opus) or MP3. Other formats
    are checked by their readers.

    Args:
        path: The file.

    Raises:
        BadMedia: If the file was cut off.

    Example:
        >>> import numpy, soundfile, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.ogg")
        ...     soundfile.write(path, numpy.zeros(8000), 8000)
        ...     check_complete(path)
        ...     half = path.read_bytes()[:2000]
        ...     num_bytes = path.write_bytes(half)
        ...     check_complete(path)
        Traceback (most recent call last):
        ...
        mla_lightning.media.base.BadMedia: truncated: the last page is cut off
    """
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] in {b"RIFF", b"RIFX"} and head[8:] == b"WAVE":
        _check_chunks(path, b"data", is_big_endian=head[:4] == b"RIFX")
    elif head[:4] == b"FORM" and head[8:] in {b"AIFF", b"AIFC"}:
        _check_chunks(path, b"SSND", is_big_endian=True)
    elif head[:4] == b".snd" and len(head) == 12:
        start, length = (int.from_bytes(head[at : at + 4], "big") for at in (4, 8))
        _check_size(path.stat().st_size - start, length)
    elif head[:4] == b"OggS":
        _check_ogg(path.read_bytes())
    elif head[:3] == b"ID3" or _mp3_frame_length(head):
        _check_mp3(path.read_bytes())


def _check_size(available: int, length: int) -> None:
    if length not in _UNKNOWN_SIZE and available < length:
        raise BadMedia(f"truncated: {available} of {length} bytes of sound")
    if length == 0 and available <= 0:
        raise BadMedia("zero length: no sample of sound")


def _check_chunks(path: Path, name: bytes, *, is_big_endian: bool) -> None:
    """Compare the length of the chunk with the samples with the size of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[4:], "big" if is_big_endian else "little")
            if head[:4] == name:
                _check_size(size - file.tell(), length)
                return
            file.seek(length + length % 2, 1)
    raise BadMedia("truncated: a header without sound")


def _check_ogg(content: bytes) -> None:
    """Follow the pages (RFC 3533); the last one of each stream is marked as its end."""
    position, ended = 0, False
    while content[position : position + 4] == b"OggS":
        table = content[position + 27 : position + 27 + content[position + 26]]
        following = position + 27 + len(table) + sum(table)
        if following > len(content):
            raise BadMedia("truncated: the last page is cut off")
        ended = bool(content[position + 5] & 4)
        position = following
    if position >= len(content) and not ended:
        raise BadMedia("truncated: the last page is not the end of the stream")


def _check_mp3(content: bytes) -> None:
    """Count the frames and compare with the number in the first one (Xing, Info or VBRI)."""
    position = 0
    if content[:3] == b"ID3" and len(content) > 10:  # four times seven bits
        size = sum(byte << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
        position = 10 + size + 10 * bool(content[5] & 0x10)
    promised = _promised_mp3_frames(content[position : position + 200])
    num_frames, is_cut = -1 if promised else 0, position > len(content)
    while position < len(content):
        length = _mp3_frame_length(content[position : position + 4])
        if not length:
            if len(content) - position >= 4 and not content.startswith(_TAGS, position):
                return  # decoders skip what is not a frame, so the frames cannot be counted
            break
        position += length
        is_cut = position > len(content)
        num_frames += not is_cut
    if promised and num_frames < promised * (1 - TOLERANCE_FRACTION) - 1:
        raise BadMedia(f"truncated: {num_frames} of {promised} frames of sound")
    if is_cut and not promised:
        raise BadMedia("truncated: the last frame of sound is cut off")


def _mp3_frame_length(head: bytes) -> int:
    """Return the bytes of a frame of MPEG layer III from its header; 0 if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version = {3: 1, 2: 2, 0: 3}.get(head[1] >> 3 & 3, 0)  # MPEG-1, MPEG-2, "MPEG-2.5"
    bit_rate, sample_rate = head[2] >> 4, head[2] >> 2 & 3
    if not version or bit_rate in (0, 15) or sample_rate == 3:
        return 0
    bits = _BIT_RATES[min(version, 2)][bit_rate] * 1000
    rate = _SAMPLE_RATES[sample_rate] >> (version - 1)
    return (144 if version == 1 else 72) * bits // rate + (head[2] >> 1 & 1)


def _promised_mp3_frames(frame: bytes) -> int:
    """Return the number of frames that the first frame promises; 0 if it does not."""
    for name in (b"Xing", b"Info"):
        start = frame.find(name)
        if start > 0 and frame[start + 7 : start + 8] and frame[start + 7] & 1:
            return int.from_bytes(frame[start + 8 : start + 12], "big")
    start = frame.find(b"VBRI")
    return int.from_bytes(frame[start + 14 : start + 18], "big") if start > 0 else 0
