"""A small MVSA-Single in its official layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mla_lightning.data.sources.mvsa import LABELS, TABLE
from tests.fakes.media import class_image, write_image

WORDS = {
    "negative": ("terrible", "sad", "angry", "awful"),
    "neutral": ("table", "meeting", "monday", "report"),
    "positive": ("lovely", "happy", "great", "sunny"),
}


def fake_mvsa(root: Path, *, per_class: int = 20, seed: int = 0) -> Path:
    """Write tweets and their images, some of them with two different labels.

    Args:
        root: Folder to write into.
        per_class: Number of tweets per sentiment whose labels agree.
        seed: Seed of noise and words.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    rows: list[str] = []
    number, previous = 0, ""
    for index, label in enumerate(LABELS):
        for extra in range(per_class + 2):
            number += 1
            image_label = label if extra < per_class else LABELS[(index + 1) % 3]
            write_image(root / "data" / f"{number}.jpg", class_image(index, rng, 40, 50))
            first, second = rng.choice(WORDS[label], 2)
            unique = f"{chr(97 + number % 26)}{chr(97 + number // 26)}"
            text = f"{first} caf\xe9 {second} {unique} #{number}"
            if extra == 1:
                text = "RT " + previous + " http://t.co/x"  # a retweet of the previous tweet
            previous = text
            (root / "data" / f"{number}.txt").write_bytes(text.encode("latin-1"))
            rows.append(f"{number}\t{label},{image_label}")
    (root / TABLE).write_text("ID\ttext,image\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return root
