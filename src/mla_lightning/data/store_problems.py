"""Problems of a prepared store: repeated ids, wrong labels, values that are not finite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from mla_lightning.data.mapped import open_array, row_ranges
from mla_lightning.data.splits import TEST, TRAIN, UNUSED, VAL
from mla_lightning.data.targets import TARGETS, has_labels
from mla_lightning.run_folder.tasks import CLASSIFICATION

#: Types that are allowed for arrays of modalities.
DTYPES = ("uint8", "float16", "float32", "int64")


def find_problems(
    folder: Path,
    class_names: Sequence[str],
    modalities: Sequence[str],
    splits: Sequence[str],
    task: str = CLASSIFICATION,
) -> Iterator[str]:
    """Check the arrays of a store.

    Args:
        folder: The store's folder.
        class_names: The classes or labels, in the order of the labels.
        modalities: Names of the modalities.
        splits: Names of the named splits.
        task: The task.

    Yields:
        A clause per problem.
    """
    ids, label = open_array(folder / "id.npy").tolist(), open_array(folder / "label.npy")
    is_labelled = has_labels(task, class_names)  # one without is for predictions alone
    if ids != sorted(set(ids)):
        in_order = sorted(ids)
        repeated = next((a for a, b in pairwise(in_order) if a == b), "")
        yield f"the id {repeated!r} occurs twice" if repeated else "the ids are not sorted"
    if len(label) != len(ids):
        yield f"there are {len(ids)} ids and {len(label)} labels"
    yield from TARGETS[task].problems(label, class_names)
    for modality in modalities:
        yield from _array_problems(folder / f"{modality}.npy", len(ids))
    for path in sorted((*folder.glob("*.present.npy"), *folder.glob("attribute.*.npy"))):
        values = open_array(path)
        if len(values) != len(ids):
            yield f"{path.name} has {len(values)} rows for {len(ids)} samples"
        if path.name.endswith(".present.npy") and values.dtype != bool:
            yield f"{path.name} must be of bool, got {values.dtype}"
    for name in splits:
        codes = open_array(folder / f"split.{name}.npy")
        if len(codes) != len(ids) or not np.isin(codes, (TRAIN, VAL, TEST, UNUSED)).all():
            yield f"the split {name!r} does not fit: {len(codes)} codes for {len(ids)} samples"
        if not is_labelled:
            continue
        for split, code in (("train", TRAIN), ("validation", VAL), ("test", TEST)):
            if not (codes == code).any():
                yield f"the split {name!r} has no {split} sample"


def _array_problems(path: Path, num_samples: int) -> Iterator[str]:
    values = open_array(path)
    if str(values.dtype) not in DTYPES:
        yield f"{path.name} is of {values.dtype}, allowed are {', '.join(DTYPES)}"
    if len(values) != num_samples:
        yield f"{path.name} has {len(values)} rows for {num_samples} samples"
    if values.dtype.kind != "f":
        return
    for rows in row_ranges(values.shape, values.itemsize):
        block = open_array(path)[rows]  # mapped anew, as mapped pages that were read count as used
        finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
        if not finite.all():
            yield f"{path.name}, row {rows.start + int(np.argmin(finite))}: a value is not finite"
            return
