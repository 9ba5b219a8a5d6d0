"""Small real media files, written with the common libraries."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def tone(seconds, rate=16000, hertz=440.0, channels=1, loud=0.3):
    time = np.arange(round(seconds * rate)) / rate
    waves = [loud * np.sin(2 * np.pi * hertz * (1 + c) * time) for c in range(channels)]
    return np.stack(waves).astype(np.float32)


def write_wav(path, samples, rate=16000):
    """Write samples (channels, N) with 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.T * 32767).round().astype("<i2").tobytes())
    return path


def write_video(path, frames, fps=25, samples=None, rate=22050):
    """Write (T, H, W, 3) uint8 frames and (1, N) audio as flv, mp4 or avi, by the suffix."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, audio_codec, audio_format = {
        ".flv": ("flv", "libmp3lame", "s16p"),
        ".mp4": ("libx264", "aac", "fltp"),
        ".avi": ("mpeg4", "libmp3lame", "s16p"),
    }[path.suffix]
    with av.open(str(path), "w") as out:
        video = None
        if frames is not None:
            video = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "yuv420p"
            video.bit_rate = 2_000_000
        audio = None
        if samples is not None:
            audio = out.add_stream(audio_codec, rate=rate, layout="mono")
        if video is not None:
            for image in frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        if audio is not None:
            values = samples if audio_format == "fltp" else (samples * 32767).astype(np.int16)
            size = audio.codec_context.frame_size or 1024
            for start in range(0, values.shape[1], size):
                piece = np.ascontiguousarray(values[:, start : start + size])
                frame = av.AudioFrame.from_ndarray(piece, format=audio_format, layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
                out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return path


def grey_frames(levels, height=48, width=64):
    """Return one frame per grey level, so that the level of a decoded frame gives its number."""
    return np.stack([np.full((height, width, 3), level, dtype=np.uint8) for level in levels])
