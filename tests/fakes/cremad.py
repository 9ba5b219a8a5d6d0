"""A small CREMA-D in its official layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mla_lightning.data.sources.cremad import EMOTIONS, FILMS, SOUNDS
from tests.fakes.media import FLV_RATE, picture, tone, write_film, write_wav


def fake_cremad(root: Path, *, num_actors: int = 10, seed: int = 0) -> Path:
    """Write one clip per actor and emotion, a second of flv and of wav each.

    Args:
        root: Folder to write into.
        num_actors: Number of actors.
        seed: Draws noise.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    for actor in range(1001, 1001 + num_actors):
        for number, code in enumerate(EMOTIONS):
            name = f"{actor}_DFA_{code}_XX"
            write_wav(root / SOUNDS / f"{name}.wav", tone(number, rng, 0.8))
            still = picture(number, rng)
            frames = [np.roll(still, step, axis=1) for step in range(8)]
            sound = tone(number, rng, 0.8, FLV_RATE)
            write_film(root / FILMS / f"{name}.flv", frames, samples=sound)
    return root
