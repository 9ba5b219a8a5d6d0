"""OpenMoji: the drawings of emojis and their English names, eight classes.

The package contains the data. Drawings: OpenMoji 17 (openmoji.org), CC BY-SA 4.0, see
``openmoji-LICENSE.txt``; names: Unicode CLDR; classes: Unicode's groups without flags.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.data.descriptions.openmoji import DIGEST, OpenMojiDescription
from mla_lightning.data.splits import SPLITS
from mla_lightning.errors import DataError, reason_of
from mla_lightning.media.tokens import token_ids

FILE = Path(__file__).with_name("openmoji.npz")
NUM_BUCKETS = 4096


class OpenMoji(OpenMojiDescription, MultimodalDataModule):  # type: ignore[misc]  # name
    """The drawings of OpenMoji (image) and the names of the emojis (text), 1629 in 8 classes.

    Variants of one emoji (gender, hair, direction, skin), equal names and equal images are in one
    split. ``image``: (3, 32, 32) float32, 0 for white to 1. ``text``: (L,) int64, hashed words and
    trigrams of the name in 4096 buckets, 0 for padding.
    """

    def sample_names(self, split: str, numbers: Sequence[int]) -> list[str]:
        """Return the emojis' names."""
        arrays = read_arrays(FILE)
        names = arrays["name"][arrays["split"] == SPLITS.index(split)]
        return [str(names[number]) for number in numbers]

    def load_splits(self) -> Mapping[str, Split]:
        """Read the packaged file.

        Returns:
            Split -> image (N, 3, 32, 32), text (N, L), label (N,).

        Raises:
            DataError: If the file is missing, broken, or holds other data.
        """
        arrays = read_arrays(FILE)
        # White is 0, like the padding of convolutions, so that padding adds no edges.
        image = 1.0 - torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2).float() / 255.0
        text = token_ids(arrays["name"].tolist(), NUM_BUCKETS)
        label = torch.from_numpy(arrays["label"].astype(np.int64))
        splits = {}
        for code, split in enumerate(SPLITS):
            rows = torch.from_numpy(np.flatnonzero(arrays["split"] == code))
            inputs = {"image": image[rows].contiguous(), "text": text[rows]}
            groups = arrays["group"][rows.numpy()].astype(str).tolist()
            splits[split] = Split(inputs, label[rows], groups=groups)
        return splits


def read_arrays(path: Path = FILE) -> dict[str, np.ndarray]:
    """Read a data file.

    Args:
        path: The file.

    Returns:
        ``image`` (N, 32, 32, 3) uint8 RGB, ``name`` and ``emoji`` (N,) text, ``label`` (N,) uint8,
        ``group`` (N,) int16, ``split`` (N,) uint8: 0 train, 1 validation, 2 test.

    Raises:
        DataError: If the file is missing, broken, or holds other data.
    """
    remedy = "Install mla_lightning again, or rebuild it: mla data prepare openmoji"
    try:
        # Opened here, because NumPy does not close a broken archive.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = dict(file)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing. {remedy} target={path}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} is broken: {reason_of(error, path)}. {remedy} target={path}"
        ) from error
    if (digest := array_digest(arrays)) != DIGEST:
        raise DataError(
            f"{path} holds other data than this version of mla_lightning was made for (SHA-256 "
            f"{digest}, not {DIGEST}). {remedy} target={path}"
        )
    return arrays


def array_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash the content of arrays, which does not depend on the compression of their file.

    Args:
        arrays: The arrays by name.

    Returns:
        SHA-256 of names, types, shapes and values, as hexadecimal text.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
