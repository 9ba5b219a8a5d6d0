"""Extractor of coarse spectrograms of spoken words and sentences, for small encoders."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.errors import check_number
from mla_lightning.media.base import ArrayInput, BadMedia, Extractor, MediaInput
from mla_lightning.media.waveform import read_waveform, resample

WINDOW_MS, HOP_MS = 32, 20
#: Added to the power (1 for a full-scale constant) before the logarithm: what is 70 dB below full
#: scale counts as silence, so that the noise of a microphone does not fill the range of values.
_FLOOR = 1e-7


class ShortLogMel(Extractor):
    """Log-mel power of the start of a recording: 32 ms Hann windows every 20 ms, time first.

    Channels are averaged, the mean is removed, and shorter audio is padded with silence. The input
    is a file, or an array of int16 samples at ``array_rate``.

    Attributes:
        shape: (num_frames, num_mels).

    Example:
        Half a second of a tone is loud in its first 25 frames, then follows silence:

        >>> extractor = ShortLogMel(8000, num_frames=50, num_mels=40)
        >>> tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / 8000)
        >>> loudness = extractor.log_mel(tone).max(axis=1)
        >>> bool((loudness[:24] > -6).all()), float(loudness[-1].round(2))
        (True, -16.12)
    """

    kind = "spectrogram"
    dtype = "float16"

    def __init__(
        self,
        sample_rate: int = 16000,
        num_frames: int = 64,
        num_mels: int = 40,
        array_rate: int = 22050,
    ) -> None:
        """Set the sizes.

        Args:
            sample_rate: Samples per second; audio of another rate is resampled.
            num_frames: Number of frames of 20 ms.
            num_mels: Number of mel bins from 0 Hz to half the sample rate.
            array_rate: Samples per second of array inputs.

        Raises:
            ConfigError: If a number is too small.
        """
        for name, value, least, most in (
            ("sample_rate", sample_rate, 1000, 10**6),
            ("num_frames", num_frames, 1, 10**6),
            ("num_mels", num_mels, 1, 1024),
            ("array_rate", array_rate, 1000, 10**6),
        ):
            check_number(name, value, least, most)
        self.sample_rate, self.array_rate = sample_rate, array_rate
        self.num_frames, self.num_mels = num_frames, num_mels
        self.shape = (num_frames, num_mels)

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read a file or an array of samples; see :class:`Extractor`."""
        if isinstance(media_input, ArrayInput):
            values = media_input.values
            if values.ndim != 1 or values.dtype != np.int16 or not len(values):
                raise BadMedia(f"no int16 waveform: {values.shape} of {values.dtype}")
            waveform = (values / 32768.0).astype(np.float32)[None]
            samples = resample(waveform, self.array_rate, self.sample_rate)
        else:
            samples = read_waveform(raw, media_input, self.sample_rate)
        return self.log_mel(samples.mean(axis=0, dtype=np.float64)).astype(self.dtype)

    def options(self) -> dict[str, Any]:
        """Return the options that change the result."""
        return {
            "extractor": "short_log_mel",
            "version": 1,
            "sample_rate": self.sample_rate,
            "array_rate": self.array_rate,
            "num_frames": self.num_frames,
            "num_mels": self.num_mels,
        }

    def log_mel(self, samples: np.ndarray) -> np.ndarray:
        """Compute the log-mel power of a waveform.

        Args:
            samples: (N,) float64.

        Returns:
            (num_frames, num_mels) float64, natural logarithm.
        """
        size, hop = self.sample_rate * WINDOW_MS // 1000, self.sample_rate * HOP_MS // 1000
        padded = np.zeros(size + hop * (self.num_frames - 1))
        centred = (samples - samples.mean())[: len(padded)]
        padded[: len(centred)] = centred
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
        window = np.hanning(size + 1)[:-1]
        # Twice the window's length: with its length alone, the lowest filters would hold no bin.
        spectrum = np.fft.rfft(frames * window, n=2 * size, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2) / window.sum() ** 2
        mel = np.empty((self.num_frames, self.num_mels))
        for number, weights in enumerate(self._filters):
            inside = np.flatnonzero(weights)
            # Few bins each; and no BLAS, so that the number of threads cannot change the rounding.
            mel[:, number] = (power[:, inside] * weights[inside]).sum(axis=1)
        return np.log(mel + _FLOOR)

    @cached_property
    def _filters(self) -> np.ndarray:
        """Return triangles of equal width on the mel scale, (num_mels, bins)."""
        size = 2 * (self.sample_rate * WINDOW_MS // 1000)
        bins = 1127.0 * np.log1p(np.arange(size // 2 + 1) * self.sample_rate / size / 700.0)
        edges = np.linspace(0.0, bins[-1], self.num_mels + 2)
        rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
        return np.maximum(0.0, np.minimum(rising, falling))
