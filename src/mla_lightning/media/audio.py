"""Extractors of spectrograms: Kaldi's log-mel energies, and the two STFTs of released code."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from mla_lightning.errors import ConfigError, check_number, near
from mla_lightning.media.base import BadMedia, Extractor, MediaInput
from mla_lightning.media.waveform import read_waveform

#: Floor of the energies before the logarithm: the epsilon of float32, as in Kaldi and torchaudio.
_FLOOR = float(np.finfo(np.float32).eps)

CHANNELS = ("first", "mean")
PADDINGS = ("zero", "silence")


class LogMel(Extractor):
    """Log-mel energies as Kaldi's fbank computes them, for audio of any length.

    25 ms frames every 10 ms, Hann window, pre-emphasis 0.97, power spectrum, mel bins from 20 Hz to
    half the sample rate, natural logarithm. First the mean over all channels and samples is
    removed. Longer audio is cut at the end. By default the first channel is used, and shorter audio
    is padded after the logarithm with 0.0, which is louder than most sounds: so does the released
    code of AST, CAV-MAE and MLA. An import takes the mean of the channels and pads with silence.

    Attributes:
        shape: (num_frames, num_mels), time first.

    Example:
        A second has 98 whole frames. A tone of 1 kHz is loudest in the mel bin around 1 kHz:

        >>> extractor = LogMel(sample_rate=16000, num_mels=40)
        >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
        >>> energies = extractor.log_mel(tone)
        >>> energies.shape, int(energies[50].argmax())
        ((98, 40), 13)
    """

    kind = "spectrogram"
    dtype = "float16"

    def __init__(
        self,
        sample_rate: int = 16000,
        num_frames: int = 1024,
        num_mels: int = 128,
        channels: Literal["first", "mean"] = "first",
        padding: Literal["zero", "silence"] = "zero",
    ) -> None:
        """Set the sizes and the rules.

        Args:
            sample_rate: Samples per second; audio of another rate is resampled.
            num_frames: Number of frames of 10 ms; 1024 are 10.24 s.
            num_mels: Number of mel bins.
            channels: Whether the ``first`` channel is used or the ``mean`` of all channels.
            padding: Value after the end of shorter audio: ``zero``, or ``silence``, the energies of
                samples that are zero (-15.94).

        Raises:
            ConfigError: If a number is too small or a rule is unknown.
        """
        for name, value, least, most in (
            ("sample_rate", sample_rate, 1000, 10**6),
            ("num_frames", num_frames, 1, 10**6),
            ("num_mels", num_mels, 1, 1024),
        ):
            check_number(name, value, least, most)
        for name, rule, known in (("channels", channels, CHANNELS), ("padding", padding, PADDINGS)):
            if rule not in known:
                raise ConfigError(
                    f"{name} {rule!r} is unknown.{near(rule, known)} Known: {', '.join(known)}."
                )
        self.sample_rate, self.num_frames, self.num_mels = sample_rate, num_frames, num_mels
        self.channels, self.padding = channels, padding
        self.shape = (num_frames, num_mels)

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read an audio file or the audio of a video; see :class:`Extractor`."""
        samples = read_waveform(raw, media_input, self.sample_rate)
        mean = samples.mean(dtype=np.float64)
        is_first = self.channels == "first"
        channel = samples[0].astype(np.float64) if is_first else samples.mean(0, dtype=np.float64)
        energies = self.log_mel(channel - mean)
        padding = 0.0 if self.padding == "zero" else np.log(_FLOOR)
        result = np.full(self.shape, padding, dtype=self.dtype)
        energies = energies[: self.num_frames]
        result[: len(energies)] = energies
        return result

    def options(self) -> dict[str, Any]:
        """Return the options that change the result."""
        return {
            "extractor": "log_mel",
            "version": 1,
            "sample_rate": self.sample_rate,
            "num_frames": self.num_frames,
            "num_mels": self.num_mels,
            # Stores that were prepared before these options existed keep their identity.
            **({"channels": self.channels} if self.channels != "first" else {}),
            **({"padding": self.padding} if self.padding != "zero" else {}),
        }

    def log_mel(self, samples: np.ndarray) -> np.ndarray:
        """Compute the log-mel energies of a waveform.

        Args:
            samples: (N,) float64, its mean removed.

        Returns:
            (1 + (N - frame) // shift, num_mels) float64; only whole frames (Kaldi's snip_edges).

        Raises:
            BadMedia: If the waveform is shorter than one frame.
        """
        size, shift = self.sample_rate * 25 // 1000, self.sample_rate * 10 // 1000
        if len(samples) < size:
            raise BadMedia(f"zero length: {len(samples)} samples are less than one frame of 25 ms")
        # Frames that would be cut afterwards are not computed.
        samples = samples[: size + shift * (self.num_frames - 1)]
        frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::shift]
        frames = frames - frames.mean(axis=1, keepdims=True)
        emphasised = frames.copy()
        emphasised[:, 1:] -= 0.97 * frames[:, :-1]
        emphasised[:, 0] -= 0.97 * frames[:, 0]
        spectrum = np.fft.rfft(emphasised * np.hanning(size), n=self._fft_size, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        mel = np.empty((len(power), self.num_mels))
        for number, (first, weights) in enumerate(self._filters):
            # Few bins each; and no BLAS, so that the number of threads cannot change the rounding.
            mel[:, number] = (power[:, first : first + len(weights)] * weights).sum(axis=1)
        return np.log(np.maximum(mel, _FLOOR))

    @property
    def _fft_size(self) -> int:
        return 1 << (self.sample_rate * 25 // 1000 - 1).bit_length()

    @cached_property
    def _filters(self) -> list[tuple[int, np.ndarray]]:
        """Return triangles of equal width on the mel scale: first bin and weights of each."""
        bins = np.arange(self._fft_size // 2) * self.sample_rate / self._fft_size
        bins_mel = _to_mel(bins)
        edges = np.linspace(_to_mel(20.0), _to_mel(self.sample_rate / 2), self.num_mels + 2)
        filters = []
        for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
            rising = (bins_mel - left) / (centre - left)
            falling = (right - bins_mel) / (right - centre)
            weights = np.maximum(0.0, np.minimum(rising, falling))
            inside = np.flatnonzero(weights)
            first, last = (inside[0], inside[-1] + 1) if len(inside) else (0, 0)
            filters.append((int(first), weights[first:last]))
        return filters


def _to_mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


class _Recipe(NamedTuple):
    sample_rate: int
    num_samples: int
    fft_size: int
    hop: int


#: Recipes of released code: OGM-GE's CramedDataset, and its VGGSoundDataset (MLA's extract_spec).
RECIPES = {
    "ogm_cremad": _Recipe(22050, 66150, 512, 353),
    "vggsound": _Recipe(16000, 80000, 256, 128),
}


class Stft(Extractor):
    """The logarithm of a short-time Fourier transform's magnitude, as released code computes it.

    ``ogm_cremad``: 22,050 Hz, repeated to at least three seconds, of which the first three are
    used, (257, 188). ``vggsound``: 16,000 Hz, doubled to at least ten seconds, of which five are
    used, (129, 626); the released code draws the five at random, also in the test, here they are
    the middle of the first ten. Both: mean of the channels, clipped to -1 and 1, Hann window, edges
    mirrored, log(x + 1e-7).

    Attributes:
        shape: (frequencies, frames), frequency first.

    Example:
        >>> Stft("ogm_cremad").shape, Stft("vggsound").shape
        ((257, 188), (129, 626))
        >>> Stft("vggsound").window(np.ones(16000)).shape  # one second, repeated to five
        (80000,)
    """

    kind = "spectrogram"
    dtype = "float16"
    VARIANTS: ClassVar[tuple[str, ...]] = tuple(RECIPES)

    def __init__(self, variant: Literal["ogm_cremad", "vggsound"] = "ogm_cremad") -> None:
        """Choose a recipe.

        Args:
            variant: ``ogm_cremad`` or ``vggsound``.

        Raises:
            ConfigError: If the recipe is unknown.
        """
        if variant not in RECIPES:
            raise ConfigError(
                f"variant {variant!r} is unknown.{near(variant, RECIPES)} "
                f"Known: {', '.join(RECIPES)}."
            )
        self.variant = variant
        self.recipe = recipe = RECIPES[variant]
        self.shape = (recipe.fft_size // 2 + 1, recipe.num_samples // recipe.hop + 1)

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read an audio file or the audio of a video; see :class:`Extractor`."""
        channels = read_waveform(raw, media_input, self.recipe.sample_rate)
        samples = self.window(channels.mean(axis=0, dtype=np.float64))
        return self.log_magnitude(samples).astype(self.dtype)

    def options(self) -> dict[str, Any]:
        """Return the options that change the result."""
        return {"extractor": "stft", "version": 1, "variant": self.variant}

    def window(self, samples: np.ndarray) -> np.ndarray:
        """Cut the time range that is transformed.

        Args:
            samples: (N,) waveform of any length from 1.

        Returns:
            (num_samples,) between -1 and 1.
        """
        length, rate = self.recipe.num_samples, self.recipe.sample_rate
        start, needed = 0, length
        if self.variant == "vggsound":
            start, needed = rate * 5 // 2, 10 * rate
        # Doubling and repeating give the same samples within the time range.
        samples = np.tile(samples, -(-needed // len(samples)))
        return np.clip(samples[start : start + length], -1.0, 1.0)

    def log_magnitude(self, samples: np.ndarray) -> np.ndarray:
        """Compute the logarithm of the magnitudes of a waveform's transform.

        Args:
            samples: (num_samples,) waveform.

        Returns:
            (frequencies, frames) float64.
        """
        size, hop = self.recipe.fft_size, self.recipe.hop
        padded = np.pad(samples, size // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
        window = np.hanning(size + 1)[:-1]  # periodic, as for spectral analysis
        return np.log(np.abs(np.fft.rfft(frames * window, axis=1)).T + 1e-7)
