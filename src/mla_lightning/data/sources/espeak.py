"""Words spoken by espeak-ng, with the library of an unpacked wheel.

The synthesis runs in a separate process, ``python -m mla_lightning.data.sources.espeak``. The
library keeps state from one word to the next, so only a new process gives the same result for the
same list; and a crash of the library does not end the caller.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from mla_lightning.errors import DataError

SAMPLE_RATE = 22050
LIBRARIES = ("libespeak-ng.so", "libespeak-ng.dylib", "espeak-ng.dll")
#: espeak-ng truncates longer paths of its data.
MAX_PATH_LENGTH = 120
# Constants of speak_lib.h.
_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8, _RATE, _PITCH = 2, 0x8000, 1, 1, 3


@dataclass(frozen=True)
class Utterance:
    """A word with its voice, rate and pitch.

    Attributes:
        text: The word.
        voice: Voice and variant of espeak-ng, such as ``en-us+f3``.
        rate: Words per minute.
        pitch: From 0 to 99.
    """

    text: str
    voice: str
    rate: int
    pitch: int


def variants(folder: Path) -> list[str]:
    """List the voice variants of espeak-ng that give the same samples every time.

    Variants with breath are left out, because the seed of their noise is the clock.

    Args:
        folder: The folder with the library and ``espeak-ng-data``.

    Returns:
        Their names, sorted.

    Raises:
        DataError: If there are none.
    """
    voices = folder / "espeak-ng-data" / "voices" / "!v"
    files = [path for path in voices.glob("*") if path.is_file()]
    names = sorted(path.name for path in files if not _has_breath(path))
    if not names:
        raise DataError(f"{voices} holds no voice variants; is {folder} espeakng_loader's folder?")
    return names


def speak(folder: Path, utterances: Sequence[Utterance]) -> list[np.ndarray]:
    """Synthesise utterances.

    Args:
        folder: The folder with the library and ``espeak-ng-data``.
        utterances: The utterances in order; the order changes the samples slightly, see the module.

    Returns:
        (N,) int16 samples at 22,050 Hz per utterance.

    Raises:
        DataError: If the library is missing or reports an error.
    """
    if len(str(folder.resolve())) > MAX_PATH_LENGTH:
        raise DataError(
            f"{folder.resolve()} is too long a path for espeak-ng, which takes {MAX_PATH_LENGTH} "
            "characters. Set MLA_CACHE to a shorter folder"
        )
    process = subprocess.run(
        [sys.executable, "-m", "mla_lightning.data.sources.espeak", str(folder.resolve())],
        input=json.dumps([astuple(utterance) for utterance in utterances]).encode(),
        capture_output=True,
        check=False,
    )
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"its process ended with {process.returncode}"
        raise DataError(f"espeak-ng in {folder} failed: {reason}")
    head, _, body = process.stdout.partition(b"\n")
    lengths = json.loads(head)
    samples = np.frombuffer(body, dtype="<i2").astype(np.int16)
    if sum(lengths) != len(samples):
        raise DataError(f"espeak-ng in {folder} failed: {len(samples)} samples, not {sum(lengths)}")
    return np.split(samples, np.cumsum(lengths)[:-1])


def _has_breath(path: Path) -> bool:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.startswith("breath") for line in lines)


def _main(folder: Path) -> int:
    """Synthesise the utterances of standard input; write lengths and samples to standard output."""
    path = next((folder / name for name in LIBRARIES if (folder / name).is_file()), None)
    if path is None:
        print(f"none of {', '.join(LIBRARIES)} exists", file=sys.stderr)
        return 1
    library = ctypes.CDLL(str(path))
    chunks: list[bytes] = []

    def collect(wave: int | None, number: int, _events: int | None) -> int:
        if wave and number > 0:
            chunks.append(ctypes.string_at(wave, 2 * number))
        return 0

    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(folder).encode(), _DO_NOT_EXIT)
    if rate != SAMPLE_RATE:
        print(f"its sample rate is {rate} Hz, not {SAMPLE_RATE}", file=sys.stderr)
        return 1
    callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    callback = callback_type(collect)  # referenced here, because the library keeps no reference
    library.espeak_SetSynthCallback(callback)
    waves = []
    for text, voice, speed, pitch in json.load(sys.stdin):
        chunks.clear()
        # Only the return value reports an unknown voice; the library would use the last voice.
        if library.espeak_SetVoiceByName(voice.encode()):
            print(f"it has no voice {voice!r}", file=sys.stderr)
            return 1
        library.espeak_SetParameter(_RATE, speed, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        word = text.encode() + b"\0"
        size = ctypes.c_size_t(len(word))
        if library.espeak_Synth(word, size, 0, 1, 0, _UTF8, None, None) or not chunks:
            print(f"it cannot speak {text!r} as {voice!r}", file=sys.stderr)
            return 1
        waves.append(b"".join(chunks))
    sys.stdout.buffer.write(json.dumps([len(wave) // 2 for wave in waves]).encode() + b"\n")
    sys.stdout.buffer.write(b"".join(waves))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
