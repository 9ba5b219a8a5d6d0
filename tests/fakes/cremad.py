"""A small CREMA-D in its official layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mla_lightning.data.sources.cremad import AUDIO_FOLDER, EMOTIONS, VIDEO_FOLDER
from tests.fakes.media import FLV_RATE, class_image, tone, write_video, write_wav


def fake_cremad(root: Path, *, num_actors: int = 10, seed: int = 0) -> Path:
    """Write one clip of a second per actor and emotion, as flv and wav.

    Args:
        root: Folder to write into.
        num_actors: Number of actors.
        seed: Seed of the noise.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    for actor in range(1001, 1001 + num_actors):
        for number, code in enumerate(EMOTIONS):
            name = f"{actor}_DFA_{code}_XX"
            write_wav(root / AUDIO_FOLDER / f"{name}.wav", tone(number, rng, 0.8))
            image = class_image(number, rng)
            frames = [np.roll(image, step, axis=1) for step in range(8)]
            samples = tone(number, rng, 0.8, FLV_RATE)
            write_video(root / VIDEO_FOLDER / f"{name}.flv", frames, samples=samples)
    return root
