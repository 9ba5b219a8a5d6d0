"""Handwritten digits of 8 x 8 pixels, the upper and the lower half: two arrays in one file.

pip install scikit-learn; python -m experiments.own_data.digits digits.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def write(file: Path) -> None:
    """Write the halves and the digit.

    Args:
        file: The ``.npz`` file.
    """
    from sklearn.datasets import load_digits

    pixels, label = load_digits(return_X_y=True)
    np.savez(file, upper=pixels[:, :32], lower=pixels[:, 32:], label=label)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
