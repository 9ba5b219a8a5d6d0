"""Files of masks: which modalities of which samples a run hides, for other runs to use."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mla_lightning.data.splits import SPLITS
from mla_lightning.data.temporary import new_file
from mla_lightning.errors import DataError
from mla_lightning.functional.masks import missing_rate
from mla_lightning.paths import check_regular_file

if TYPE_CHECKING:
    from torch import Tensor


def write_masks(
    path: Path,
    masks: Mapping[str, Tensor],
    ids: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> None:
    """Write masks, unless the file exists.

    Args:
        path: The file, ``.npz``; its name contains the hash of the masks.
        masks: Split -> (N, M) bool, in the order of the samples' numbers.
        ids: Split -> names of the samples.
        metadata: ``data`` (fingerprint), ``split``, ``modalities``, ``seed``, ``sampler``,
            ``rate``, JSON-able.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rates = {split: missing_rate(mask) for split, mask in masks.items()}
    text = json.dumps({**metadata, "realised_rate": rates}, sort_keys=True)
    arrays: dict[str, Any] = {split: mask.numpy() for split, mask in masks.items()}
    arrays |= {f"{split}_id": np.array(list(names), dtype=str) for split, names in ids.items()}
    with new_file(path) as file:
        np.savez_compressed(file, about=np.array(text), **arrays)


def read_masks(path: Path, expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read masks and check that they are of the same data and protocol.

    Args:
        path: The file.
        expected: Keys of the metadata and the values that they must have.

    Returns:
        Split -> its mask.

    Raises:
        DataError: If the file holds no masks, or masks of another data set, split, modalities,
            sampler or rate.
    """
    import torch

    try:
        check_regular_file(path)
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz archive")  # NumPy would advise to trust a pickle
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if "about" not in file:
                raise ValueError("it holds other arrays")
            metadata = json.loads(str(file["about"]))
            masks = {split: torch.from_numpy(file[split]) for split in SPLITS if split in file}
        if not isinstance(metadata, dict):
            raise ValueError("its description is no object")
    except Exception as error:  # damage raises errors of many classes
        # NumPy advises to trust damaged arrays as pickles.
        reason = "an array is damaged" if "pickle" in str(error) else error
        raise DataError(
            f"missing.manifest={path} is no file of masks: {reason}. Give a file of "
            "paths.output_dir/masks, where runs with missing= write them"
        ) from error
    differences = [
        f"{key} {metadata.get(key)!r}, here {value!r}"
        for key, value in expected.items()
        if metadata.get(key) != value
    ]
    if differences:
        is_protocol = all(text.startswith(("sampler ", "rate ")) for text in differences)
        origin = "by another protocol" if is_protocol else "of other data"
        hint = " Set missing= and missing.rate= to the manifest's." if is_protocol else ""
        raise DataError(f"missing.manifest={path} is {origin}: {'; '.join(differences)}.{hint}")
    return masks


def checked_mask(path: Path, masks: Mapping[str, Tensor], split: str, present: Tensor) -> Tensor:
    """Return a split's mask of a file, after checking it against the samples.

    Args:
        path: The file.
        masks: Its masks.
        split: The split.
        present: (N, M) bool, the modalities that its samples have.

    Returns:
        The mask.

    Raises:
        DataError: If the file has no mask of that shape and type, or if the mask leaves a sample
            without a modality or shows a modality that is absent from the data.
    """
    import torch

    where = f"missing.manifest={path}, {split!r}"
    mask = masks.get(split)
    if mask is None or mask.shape != present.shape or mask.dtype != torch.bool:
        actual = "none" if mask is None else f"{tuple(mask.shape)} of {mask.dtype}"
        raise DataError(
            f"{where}: needs a mask {tuple(present.shape)} of torch.bool, found {actual}"
        )
    for is_wrong, problem in (
        (~mask.any(dim=1), "is left without a modality"),
        ((mask & ~present).any(dim=1), "has a modality by the mask that is absent from the data"),
    ):
        if is_wrong.any():
            raise DataError(f"{where}: sample {int(is_wrong.nonzero()[0])} {problem}")
    return mask
