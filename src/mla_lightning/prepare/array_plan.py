"""The plan of an import of arrays: what was understood of each array, and what may mislead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mla_lightning.data.splits import SPLITS
from mla_lightning.prepare.array_rows import ImportedArray
from mla_lightning.prepare.import_plan import label_warnings, listed_counts, sorted_classes

#: Kind of an array -> what training reads.
USES = {
    "features": "a feature vector, each column standardised",
    "sequence": "a sequence of feature vectors, each column standardised",
    "spectrogram": "a spectrogram",
    "tokens": "token ids",
    "image": "pixels",
    "frames": "frames",
    "": "not decided",
}


def array_plan(
    where: str,
    samples: Mapping[str, np.ndarray],
    modalities: Mapping[str, ImportedArray],
    labels: Sequence[str] | None,
    num_bad: int,
) -> list[str]:
    """Return a line per array, then warnings.

    Args:
        where: The file or folder.
        samples: The arrays that describe the samples; ``split`` as codes.
        modalities: The arrays of modalities, after their check.
        labels: (N,) class of each sample; None if there are none, or they are no classes.
        num_bad: Number of rows that cannot be used.

    Returns:
        The lines.
    """
    num = len(next(iter(modalities.values())).is_missing)
    entries = [(name, name, _sample_text(name, values, labels)) for name, values in samples.items()]
    entries += [(name, a.kind or "unclear", _text(a)) for name, a in modalities.items()]
    width = max(len(name) for name, _, _ in entries)
    kinds = max(len(kind) for _, kind, _ in entries)
    lines = [f"{where}: {num} rows, {len(entries)} arrays"]
    lines += [f"  {name:<{width}}  {kind:<{kinds}}  {text}" for name, kind, text in entries]
    if "id" not in samples:
        lines.append("  (no array id: the ids are the numbers of the rows)")
    warnings = [w for a in modalities.values() for w in a.facts.warnings(labels)]
    if labels is not None:
        warnings += label_warnings([label for label in labels if label])
    if num_bad:
        warnings.append(f"{num_bad} of {num} rows cannot be used")
    return [*lines, *(f"warning: {warning}" for warning in warnings)]


def label_texts(samples: Mapping[str, np.ndarray], unlabelled: Collection[int]) -> list[str] | None:
    """Return the class of each row, empty where it has none; None without classes.

    Args:
        samples: The arrays that describe the samples.
        unlabelled: Rows without a class.

    Example:
        >>> names = np.array(["cat", "dog"])
        >>> label_texts({"label": np.array([0, 1, 0]), "class_names": names}, {2})
        ['cat', 'dog', '']
        >>> label_texts({"label": np.array([0.5, 1.5])}, ()) is None
        True
    """
    label, names = samples.get("label"), samples.get("class_names")
    if label is None or label.ndim != 1 or label.dtype.kind not in "iuU":
        return None
    texts = [str(value).strip() for value in label.tolist()]
    if names is not None and label.dtype.kind in "iu":
        texts = [
            str(names[value]) if 0 <= value < len(names) else text
            for value, text in zip(label.tolist(), texts, strict=True)
        ]
    for row in unlabelled:
        texts[row] = ""
    return texts


def _sample_text(name: str, values: np.ndarray, labels: Sequence[str] | None) -> str:
    if name == "label":
        if labels is None:
            return f"{values.dtype} of shape {values.shape}"
        counts = Counter(label for label in labels if label)
        return f"{len(counts)} classes: {listed_counts(sorted_classes(counts), counts)}"
    if name == "split":
        counts = Counter(("unused", *SPLITS)[code + 1] for code in values.tolist())
        return listed_counts([split for split in (*SPLITS, "unused") if counts[split]], counts)
    if name == "group":
        counts = Counter(map(str, values.tolist()))
        return f"{len(counts)} groups: {listed_counts(sorted(counts), counts)}"
    if name == "class_names":
        return f"{len(values)} names"
    return f"{len(values)} names of the samples"


def _text(modality: ImportedArray) -> str:
    array, facts = modality.array, modality.facts
    parts = [f"{array.dtype} {array.shape}"]
    if num := int(modality.is_missing.sum()):
        parts.append(f"missing for {num} of {len(modality.is_missing)} samples")
    if modality.kind == "sequence":
        steps = modality.num_steps[~modality.is_missing]
        extent = f"{steps.min()} to {steps.max()} steps of {array.shape[2]} values"
        parts.append(f"sequences of {extent}")
    parts.append(facts.extent())
    return f"{', '.join(parts)}: {modality.reason} -> {USES[modality.kind]}"
