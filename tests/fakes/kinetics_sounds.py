"""A small Kinetics-400 in CVDF's layout."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from mla_lightning.data.sources.kinetics_sounds import CLASSES, COLUMNS, clip_name
from tests.fakes.media import RATE, class_image, tone, write_video


def fake_kinetics_sounds(
    root: Path, *, per_class: int = 6, num_classes: int = 31, seed: int = 0
) -> Path:
    """Write clips of a second, a third of them in the test, and both tables.

    Args:
        root: Folder to write into.
        per_class: Number of clips per class, at least three.
        num_classes: Number of classes with clips.
        seed: Seed of the noise.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    tables: dict[str, list[tuple[str, str, int, int]]] = {"train": [], "test": []}
    for number, label in enumerate(CLASSES[:num_classes]):
        for clip in range(per_class):
            split = "test" if clip >= per_class - max(1, per_class // 3) else "train"
            youtube_id, start = f"v{number:04d}-{clip:05d}", 10 * clip
            tables[split].append((label, youtube_id, start, start + 10))
            image = class_image(number, rng, 32, 48)
            frames = [np.roll(image, step, axis=1) for step in range(6)]
            name = clip_name(youtube_id, start, start + 10)
            samples = tone(number, rng, 0.6, RATE)
            write_video(root / split / f"{name}.mp4", frames, samples=samples)
    for split, rows in tables.items():
        rows.append(("abseiling", "x" * 11, 0, 10))  # the tables also have other classes
        with (root / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow((*COLUMNS, "split"))
            writer.writerows((*row, split) for row in rows)
    return root
