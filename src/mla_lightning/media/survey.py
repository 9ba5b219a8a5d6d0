"""Survey of media files: their lengths and sizes, and the options of an import that fit them."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.media.base import BadMedia
from mla_lightning.media.containers import first_stream, open_container, read_packet_times
from mla_lightning.media.waveform import AUDIO_SUFFIXES

#: Largest number of files whose headers are read; of more, as many are read at equal distances.
MAX_FILES = 2000
#: Fraction of the files that the options keep whole.
QUANTILE = 0.95
#: Shortest and longest sound that is proposed, in frames of 10 ms, and largest and smallest image,
#: in pixels; small networks need 8 of either.
MIN_FRAMES, MAX_FRAMES, MAX_PIXELS, MIN_PIXELS = 16, 1024, 224, 16
#: Fewest and most tokens of a text that are proposed.
MIN_TOKENS, MAX_TOKENS = 8, 512
#: Smallest and largest number of segments of a film, about one per second between.
SEGMENTS = (3, 8)
#: Everything is kept if the longest is at most this many times longer than the quantile.
_NEAR = 1.25
_Measure = Callable[[Path], Any]
_Measures = Callable[[_Measure], np.ndarray]


@dataclass(frozen=True)
class Survey:
    """Options of an import that fit a set of files, and the reasons.

    Attributes:
        options: Option -> proposed value: ``num_frames`` of sounds, ``size`` of images, ``size``
            and ``num_segments`` of films, ``length`` of texts, ``shape`` of files of features.
        sentences: Sentences about the files and about what the options cut.
    """

    options: dict[str, Any] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()


def survey(
    files: Iterable[Any],
    kind: str,
    opened: Callable[[Any], AbstractContextManager[Path]] = contextlib.nullcontext,
) -> Survey:
    """Read the headers of files and propose options that fit most of them.

    Files that cannot be opened are left out: the import itself refuses them.

    Args:
        files: The files.
        kind: ``audio``, ``image`` or ``video``; nothing is proposed for other kinds.
        opened: File -> context of its path; by default the files are paths.

    Returns:
        The options and the sentences; none if no file can be opened.

    Example:
        >>> import soundfile, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = [Path(folder, f"{number}.wav") for number in range(2)]
        ...     for path, seconds in zip(paths, (0.5, 0.8)):
        ...         soundfile.write(path, np.zeros(round(8000 * seconds)), 8000)
        ...     survey(paths, "audio")
        Survey(options={'num_frames': 80}, sentences=('sounds of 0.5 to 0.8 s, all kept whole',))
    """
    every = list(dict.fromkeys(files))
    chosen = every
    if len(every) > MAX_FILES:
        chosen = [every[number * len(every) // MAX_FILES] for number in range(MAX_FILES)]
    proposal = {"audio": _sounds, "image": _images, "video": _films}.get(kind)
    if proposal is None:
        return Survey()
    result = proposal(lambda measure: _measured(chosen, opened, measure))
    if result.sentences and len(chosen) < len(every):
        note = f"read from the headers of {len(chosen):,} of {len(every):,} files"
        result = Survey(result.options, (*result.sentences, note))
    return result


def survey_texts(num_tokens: Sequence[int]) -> Survey:
    """Propose the number of tokens that keeps most texts whole.

    Args:
        num_tokens: Number of tokens of each text.

    Returns:
        The option ``length`` and a sentence; nothing without a text.

    Example:
        >>> survey_texts([9, 12, 30])
        Survey(options={'length': 30}, sentences=('texts of 9 to 30 tokens, all kept whole',))
        >>> survey_texts([10] * 98 + [400] * 2).sentences
        ('texts of 10 to 400 tokens, kept to 10: 2 % are cut; length=400 keeps all',)
    """
    if not num_tokens:
        return Survey()
    counts = np.array(num_tokens, dtype=np.float64)
    length = int(min(max(_kept(counts), MIN_TOKENS), MAX_TOKENS))
    extent = " to ".join(dict.fromkeys(f"{count:.0f}" for count in (counts.min(), counts.max())))
    is_cut = counts > length
    if not is_cut.any():
        return Survey({"length": length}, (f"texts of {extent} tokens, all kept whole",))
    percent = 100 * float(is_cut.mean())
    share = f"{percent:.0f} %" if percent >= 1 else "less than 1 %"
    sentence = (
        f"texts of {extent} tokens, kept to {length}: {share} are cut; "
        f"length={counts.max():.0f} keeps all"
    )
    return Survey({"length": length}, (sentence,))


def _sounds(measures_of: _Measures) -> Survey:
    seconds = measures_of(_sound_seconds)
    if not len(seconds):
        return Survey()
    wanted = math.ceil(round(_kept(seconds) * 100, 6))
    num_frames = min(max(wanted, MIN_FRAMES), MAX_FRAMES)
    # 1024 frames are 10.24 s, which the default of the import calls ten seconds.
    return Survey({"num_frames": num_frames}, _cut("sounds", seconds, num_frames / 100))


def _films(measures_of: _Measures) -> Survey:
    measures = measures_of(_film_measures)
    if not len(measures):
        return Survey()
    seconds, sides = measures[:, 0], measures[:, 1:]
    least, most = SEGMENTS
    num_segments = min(max(math.ceil(_kept(seconds)), least), most)
    size, sentence = _size("films", sides)
    frames = f"films of {_range(seconds)} s, {num_segments} frames of each at equal distances"
    return Survey({"size": size, "num_segments": num_segments}, (frames, sentence))


def _images(measures_of: _Measures) -> Survey:
    sides = measures_of(_image_sides)
    if not len(sides):
        return Survey()
    size, sentence = _size("images", sides)
    return Survey({"size": size}, (sentence,))


def _measured(
    files: Sequence[Any],
    opened: Callable[[Any], AbstractContextManager[Path]],
    measure: _Measure,
) -> np.ndarray:
    """Return the measures of the files that can be opened."""
    measures = []
    for file in files:
        with (
            contextlib.suppress(BadMedia, OSError, ValueError, SyntaxError, RuntimeError),
            opened(file) as path,
        ):
            measures.append(measure(path))
    return np.array(measures, dtype=np.float64)


def _kept(lengths: np.ndarray) -> float:
    """Return the length that keeps most of the files whole, or all if that costs little."""
    quantile = float(np.quantile(lengths, QUANTILE, method="higher"))
    longest = float(lengths.max())
    return longest if longest <= quantile * _NEAR else quantile


def _cut(name: str, seconds: np.ndarray, kept_s: float) -> tuple[str, ...]:
    is_cut = seconds > kept_s + 0.005
    if not is_cut.any():
        return (f"{name} of {_range(seconds)} s, all kept whole",)
    percent = 100 * float(is_cut.mean())
    share = f"{percent:.0f} %" if percent >= 1 else "less than 1 %"
    return (
        f"{name} of {_range(seconds)} s, kept to {kept_s:.1f} s: {share} are cut; "
        f"num_frames={math.ceil(round(seconds.max() * 100, 6))} keeps all",
    )


def _size(name: str, sides: np.ndarray) -> tuple[int, str]:
    """Return the height and width that fit pictures (N, 2), and the sentence about it."""
    shorter = _kept(sides.min(axis=1))
    size = int(min(max(shorter, MIN_PIXELS), MAX_PIXELS))
    smallest, largest = (sides[int(pick(sides.prod(axis=1)))] for pick in (np.argmin, np.argmax))
    texts = [f"{width:.0f} x {height:.0f}" for width, height in (smallest, largest)]
    sizes = texts[0] if texts[0] == texts[1] else " to ".join(texts)
    elongation = float((sides.max(axis=1) / sides.min(axis=1)).max())
    squares = f", stretched (up to {elongation:.1f} times longer than wide)"
    return size, (
        f"{name} of {sizes} pixels, read as {size} x {size}{squares if elongation > 1.05 else ''}"
    )


def _range(values: np.ndarray) -> str:
    texts = [f"{value:.1f}" for value in (values.min(), values.max())]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


# ---------------------------------------------------------------------- one file


def _sound_seconds(path: Path) -> float:
    import soundfile

    if path.suffix.lower() in AUDIO_SUFFIXES:
        information = soundfile.info(str(path))
        return float(information.frames / information.samplerate)
    return _duration(path, "audio")


def _duration(path: Path, kind: str) -> float:
    with open_container(path) as container:
        first_stream(container, kind)
        # FFmpeg guesses the duration of AAC without a container from its bit rate.
        if container.duration and container.format.name != "aac":
            return float(container.duration / 1e6)
    return read_packet_times(path, kind).end_s


def _film_measures(path: Path) -> tuple[float, float, float]:
    with open_container(path) as container:
        context = first_stream(container, "video").codec_context
        width, height = context.width, context.height
    if not width or not height:
        raise BadMedia("no size")
    return _duration(path, "video"), width, height


def _image_sides(path: Path) -> tuple[float, float]:
    from PIL import Image as pil

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pil.open(path) as image:
            return image.size
