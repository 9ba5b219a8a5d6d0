"""A small IEMOCAP in the layout of its release."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mla_lightning.data.sources.iemocap import SESSIONS
from tests.fakes.media import picture, tone, write_film, write_wav

CODES = ("ang", "hap", "neu", "sad", "exc", "fru")
SAYINGS = {
    "ang": "I will not wait any longer. Go away!",
    "hap": "This is wonderful news. [LAUGHTER]",
    "exc": "Yes! We are going to the sea!",
    "neu": "The office opens at nine.",
    "sad": "He is gone, and I miss him.",
    "fru": "It is always the same.",
}
NUMBERS = {"ang": 0, "hap": 1, "exc": 1, "neu": 2, "sad": 3, "fru": 4}
SECONDS, FPS = 1.0, 5


def fake_iemocap(root: Path, *, per_code: int = 4, seed: int = 0) -> Path:
    """Write two dialogues per session, their speakers taking turns.

    On the speaker's half of the film is the picture of the emotion, on the other one grey.

    Args:
        root: Folder to write into.
        per_code: Turns per emotion and session, an even number.
        seed: Draws noise.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    for session in SESSIONS:
        for marked in "FM":
            dialog = f"Ses0{session}{marked}_impro01"
            home = root / f"Session{session}"
            frames: list[np.ndarray] = []
            emotions, said = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
            for turn, code in enumerate(code for code in CODES for _ in range(per_code // 2)):
                speaker = "FM"[turn % 2]
                id_ = f"{dialog}_{speaker}{turn:03d}"
                start, end = turn * SECONDS, (turn + 1) * SECONDS
                emotions += [f"[{start:.4f} - {end:.4f}]\t{id_}\t{code}\t[2.5000, 2.5000, 2.5000]"]
                emotions += [f"C-E2:\t{code};\t()", ""]
                said.append(f"{id_} [{start:08.4f}-{end:08.4f}]: {SAYINGS[code]}")
                sound = tone(NUMBERS[code], rng, SECONDS)
                write_wav(home / "sentences" / "wav" / dialog / f"{id_}.wav", sound)
                half = picture(NUMBERS[code], rng, 48, 32)
                grey = np.full_like(half, 128)
                is_left = speaker == marked
                both = np.concatenate([half, grey] if is_left else [grey, half], axis=1)
                frames += [both] * round(SECONDS * FPS)
            for kind, lines in (("EmoEvaluation", emotions), ("transcriptions", said)):
                folder = home / "dialog" / kind
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{dialog}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
            write_film(home / "dialog" / "avi" / "DivX" / f"{dialog}.avi", frames, FPS)
    return root
