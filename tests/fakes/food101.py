"""A small UPMC Food-101 in its official layout."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tests.fakes.media import picture, write_picture

DISHES = ("apple_pie", "bibimbap", "caesar_salad", "donuts", "edamame")
SITES = ("recipe", "how to make", "best", "easy", "my grandmother's", "restaurant")


def fake_food101(root: Path, *, per_class: int = 12, num_classes: int = 4, seed: int = 0) -> Path:
    """Write photographs and titles, a quarter of them of the test part.

    Args:
        root: Folder to write into.
        per_class: Photographs per dish.
        num_classes: Dishes, at most five.
        seed: Draws noise and titles.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    tables: dict[str, list[tuple[str, str, str]]] = {"train": [], "test": []}
    for number, label in enumerate(DISHES[:num_classes]):
        for index in range(per_class):
            part = "test" if index % 4 == 3 else "train"
            file = f"{label}_{index}.jpg"
            pixels = picture(number, rng, 40 + index, 60)
            if index == 0:
                pixels = pixels[..., 0]  # grey files occur
            write_picture(root / "images" / part / label / file, pixels)
            word = SITES[rng.integers(len(SITES))]
            title = f"{word} {label.replace('_', ' ')}, no. {chr(97 + index)}{chr(97 + number)}"
            tables[part].append((file, title, label))
    (root / "texts").mkdir(parents=True, exist_ok=True)
    for part, rows in tables.items():
        with (root / "texts" / f"{part}_titles.csv").open("w", encoding="utf-8", newline="") as f:
            csv.writer(f).writerows(rows)
    return root
