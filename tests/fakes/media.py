"""Small audio, image and video files with audible and visible classes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

RATE, FLV_RATE = 16000, 22050
#: Colours that small networks can classify.
COLOURS = (
    (220, 40, 40),
    (40, 200, 60),
    (50, 70, 230),
    (230, 210, 40),
    (200, 50, 210),
    (30, 200, 210),
)
CODECS = {
    ".flv": ("flv", "libmp3lame", "s16p", FLV_RATE),
    ".mp4": ("libx264", "aac", "fltp", RATE),
    ".avi": ("mpeg4", "libmp3lame", "s16p", FLV_RATE),
}


def tone(number: int, rng: np.random.Generator, seconds: float, rate: int = RATE) -> np.ndarray:
    """Return a noisy tone whose pitch depends on the class: (N,) float32."""
    time = np.arange(round(seconds * rate)) / rate
    hertz = 200.0 * 1.35 ** (number % 8) * rng.uniform(0.98, 1.02)
    noise = rng.normal(0, 0.05, len(time))
    return (0.4 * np.sin(2 * np.pi * hertz * time) + noise).astype(np.float32)


def class_image(
    number: int, rng: np.random.Generator, height: int = 48, width: int = 64
) -> np.ndarray:
    """Return a noisy image whose colour and stripes depend on the class: (H, W, 3) uint8."""
    colour = np.array(COLOURS[number % len(COLOURS)], dtype=float)
    stripes = np.sin(np.arange(width) * (0.2 + 0.25 * (number // len(COLOURS))))
    values = colour + 25 * stripes[None, :, None] + rng.normal(0, 20, (height, width, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    """Write samples with 16 bits."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write an image in the format of the file's suffix."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_video(
    path: Path, frames: list[np.ndarray], fps: int = 10, samples: np.ndarray | None = None
) -> None:
    """Write a video, with audio if there are samples, in the format of the file's suffix.

    Args:
        path: The file, ``.flv``, ``.mp4`` or ``.avi``.
        frames: Images (H, W, 3) uint8.
        fps: Frames per second.
        samples: (N,) in [-1, 1], at the rate of :data:`CODECS`.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    codec, audio_codec, audio_format, rate = CODECS[path.suffix]
    container: Any = av.open(str(path), "w")
    with container as out:
        video = out.add_stream(codec, rate=fps)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt, video.bit_rate = "yuv420p", 1_000_000
        audio = None if samples is None else out.add_stream(audio_codec, rate=rate, layout="mono")
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is None or samples is None:
            return
        values = (
            samples[None] if audio_format == "fltp" else (samples[None] * 32767).astype(np.int16)
        )
        size = audio.codec_context.frame_size or 1024
        for start in range(0, values.shape[1], size):
            piece = np.ascontiguousarray(values[:, start : start + size])
            frame = av.AudioFrame.from_ndarray(piece, format=audio_format, layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
