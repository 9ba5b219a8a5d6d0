"""Sound as samples, from wav, flac, ogg and mp3 files and from films."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mla_lightning.media.containers import check_end, opened, packets_of, stream_of
from mla_lightning.media.files import media_file
from mla_lightning.media.parts import BadMedia, FilePart, Part

#: What libsndfile reads; everything else goes through PyAV.
SOUND_FILES = {".wav", ".flac", ".ogg", ".oga", ".aiff", ".aif", ".au", ".mp3"}
#: Sizes that programs write into the header of a wav file when they do not know the length yet.
_UNKNOWN_SIZE = {0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36}


def read_sound(raw: Path, part: Part, sample_rate: int) -> np.ndarray:
    """Read a part's sound.

    Args:
        raw: The raw folder.
        part: A sound file or a film, or a stretch of one.
        sample_rate: Samples per second of the result; other rates are resampled.

    Returns:
        (channels, N) float32, mostly between -1 and 1, N at least 1.

    Raises:
        BadMedia: If there is no sound to read.
    """
    path = media_file(raw, part)
    assert isinstance(part, FilePart)
    if path.suffix.lower() in SOUND_FILES:
        samples, rate = _from_sound_file(path, part)
    else:
        samples, rate = _from_film(path, part)
    if not samples.shape[1]:
        raise BadMedia("zero length: no sample of sound")
    if not np.isfinite(samples).all():
        raise BadMedia("samples that are not finite numbers")
    return resample(samples, rate, sample_rate)


def resample(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Change the rate of sound with FFmpeg's resampler, each channel for itself.

    Args:
        samples: (channels, N) float32.
        rate: Its samples per second.
        to: The wanted samples per second.

    Returns:
        (channels, about N * to / rate) float32; the same array where the rates are equal.
    """
    if rate == to:
        return samples
    import av

    channels = []
    for channel in samples:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(channel[None]), format="fltp", layout="mono"
        )
        frame.sample_rate = rate
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=to)
        pieces = [*resampler.resample(frame), *resampler.resample(None)]
        channels.append(np.concatenate([piece.to_ndarray()[0] for piece in pieces]))
    return np.stack(channels)


def _from_sound_file(path: Path, part: FilePart) -> tuple[np.ndarray, int]:
    import soundfile

    if path.suffix.lower() == ".wav":
        _check_wav(path)
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            start = round((part.start_s or 0.0) * rate)
            stop = file.frames if part.end_s is None else round(part.end_s * rate)
            if part.end_s is not None:
                check_end(file.frames / rate, part.end_s)
            if start >= file.frames:
                raise BadMedia(f"zero length: the sound ends at {file.frames / rate:.2f} s")
            file.seek(start)
            samples = file.read(stop - start, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise BadMedia(f"truncated or damaged: {_reason(error)}") from error
    return np.ascontiguousarray(samples.T), rate


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def _check_wav(path: Path) -> None:
    """Compare the length in the header with the file's: libsndfile reads what there is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) not in {b"RIFF", b"RIFX"} or size < 12:
            return  # whatever it is, libsndfile tells
        file.seek(12)
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                there = size - file.tell()
                if length not in _UNKNOWN_SIZE and there < length:
                    raise BadMedia(f"truncated: {there} of {length} bytes of sound")
                if length == 0 and there == 0:
                    raise BadMedia("zero length: no sample of sound")
                return
            file.seek(length + length % 2, 1)
    raise BadMedia("truncated: a wav header without sound")


def _from_film(path: Path, part: FilePart) -> tuple[np.ndarray, int]:
    import av

    packets = packets_of(path, "audio")
    check_end(packets.end_s, part.end_s)
    start_s, end_s = part.start_s, part.end_s
    pieces: list[np.ndarray] = []
    with opened(path) as container:
        stream = stream_of(container, "audio")
        rate = stream.rate
        convert = av.AudioResampler(format="fltp", rate=rate)
        if start_s:
            # One frame before, so that decoders that need a predecessor have one.
            container.seek(max(0, int((start_s - 0.1) * 1e6)), backward=True)
        for frame in container.decode(stream):
            begin = float(frame.time) if frame.time is not None else 0.0
            if start_s is not None and begin + frame.samples / rate <= start_s:
                continue
            if end_s is not None and begin >= end_s:
                break
            values = np.concatenate([f.to_ndarray() for f in convert.resample(frame)], axis=1)
            last = values.shape[1] if end_s is None else round((end_s - begin) * rate)
            first = 0 if start_s is None else max(0, round((start_s - begin) * rate))
            pieces.append(values[:, first : max(first, last)])
    if not pieces:
        raise BadMedia("zero length: no sound in the audio stream")
    return np.concatenate(pieces, axis=1), rate
