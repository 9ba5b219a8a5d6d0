"""A small UPMC Food-101 in its official layout."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tests.fakes.media import class_image, write_image

DISHES = ("apple_pie", "bibimbap", "caesar_salad", "donuts", "edamame")
SITES = ("recipe", "how to make", "best", "easy", "my grandmother's", "restaurant")


def fake_food101(root: Path, *, per_class: int = 12, num_classes: int = 4, seed: int = 0) -> Path:
    """Write photographs and titles, a quarter of them in the test.

    Args:
        root: Folder to write into.
        per_class: Number of photographs per dish.
        num_classes: Number of dishes, at most five.
        seed: Seed of noise and titles.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    tables: dict[str, list[tuple[str, str, str]]] = {"train": [], "test": []}
    for number, label in enumerate(DISHES[:num_classes]):
        for index in range(per_class):
            split = "test" if index % 4 == 3 else "train"
            file = f"{label}_{index}.jpg"
            pixels = class_image(number, rng, 40 + index, 60)
            if index == 0:
                pixels = pixels[..., 0]  # the data set has grey images
            write_image(root / "images" / split / label / file, pixels)
            word = SITES[rng.integers(len(SITES))]
            title = f"{word} {label.replace('_', ' ')}, no. {chr(97 + index)}{chr(97 + number)}"
            tables[split].append((file, title, label))
    (root / "texts").mkdir(parents=True, exist_ok=True)
    for split, rows in tables.items():
        path = root / "texts" / f"{split}_titles.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return root
