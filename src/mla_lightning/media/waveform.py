"""Waveforms of audio files and of video files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mla_lightning.media.base import BadMedia, FileInput, MediaInput
from mla_lightning.media.containers import (
    check_end,
    first_stream,
    open_container,
    read_packet_times,
)
from mla_lightning.media.files import media_file, wrong_ending
from mla_lightning.media.truncation import check_complete

#: Files that libsndfile reads; PyAV reads all others.
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".aiff", ".aif", ".au", ".mp3"}


def read_waveform(raw: Path, media_input: MediaInput, sample_rate: int) -> np.ndarray:
    """Read the samples of a file's audio.

    Args:
        raw: The raw folder.
        media_input: An audio or video file, or a time range of one.
        sample_rate: Samples per second of the result; audio of another rate is resampled.

    Returns:
        (channels, N) float32, mostly between -1 and 1, N at least 1.

    Raises:
        BadMedia: If the file has no audio that can be read.

    Example:
        >>> import soundfile, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     soundfile.write(Path(folder, "a.wav"), np.full(4000, 0.5), samplerate=8000)
        ...     half = FileInput(Path("a.wav"), start_s=0.25)
        ...     samples = read_waveform(Path(folder), half, sample_rate=8000)
        >>> samples.shape, float(samples[0, 0])
        ((1, 2000), 0.5)
    """
    path = media_file(raw, media_input)
    assert isinstance(media_input, FileInput)
    check_complete(path)
    if path.suffix.lower() in AUDIO_SUFFIXES:
        samples, rate = _read_audio_file(path, media_input)
    else:
        samples, rate = _read_video_file(path, media_input)
    if not samples.shape[1]:
        raise BadMedia("zero length: no sample of sound")
    if not np.isfinite(samples).all():
        raise BadMedia("samples that are not finite numbers")
    return resample(samples, rate, sample_rate)


def resample(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Change the sample rate with FFmpeg's resampler, one channel at a time.

    Args:
        samples: (channels, N) float32.
        rate: Samples per second of ``samples``.
        to: Samples per second of the result.

    Returns:
        (channels, about N * to / rate) float32; the same array where the rates are equal.

    Example:
        >>> resample(np.zeros((2, 44100), dtype=np.float32), 44100, 22050).shape
        (2, 22050)
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


def _read_audio_file(path: Path, media_input: FileInput) -> tuple[np.ndarray, int]:
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            start = round((media_input.start_s or 0.0) * rate)
            end_s = media_input.end_s
            stop = file.frames if end_s is None else round(end_s * rate)
            check_end(file.frames / rate, end_s)
            if start >= file.frames:
                raise BadMedia(f"zero length: the sound ends at {file.frames / rate:.2f} s")
            file.seek(start)
            samples = file.read(stop - start, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise BadMedia(wrong_ending(path) or f"truncated or damaged: {_reason(error)}") from error
    return np.ascontiguousarray(samples.T), rate


def _reason(error: Exception) -> str:
    reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
    # Of a file that exists, libsndfile says so if it does not know the format.
    return "no format of sound" if reason.startswith("File does not exist") else reason


def _read_video_file(path: Path, media_input: FileInput) -> tuple[np.ndarray, int]:
    import av

    start_s, end_s = media_input.start_s, media_input.end_s
    check_end(read_packet_times(path, "audio").end_s, end_s)
    pieces: list[np.ndarray] = []
    with open_container(path) as container:
        stream = first_stream(container, "audio")
        rate = stream.rate
        convert = av.AudioResampler(format="fltp", rate=rate)
        if start_s:
            # One frame earlier, because some decoders need the frame before.
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
