"""A small IEMOCAP in the layout of its release."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mla_lightning.data.sources.iemocap import SESSIONS
from tests.fakes.media import class_image, tone, write_video, write_wav

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
    """Write two dialogues per session, whose speakers alternate.

    The speaker's half of the video shows the image of the emotion, the other half is grey.

    Args:
        root: Folder to write into.
        per_code: Number of turns per emotion and session, even.
        seed: Seed of the noise.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    for session in SESSIONS:
        for marked in "FM":
            dialog = f"Ses0{session}{marked}_impro01"
            folder = root / f"Session{session}"
            frames: list[np.ndarray] = []
            emotions, transcript = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
            for turn, code in enumerate(code for code in CODES for _ in range(per_code // 2)):
                speaker = "FM"[turn % 2]
                id_ = f"{dialog}_{speaker}{turn:03d}"
                start, end = turn * SECONDS, (turn + 1) * SECONDS
                emotions += [f"[{start:.4f} - {end:.4f}]\t{id_}\t{code}\t[2.5000, 2.5000, 2.5000]"]
                emotions += [f"C-E2:\t{code};\t()", ""]
                transcript.append(f"{id_} [{start:08.4f}-{end:08.4f}]: {SAYINGS[code]}")
                samples = tone(NUMBERS[code], rng, SECONDS)
                write_wav(folder / "sentences" / "wav" / dialog / f"{id_}.wav", samples)
                half = class_image(NUMBERS[code], rng, 48, 32)
                grey = np.full_like(half, 128)
                is_left = speaker == marked
                frame = np.concatenate([half, grey] if is_left else [grey, half], axis=1)
                frames += [frame] * round(SECONDS * FPS)
            for kind, lines in (("EmoEvaluation", emotions), ("transcriptions", transcript)):
                path = folder / "dialog" / kind / f"{dialog}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            write_video(folder / "dialog" / "avi" / "DivX" / f"{dialog}.avi", frames, FPS)
    return root
