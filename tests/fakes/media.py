"""Small sounds, pictures and films whose class can be heard and seen."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

RATE, FLV_RATE = 16000, 22050
#: Colours that small networks tell apart.
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
    """Make a noisy tone whose pitch tells a class: (N,) float32."""
    time = np.arange(round(seconds * rate)) / rate
    hertz = 200.0 * 1.35 ** (number % 8) * rng.uniform(0.98, 1.02)
    noise = rng.normal(0, 0.05, len(time))
    return (0.4 * np.sin(2 * np.pi * hertz * time) + noise).astype(np.float32)


def picture(number: int, rng: np.random.Generator, height: int = 48, width: int = 64) -> np.ndarray:
    """Make a noisy picture whose colour and stripes tell a class: (H, W, 3) uint8."""
    colour = np.array(COLOURS[number % len(COLOURS)], dtype=float)
    stripes = np.sin(np.arange(width) * (0.2 + 0.25 * (number // len(COLOURS))))
    values = colour + 25 * stripes[None, :, None] + rng.normal(0, 20, (height, width, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    """Write a sound of 16 bits."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write a picture in the format that the file's name tells."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_film(
    path: Path, frames: list[np.ndarray], fps: int = 10, samples: np.ndarray | None = None
) -> None:
    """Write a film, with sound if there are samples, in the format that the file's name tells.

    Args:
        path: The file, ``.flv``, ``.mp4`` or ``.avi``.
        frames: Pictures (H, W, 3) uint8.
        fps: Pictures per second.
        samples: (N,) in [-1, 1], at the rate of :data:`CODECS`.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    codec, sound_codec, form, rate = CODECS[path.suffix]
    container: Any = av.open(str(path), "w")
    with container as out:
        video = out.add_stream(codec, rate=fps)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt, video.bit_rate = "yuv420p", 1_000_000
        audio = None if samples is None else out.add_stream(sound_codec, rate=rate, layout="mono")
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is None or samples is None:
            return
        values = samples[None] if form == "fltp" else (samples[None] * 32767).astype(np.int16)
        size = audio.codec_context.frame_size or 1024
        for start in range(0, values.shape[1], size):
            piece = np.ascontiguousarray(values[:, start : start + size])
            sound = av.AudioFrame.from_ndarray(piece, format=form, layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = rate, start, Fraction(1, rate)
            out.mux(audio.encode(sound))
        out.mux(audio.encode(None))
