"""Movements of a smartwatch during seven shoulder exercises: a folder of arrays.

pip install seglearn==1.2.5; python -m experiments.own_data.watch watch
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

#: Every fourth of 50 samples per second is kept; a window has 32 of them, 2.56 seconds.
STRIDE, WINDOW = 4, 32
#: Subjects of validation and of test; the other six are of train.
VAL, TEST = (7, 8), (9, 10)


def write(folder: Path) -> None:
    """Write windows of acceleration and rotation, their exercise, subject and split.

    Args:
        folder: The folder of arrays; created.
    """
    from seglearn.datasets import load_watch

    recordings = load_watch()
    windows, label, group = [], [], []
    for series, exercise, subject in zip(
        recordings["X"], recordings["y"], recordings["subject"], strict=True
    ):
        steps = series[::STRIDE]
        num = len(steps) // WINDOW
        windows += np.split(steps[: num * WINDOW], num)
        label += [recordings["y_labels"][int(exercise)]] * num
        group += [int(subject)] * num
    values = np.stack(windows).astype(np.float32)
    folder.mkdir()
    np.save(folder / "acceleration.npy", values[..., :3])
    np.save(folder / "rotation.npy", values[..., 3:])
    np.save(folder / "label.npy", np.array(label))
    np.save(folder / "group.npy", np.array([f"subject {number}" for number in group]))
    split = ["val" if g in VAL else "test" if g in TEST else "train" for g in group]
    np.save(folder / "split.npy", np.array(split))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
