"""Words spoken by espeak-ng, whose library is used from where it was unpacked.

The synthesis runs in a process of its own, ``python -m mla_lightning.data.sources.espeak``: the
library keeps state from one word to the next, so the same list must always meet it fresh; and
should it crash, the caller lives.
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
#: espeak-ng cuts longer paths of its data off.
LONGEST_PATH = 120
# Constants of speak_lib.h.
_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8, _RATE, _PITCH = 2, 0x8000, 1, 1, 3


@dataclass(frozen=True)
class Utterance:
    """A word and how it is spoken.

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
    """List the variants that every voice can take and that speak the same each time.

    Those with breath in their voice are left out: their noise is drawn from the clock.

    Args:
        folder: The folder with library and ``espeak-ng-data``.

    Returns:
        Their names, sorted.

    Raises:
        DataError: If there are none.
    """
    place = folder / "espeak-ng-data" / "voices" / "!v"
    found = sorted(path.name for path in place.glob("*") if path.is_file() and not _breathes(path))
    if not found:
        raise DataError(f"{place} holds no voice variants; is {folder} espeakng_loader's folder?")
    return found


def speak(folder: Path, utterances: Sequence[Utterance]) -> list[np.ndarray]:
    """Synthesise.

    Args:
        folder: The folder with library and ``espeak-ng-data``.
        utterances: What is said, in this order; the order matters a little, see the module.

    Returns:
        For each (N,) int16 samples at 22,050 Hz.

    Raises:
        DataError: If the library is missing or refuses.
    """
    if len(str(folder.resolve())) > LONGEST_PATH:
        raise DataError(
            f"{folder.resolve()} is too long a path for espeak-ng, which takes {LONGEST_PATH} "
            "characters. Set MLA_CACHE to a shorter folder"
        )
    done = subprocess.run(
        [sys.executable, "-m", "mla_lightning.data.sources.espeak", str(folder.resolve())],
        input=json.dumps([astuple(utterance) for utterance in utterances]).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"its process ended with {done.returncode}"
        raise DataError(f"espeak-ng in {folder} failed: {reason}")
    head, _, body = done.stdout.partition(b"\n")
    lengths = json.loads(head)
    samples = np.frombuffer(body, dtype="<i2").astype(np.int16)
    if sum(lengths) != len(samples):
        raise DataError(f"espeak-ng in {folder} failed: {len(samples)} samples, not {sum(lengths)}")
    return np.split(samples, np.cumsum(lengths)[:-1])


def _breathes(path: Path) -> bool:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.startswith("breath") for line in lines)


def _main(folder: Path) -> int:
    """Speak what standard input lists; lengths and samples go to standard output."""
    path = next((folder / name for name in LIBRARIES if (folder / name).is_file()), None)
    if path is None:
        print(f"none of {', '.join(LIBRARIES)} is there", file=sys.stderr)
        return 1
    library = ctypes.CDLL(str(path))
    chunks: list[bytes] = []

    def collect(wave: int | None, number: int, _events: int | None) -> int:
        if wave and number > 0:
            chunks.append(ctypes.string_at(wave, 2 * number))
        return 0

    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(folder).encode(), _DO_NOT_EXIT)
    if rate != SAMPLE_RATE:
        print(f"it started at {rate} Hz, not {SAMPLE_RATE}", file=sys.stderr)
        return 1
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    held = callback(collect)  # the library keeps no reference
    library.espeak_SetSynthCallback(held)
    spoken = []
    for text, voice, speed, pitch in json.load(sys.stdin):
        chunks.clear()
        # Unknown voices are refused by a return value alone, and the last voice goes on speaking.
        if library.espeak_SetVoiceByName(voice.encode()):
            print(f"it has no voice {voice!r}", file=sys.stderr)
            return 1
        library.espeak_SetParameter(_RATE, speed, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        word = text.encode() + b"\0"
        size = ctypes.c_size_t(len(word))
        if library.espeak_Synth(word, size, 0, 1, 0, _UTF8, None, None) or not chunks:
            print(f"it does not say {text!r} as {voice!r}", file=sys.stderr)
            return 1
        spoken.append(b"".join(chunks))
    sys.stdout.buffer.write(json.dumps([len(wave) // 2 for wave in spoken]).encode() + b"\n")
    sys.stdout.buffer.write(b"".join(spoken))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
