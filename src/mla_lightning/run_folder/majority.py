"""The accuracy of the most frequent class, without which that of imbalanced classes misleads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

#: Fraction of the training samples from which a class can be a majority that matters, ...
SMALLEST_SHARE = 1 / 3
#: ... and by how much it has to exceed that of equally frequent classes.
EXCESS = 0.10


class Majority(NamedTuple):
    """The most frequent class of train, where the classes are imbalanced.

    Attributes:
        name: Its name.
        accuracy: Split -> fraction of the samples that have the class, which is the accuracy of
            predicting it always. Splits without labels have no entry.

    Example:
        >>> majority = Majority("no", {"val": 0.9, "test": 0.95})
        >>> majority.note("test")
        "95.0 % of the test samples have the most frequent class, 'no': compare accuracies with
         that, or use macro F1"
    """

    name: str
    accuracy: dict[str, float]

    def note(self, split: str) -> str:
        """Return a sentence for readers of a split's accuracies; empty if it has no labels.

        Args:
            split: ``val`` or ``test``.
        """
        accuracy = self.accuracy.get(split)
        if accuracy is None:
            return ""
        samples = {"val": "validation samples"}.get(split, f"{split} samples")
        return (
            f"{100 * accuracy:.1f} % of the {samples} have the most frequent class, "
            f"{self.name!r}: compare accuracies with that, or use macro F1"
        )

    @property
    def val_text(self) -> str:
        """The accuracy on validation as lines on one run show it, empty without labels."""
        accuracy = self.accuracy.get("val")
        return "" if accuracy is None else f"most frequent class {accuracy:.3f}"


def find_majority(data: Mapping[str, Any]) -> Majority | None:
    """Return the most frequent class of train if the classes are imbalanced.

    Imbalanced: at least :data:`SMALLEST_SHARE` of the training samples have the class, and at least
    :data:`EXCESS` more than if all classes were equally frequent.

    Args:
        data: What a run recorded of its data, with ``class_counts``: split -> class -> number of
            samples.

    Returns:
        The class, the first of equally frequent ones, as ``method=majority`` predicts it. None if
        the classes are balanced, or no counts of one class per sample are recorded.

    Example:
        >>> train, test = {"no": 190, "yes": 10}, {"no": 96, "yes": 4}
        >>> find_majority({"class_counts": {"train": train, "test": test}, "num_test": 100})
        Majority(name='no', accuracy={'test': 0.96})
        >>> find_majority({"class_counts": {"train": {"no": 55, "yes": 45}}}) is None
        True
    """
    by_split = data.get("class_counts") or {}
    train = by_split.get("train")
    if not train or data.get("task", "classification") != "classification":
        return None
    occurring = {name: num for name, num in train.items() if num}
    name = max(occurring, key=lambda key: occurring[key], default="")
    share = occurring.get(name, 0) / max(1, sum(occurring.values()))
    if len(occurring) < 2 or share < max(SMALLEST_SHARE, 1 / len(occurring) + EXCESS):
        return None
    accuracy = {
        split: counts.get(name, 0) / sum(counts.values())
        for split, counts in by_split.items()
        if split != "train" and sum(counts.values()) == data.get(f"num_{split}")
    }
    return Majority(str(name), accuracy)
